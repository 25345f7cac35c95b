"""The smallest client in JavaScript, against a scripted server and the events it must survive."""

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.streaming.scripted import SCRIPT, ScriptedServer

DEMO = Path(__file__).parents[2] / "demos" / "listen.mjs"
NODE = shutil.which("node")


def _command() -> list[str] | None:
    """Node with a WebSocket: 22 has one, 20.10 behind a flag."""
    for flags in ([], ["--experimental-websocket"]):
        if NODE is not None:
            asked = [NODE, *flags, "-e", "process.exit(typeof WebSocket === 'function' ? 0 : 1)"]
            if subprocess.run(asked, capture_output=True).returncode == 0:
                return [NODE, *flags, str(DEMO)]
    return None


COMMAND = _command()
pytestmark = pytest.mark.skipif(
    COMMAND is None,
    reason="no node with a WebSocket is installed: the JavaScript demo goes untested",
)


def run(server: ScriptedServer, samples: bytes) -> tuple[int | None, str, str]:
    async def converse() -> tuple[int | None, str, str]:
        assert COMMAND is not None
        async with server.running():
            demo = await asyncio.create_subprocess_exec(
                *(*COMMAND, server.url),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            out, err = await demo.communicate(samples)
            return demo.returncode, out.decode(), err.decode()

    return asyncio.run(converse())


def test_every_utterance_is_printed_with_its_start() -> None:
    server = ScriptedServer()
    # 45 s: more than it may run ahead of what is decoded.
    code, out, _ = run(server, bytes(2 * 16_000 * 45))
    assert (code, out.splitlines()) == (0, [f"{said.start:7.2f}  {said.text}" for said in SCRIPT])
    assert [message["type"] for message in server.messages] == ["finish"]


def test_a_refusal_is_one_line_and_an_exit_code() -> None:
    code, out, err = run(ScriptedServer(refuse=("model", 4404)), bytes(3200))
    assert (code, out) == (1, "") and "no: model" in err


def test_a_server_that_is_not_there_is_one_line() -> None:
    assert COMMAND is not None
    done = subprocess.run([*COMMAND, "ws://127.0.0.1:9"], input=b"", capture_output=True)
    assert done.returncode == 1 and done.stdout == b""
    (line,) = [line for line in done.stderr.decode().splitlines() if "xperimental" not in line]
    assert line.startswith("no server at")


def test_it_is_small() -> None:
    assert len(DEMO.read_text().splitlines()) < 60
