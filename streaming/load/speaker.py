"""One client that says a recording again and again, and notes when each word came back."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

__all__ = ["SAMPLE_RATE", "Refused", "Said", "speak"]

SAMPLE_RATE = 16_000
FRAME_S = 0.04
FAST_FRAME_S = 1.0  # of those who do not wait, unless they say otherwise


class Refused(Exception):
    """The server took no stream.

    Args:
        why: HTTP status or error code.
        retry_after_s: When to come again; None where it did not say.
    """

    def __init__(self, why: str, retry_after_s: float | None) -> None:
        super().__init__(why)
        self.retry_after_s = retry_after_s


@dataclass(slots=True)
class Said:
    """What came of one stream.

    Attributes:
        audio_s: Seconds that were sent.
        words: Of all finals.
        delays_s: Of each word, from its end in the audio, had it been said into a microphone at the
            moment the stream began, to its first appearance on the client.
        lags_s: The server's own figures of audio that waits.
        steps_ms: And of the time a step takes, as they came.
        sent_s: Seconds that were sent so far.
    """

    audio_s: float = 0.0
    words: int = 0
    delays_s: list[float] = field(default_factory=list)
    lags_s: list[float] = field(default_factory=list)
    steps_ms: list[float] = field(default_factory=list)
    sent_s: float = 0.0
    keep_delays: bool = True


async def speak(
    url: str,
    audio: bytes,
    seconds: float,
    *,
    paced: bool = True,
    frame_s: float | None = None,
    said: Said | None = None,
) -> Said:
    """Say ``audio`` (16 kHz, linear16), over and over, for so many seconds of it.

    Args:
        url: Of the server, without a path.
        audio: At least a frame.
        seconds: Of audio to send.
        paced: In real time; else as fast as the server takes it.
        frame_s: Of audio in a message; 0.04 where paced, else 1.
        said: Filled while it goes on; a new one by default.

    Raises:
        Refused: there was no stream to be had.
    """
    said = said or Said()
    said.audio_s, said.keep_delays = seconds, paced
    try:
        # A server that is behind answers a ping after the audio before it: no reason to leave.
        options: dict[str, Any] = {} if paced else {"ping_interval": None}
        async with connect(
            f"{url}/v1/stream", compression=None, max_size=None, **options
        ) as socket:
            await socket.send(_start())
            first = json.loads(await socket.recv())
            if first["type"] == "error":
                raise Refused(first["code"], first.get("retry_after_s"))
            began = time.monotonic()
            hearing = asyncio.create_task(_hear(socket, said, began))
            frame_s = frame_s or (FRAME_S if paced else FAST_FRAME_S)
            await _send(socket, audio, said, frame_s, began if paced else None)
            await socket.send('{"type":"finish"}')
            await hearing
    except InvalidStatus as error:
        after = error.response.headers.get("Retry-After")
        why = f"HTTP {error.response.status_code}"
        raise Refused(why, float(after) if after else None) from None
    return said


async def _send(
    socket: ClientConnection, audio: bytes, said: Said, frame_s: float, began: float | None
) -> None:
    """Frames of audio; each at the moment its last sample would have been said."""
    step = round(SAMPLE_RATE * frame_s) * 2
    total = round(said.audio_s * SAMPLE_RATE) * 2
    looped = audio + audio[:step]
    for at in range(0, total, step):
        if began is not None:
            due = began + (at + step) / 2 / SAMPLE_RATE
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        first = at % len(audio)
        await socket.send(looped[first : first + min(step, total - at)])
        said.sent_s = min(at + step, total) / 2 / SAMPLE_RATE


async def _hear(socket: ClientConnection, said: Said, began: float) -> None:
    seen: list[float] = []  # when the first, second, … word of the utterance appeared
    async for message in socket:
        event: dict[str, Any] = json.loads(message)
        if event["type"] in ("partial", "final"):
            words = event.get("words", ())
            seen += [time.monotonic() - began] * (len(words) - len(seen))
            if event["type"] == "final":
                said.words += len(words)
                if said.keep_delays:
                    pairs = zip(words, seen, strict=False)
                    said.delays_s += [came - word["end"] for word, came in pairs]
                seen = []
        elif event["type"] == "metrics":
            said.steps_ms.append(float(event["step_ms_p50"]))
            if said.keep_delays:
                said.lags_s.append(float(event["lag_s"]))


def _start() -> str:
    audio = {"encoding": "linear16", "sample_rate": SAMPLE_RATE}
    return json.dumps({"type": "start", "audio": audio, "results": {"interim_ms": 0}})
