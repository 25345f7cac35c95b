"""Clients of vosk-server: frame for frame what the published ones send, and one of them itself."""

import asyncio
import io
import json
import os
import re
import subprocess
import sys
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr  # type: ignore[import-untyped]
import websockets

from tests.end_to_end.serving import START_WITHIN_S, Server
from tests.end_to_end.speaking import SPOKEN, WORDS, pcm

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    running = Server("engine.slots=6")
    yield running
    assert running.stop() == 0


def telephone() -> bytes:
    """The recording at 8000 Hz."""
    samples, rate = soundfile.read(SPOKEN, dtype="float32")
    low = soxr.resample(samples, rate, 8000)
    return np.asarray(np.clip(low, -1, 1) * 32_767, "<i2").tobytes()


def telephone_wav() -> bytes:
    """The same with the header of a WAV file in front."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, 8000, 0, "NONE", "not compressed"))
        out.writeframes(telephone())
    return file.getvalue()


@dataclass(frozen=True)
class Client:
    """What a published client sends.

    Attributes:
        config: Its first text, or None where it sends none.
        audio: Makes all of its audio.
        chunk: Bytes of one message.
        eof: Its last message.
        waits: For the reply to each message before it sends the next.
    """

    config: str | None
    audio: Callable[[], bytes]
    chunk: int
    eof: str | bytes = '{"eof" : 1}'
    waits: bool = True


CLIENTS = {
    "test.py": Client('{ "config" : { "sample_rate" : 16000 } }', pcm, 6400),
    "test_words.py": Client('{ "config" : { "words" : true, "sample_rate" : 16000 } }', pcm, 6400),
    "test_alternatives.py": Client(
        '{"config" : { "max_alternatives" : 20, "sample_rate" : 16000 } }', pcm, 6400
    ),
    "test_ffmpeg.py": Client('{ "config" : { "sample_rate" : 16000 } }', pcm, 8000),
    "vosk-transcriber": Client('{ "config" : { "sample_rate" : 16000.000000 } }', pcm, 4000),
    "test.js, which waits for nothing": Client(None, telephone_wav, 65_536, waits=False),
    "a telephone exchange": Client(None, telephone, 320),
    "BigBlueButton": Client('{"config": {"sample_rate": 16000}}', pcm, 6400, '{"eof" : 1 }'),
    "an eof in a binary frame": Client(
        '{"config": {"sample_rate": 16000}}', pcm, 6400, b'{"eof" : 1}'
    ),
    "an odd number of bytes": Client('{"config": {"sample_rate": 16000}}', pcm, 3333),
}


async def speak(url: str, client: Client) -> list[dict[str, Any]]:
    """Every reply, up to the server's close."""
    audio, replies = client.audio(), []
    async with asyncio.timeout(START_WITHIN_S), websockets.connect(url) as socket:
        if client.config is not None:
            await socket.send(client.config)
        for at in range(0, len(audio), client.chunk):
            await socket.send(audio[at : at + client.chunk])
            if client.waits:
                replies.append(json.loads(await socket.recv()))
        await socket.send(client.eof)
        async for reply in socket:
            replies.append(json.loads(reply))
        assert socket.close_code == 1000
    return replies


def said(reply: dict[str, Any]) -> str:
    """The final text of a reply."""
    best = reply["alternatives"][0] if "alternatives" in reply else reply
    return str(best.get("text", ""))


@pytest.mark.parametrize("name", CLIENTS)
def test_a_published_client_gets_one_reply_a_message_and_all_words(
    server: Server, name: str
) -> None:
    client = CLIENTS[name]
    replies = asyncio.run(speak(f"{server.socket_url}/", client))
    assert len(replies) == len(range(0, len(client.audio()), client.chunk)) + 1
    assert " ".join(filter(None, map(said, replies))) == WORDS
    for reply in replies[:-1]:
        assert ("partial" in reply) != ("text" in reply or "alternatives" in reply)
    assert "partial" not in replies[-1]


def test_words_and_their_times_come_where_they_are_wanted(server: Server) -> None:
    url = f"{server.socket_url}/"
    with_words = asyncio.run(speak(url, CLIENTS["test_words.py"]))
    words = [word for reply in with_words for word in reply.get("result", [])]
    assert [word["word"] for word in words] == WORDS.split()
    times = [time for word in words for time in (word["start"], word["end"])]
    assert times == sorted(times) and times[0] > 0.0 and times[-1] < 3.0
    without = Client('{"config": {"sample_rate": 16000, "words": 0}}', pcm, 6400)
    assert not any("result" in reply for reply in asyncio.run(speak(url, without)))


def test_several_clients_at_once_hear_each_their_own(server: Server) -> None:
    async def together() -> list[list[dict[str, Any]]]:
        url = f"{server.socket_url}/"
        return await asyncio.gather(*(speak(url, CLIENTS["test.py"]) for _ in range(5)))

    for replies in asyncio.run(together()):
        assert " ".join(filter(None, map(said, replies))) == WORDS


TRANSCRIBER = """
import sys
from vosk.transcriber import cli, transcriber
# Even with --server it loads a local model, which it then does not use.
transcriber.Model = lambda **_: None
[server] = [action for action in cli.parser._actions if action.dest == "server"]
server.const = sys.argv.pop(1)
cli.main()
"""
FFMPEG = """#!{python}
import sys, soundfile
assert sys.argv[sys.argv.index("-ar") + 1] == "16000.0"
samples, rate = soundfile.read(sys.argv[sys.argv.index("-i") + 1], dtype="int16")
assert rate == 16000
sys.stdout.buffer.write(samples.tobytes())
"""


@pytest.mark.parametrize(("kind", "mark"), [("txt", "five\n"), ("srt", "-->")])
def test_vosk_transcriber_itself_transcribes_a_file(
    server: Server, tmp_path: Path, kind: str, mark: str
) -> None:
    ffmpeg = tmp_path / "ffmpeg"
    ffmpeg.write_text(FFMPEG.format(python=sys.executable))
    ffmpeg.chmod(0o755)
    command = [sys.executable, "-c", TRANSCRIBER, f"{server.socket_url}/", "--server"]
    command += ["--input", str(SPOKEN), "--output-type", kind]
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert mark in done.stdout, done.stderr
    assert re.findall("[a-z]+", done.stdout) == ["zero", "one", "five"]
