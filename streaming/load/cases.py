"""What is measured of a server: its start, its capacity, and what it does beyond and for long."""

import asyncio
import json
import statistics
import time
import urllib.request
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from audiomamba.streaming.load.process import ServerProcess
from audiomamba.streaming.load.speaker import Refused, Said, speak

__all__ = ["CASES", "Load", "Report"]

Report = dict[str, Any]
SHORT_S = 0.5
TOGETHER = 8  # short sessions at once
SAMPLES = 40  # of resident memory along a run
SPREAD_S = 0.16  # streams begin within one step of the engine, as those of strangers do


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much is asked of the server.

    Attributes:
        audio: Linear16 at 16 kHz.
        streams: At once.
        seconds: Of audio in each.
        stated_delay_s: That the model has by design; taken off the words' delays.
        frame_s: Of audio in a message, of the long session; None: 1.
    """

    audio: bytes
    streams: int
    seconds: float
    stated_delay_s: float
    frame_s: float | None = None


@dataclass(frozen=True, slots=True)
class _Moment:
    """Of a long session: seconds sent, memory in bytes, processor seconds."""

    sent_s: float
    resident: int
    cpu_s: float


async def start(server: ServerProcess, load: Load) -> Report:
    """Time to ready, and memory before and after every stream has spoken."""
    before, peak = server.resident_bytes, server.peak_bytes
    await _together(server, load)
    return {
        "ready_s": round(server.ready_s, 2),
        "ready_cpu_s": round(server.ready_cpu_s, 2),
        "resident_mb": _mb(before),
        "starting_mb": _mb(peak),
        "resident_after_mb": _mb(server.resident_bytes),
    }


async def live(server: ServerProcess, load: Load) -> Report:
    """Streams in real time: what they cost, and how late their words are."""
    cpu, began = server.cpu_s, time.monotonic()
    speaking = asyncio.create_task(_together(server, load))
    resident = [server.resident_bytes]
    while not speaking.done():
        await asyncio.wait((speaking,), timeout=0.5)
        resident.append(server.resident_bytes)
    outcomes = await speaking
    spoken = [one for one in outcomes if isinstance(one, Said)]
    audio_s = sum(one.audio_s for one in spoken)
    cost = (server.cpu_s - cpu) / audio_s
    return {
        "took_s": round(time.monotonic() - began, 1),
        "cpu_s_per_audio_s": round(cost, 5),
        "streams_per_core": round(1 / cost, 1),
        "resident_mb": _mb(max(resident)),
        "resident_after_mb": _mb(server.resident_bytes),
        **_delays(spoken, load.stated_delay_s),
    }


async def overload(server: ServerProcess, load: Load) -> Report:
    """Twice the streams there are slots for: who gets in keeps pace, the others are told when."""
    outcomes = await _together(server, load, times=2)
    spoken = [one for one in outcomes if isinstance(one, Said)]
    refused = [one for one in outcomes if isinstance(one, Refused)]
    lags = [lag for one in spoken for lag in one.lags_s]
    return {
        "offered": 2 * load.streams,
        "admitted": len(spoken),
        "refused": len(refused),
        "refused_with_retry_time": sum(one.retry_after_s is not None for one in refused),
        "lag_p95_s": _p95(lags),
        "admitted_words": sum(one.words for one in spoken),
        **_delays(spoken, load.stated_delay_s),
    }


async def short(server: ServerProcess, load: Load) -> Report:
    """Many short sessions after another: memory does not grow, no slot is lost."""
    sessions, done = load.streams, 0
    resident: list[tuple[int, int]] = []

    async def worker() -> None:
        nonlocal done
        while done < sessions:
            done += 1
            if done % max(1, sessions // SAMPLES) == 0:
                resident.append((done, server.resident_bytes))
            await speak(server.url, load.audio, SHORT_S, paced=False)

    began = time.monotonic()
    await asyncio.gather(*(worker() for _ in range(TOGETHER)))
    return {
        "sessions": sessions,
        "sessions_per_s": round(sessions / (time.monotonic() - began), 1),
        "resident_mb": _mb(server.resident_bytes),
        "slope_bytes_per_session": _slope(resident),
        "slots_in_use_after": await _slots_in_use(server),
    }


async def long(server: ServerProcess, load: Load) -> Report:
    """One session of many hours, as fast as it is taken: memory and cost do not grow."""
    began, said = time.monotonic(), Said()
    speaking = asyncio.create_task(
        speak(server.url, load.audio, load.seconds, paced=False, frame_s=load.frame_s, said=said)
    )
    seen = [_Moment(0.0, server.resident_bytes, server.cpu_s)]
    while not speaking.done():
        await asyncio.wait((speaking,), timeout=1.0)
        seen.append(_Moment(said.sent_s, server.resident_bytes, server.cpu_s))
    await speaking
    first = next(one for one in seen if one.sent_s >= load.seconds / 10)
    last = next(one for one in reversed(seen) if one.sent_s <= load.seconds * 0.9)
    tenth = max(1, len(said.steps_ms) // 10)
    return {
        "audio_s": said.audio_s,
        "took_s": round(time.monotonic() - began, 1),
        "words": said.words,
        "resident_first_tenth_mb": _mb(first.resident),
        "resident_mb": _mb(seen[-1].resident),
        "slope_bytes_per_hour": round(3600 * _slope([(one.sent_s, one.resident) for one in seen])),
        "cpu_s_per_audio_s": _cost(seen[0], seen[-1]),
        "cpu_first_tenth": _cost(seen[0], first),
        "cpu_last_tenth": _cost(last, seen[-1]),
        "step_ms_first_tenth": _median(said.steps_ms[:tenth]),
        "step_ms_last_tenth": _median(said.steps_ms[-tenth:]),
        "slots_in_use_after": await _slots_in_use(server),
    }


CASES: dict[str, Callable[[ServerProcess, Load], Coroutine[Any, Any, Report]]] = {
    "start": start,
    "live": live,
    "overload": overload,
    "short": short,
    "long": long,
}


async def _together(server: ServerProcess, load: Load, *, times: int = 1) -> list[Said | Refused]:
    """All streams at once, not quite in step."""
    count = load.streams * times

    async def one(number: int) -> Said | Refused:
        await asyncio.sleep(SPREAD_S * number / count)
        try:
            return await speak(server.url, load.audio, load.seconds)
        except Refused as refused:
            return refused

    return await asyncio.gather(*(one(number) for number in range(count)))


async def _slots_in_use(server: ServerProcess) -> int:
    """Once the last connection has had time to be cleared away."""
    for _ in range(100):
        streams = await asyncio.to_thread(_streams, server.readiness)
        if streams == 0:
            break
        await asyncio.sleep(0.1)
    return streams


def _streams(url: str) -> int:
    with urllib.request.urlopen(url, timeout=30) as response:
        return int(json.load(response)["streams"])


def _delays(spoken: list[Said], stated_s: float) -> Report:
    delays = sorted(delay - stated_s for one in spoken for delay in one.delays_s)
    if not delays:
        return {"words": 0}
    return {
        "words": len(delays),
        "word_delay_p50_s": round(statistics.median(delays), 3),
        "word_delay_p95_s": _p95(delays),
    }


def _p95(values: list[float]) -> float | None:
    return round(sorted(values)[int(0.95 * (len(values) - 1))], 3) if values else None


def _slope(samples: Sequence[tuple[float, int]]) -> float:
    """Bytes a session, or a second, of the second half, when pools are as large as they get."""
    later = samples[len(samples) // 2 :]
    at, resident = zip(*later, strict=True)
    if len(set(at)) < 2:
        return 0.0
    return round(statistics.linear_regression(at, resident).slope, 1)


def _cost(begin: _Moment, end: _Moment) -> float:
    """Processor seconds a second of audio."""
    return round((end.cpu_s - begin.cpu_s) / max(end.sent_s - begin.sent_s, 1e-9), 5)


def _median(values: list[float]) -> float | None:
    return round(statistics.median(values), 2) if values else None


def _mb(size: int) -> float:
    return round(size / 1e6, 1)
