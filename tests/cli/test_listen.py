import asyncio
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiomamba.cli.main import main
from tests.streaming.scripted import SCRIPT, ScriptedServer


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    path = tmp_path / "talk.wav"
    soundfile.write(path, np.zeros(int(6.5 * 16_000)), 16_000)
    return path


def listen(server: ScriptedServer, *arguments: str) -> int:
    """Run the command as its user does, in the main thread, with the server in another."""
    ready, done = threading.Event(), threading.Event()

    async def serve() -> None:
        async with server.running():
            ready.set()
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    ready.wait()
    try:
        return main(["listen", "--server", server.url, *arguments])
    finally:
        done.set()
        thread.join()


def test_captions_of_a_server_go_to_a_pipe(talk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert listen(ScriptedServer(), "--file", str(talk), "--pace", "0") == 0
    assert capfd.readouterr().out.splitlines() == [said.text for said in SCRIPT]


def test_a_token_is_passed_on(talk: Path) -> None:
    server = ScriptedServer()
    assert listen(server, "--file", str(talk), "--pace", "0", "--token", "s3cret") == 0
    assert server.headers[0]["Authorization"] == "Bearer s3cret"


def test_a_refusal_fails_with_one_line(talk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    server = ScriptedServer(refuse=("model", 4404))
    assert listen(server, "--file", str(talk), "--pace", "0") == 1
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1 and "no: model (4404)" in err


def test_a_file_that_is_not_there_fails_with_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["listen", "--file", "nothing.wav", "--url", "ws://127.0.0.1:9"]) == 1
    assert capfd.readouterr().err.count("\n") == 1


def test_an_interruption_ends_the_audio_and_the_last_words_still_come(talk: Path) -> None:
    async def run() -> tuple[int, list[str]]:
        server = ScriptedServer()
        async with server.running():
            command = ("listen", "--server", server.url, "--file", str(talk))
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "audiomamba.cli.main", *command),
                stdout=asyncio.subprocess.PIPE,
            )
            assert process.stdout
            first = await process.stdout.readline()
            while max(stream.received for stream in server.streams.values()) < 2.4 * 16_000:
                await asyncio.sleep(0.02)
            process.send_signal(signal.SIGINT)
            rest = await process.stdout.read()
            return await process.wait(), (first + rest).decode().splitlines()

    code, lines = asyncio.run(run())
    assert (code, lines[0]) == (0, SCRIPT[0].text)
    assert len(lines) == 2 and SCRIPT[1].text.startswith(lines[1])
