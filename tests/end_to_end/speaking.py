"""A client that says the recording to a server, for tests."""

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import websockets

from tests.end_to_end.serving import START_WITHIN_S

__all__ = ["SPOKEN", "START", "WORDS", "pcm", "say", "text", "transcribe", "until"]

SPOKEN = Path(__file__).parent.parent / "recordings" / "zero_one_five.flac"
WORDS = "zero one five"
START = {"type": "start", "audio": {"sample_rate": 16_000}}


def pcm(seconds: float = 3.0) -> bytes:
    samples, _ = soundfile.read(SPOKEN, dtype="int16")
    return np.asarray(samples[: int(seconds * 16_000)], "<i2").tobytes()


async def say(socket: Any, message: dict[str, Any]) -> None:
    await socket.send(json.dumps(message))


async def until(socket: Any, *kinds: str) -> list[dict[str, Any]]:
    """Events up to the first of ``kinds``, which is the last."""
    heard: list[dict[str, Any]] = []
    async with asyncio.timeout(START_WITHIN_S):
        while not heard or heard[-1]["type"] not in kinds:
            heard.append(json.loads(await socket.recv()))
    return heard


async def transcribe(
    url: str, chunk: int = 3200, start: dict[str, Any] | None = None, **connect: Any
) -> list[dict[str, Any]]:
    """All events of the recording said to ``url``, with fields for ``start`` and ``connect``."""
    audio = pcm()
    async with websockets.connect(f"{url}/v1/stream", **connect) as socket:
        await say(socket, {**START, **(start or {})})
        await until(socket, "ready")
        for at in range(0, len(audio), chunk):
            await socket.send(audio[at : at + chunk])
        await say(socket, {"type": "finish"})
        return await until(socket, "done")


def text(heard: list[dict[str, Any]]) -> str:
    return " ".join(event["text"] for event in heard if event["type"] == "final")
