import asyncio
import re
import sys
from pathlib import Path

import numpy as np
import soundfile

from tests.streaming.scripted import SCRIPT, ScriptedServer

DEMO = Path(__file__).parents[2] / "demos" / "stream_file.py"


def test_the_smallest_client_prints_every_utterance_with_its_start(tmp_path: Path) -> None:
    recording = tmp_path / "talk.wav"
    soundfile.write(recording, np.zeros((int(44_100 * 6.5), 2)), 44_100)
    server = ScriptedServer()

    async def run() -> str:
        async with server.running():
            demo = await asyncio.create_subprocess_exec(
                *(sys.executable, DEMO, recording, "--url", server.url, "--pace", "0"),
                stdout=asyncio.subprocess.PIPE,
            )
            out, _ = await demo.communicate()
            assert demo.returncode == 0
            return out.decode()

    lines = [re.sub(r"\x1b\[\w+|.*\r", "", line) for line in asyncio.run(run()).strip().split("\n")]
    assert lines == [f"{said.start:7.2f}  {said.text}" for said in SCRIPT]
    assert server.starts[0]["audio"] == {
        "encoding": "linear16",
        "sample_rate": 44_100,
        "channels": 2,
    }


def test_it_is_small() -> None:
    assert len(DEMO.read_text().splitlines()) < 60
