"""The measurements of a server, on a small scale: they measure what they say."""

import asyncio
import json
from dataclasses import replace

import pytest

from audiomamba.errors import Error
from audiomamba.streaming.load import CASES, Load, ServerProcess
from audiomamba.streaming.load.cases import _slope
from audiomamba.streaming.load.speaker import SAMPLE_RATE, Refused, speak
from tests.cli.test_main import audiomamba
from tests.end_to_end.speaking import SPOKEN, WORDS, pcm

pytestmark = pytest.mark.slow


def load(streams: int, seconds: float) -> Load:
    return Load(audio=pcm(), streams=streams, seconds=seconds, stated_delay_s=0.0)


def test_words_in_real_time_are_timed_and_their_cost_is_the_server_s() -> None:
    with ServerProcess("engine.slots=2") as server:
        report = asyncio.run(CASES["live"](server, load(2, 3.0)))
    assert report["words"] == 2 * len(WORDS.split())
    assert report["took_s"] >= 3.0
    assert report["cpu_s_per_audio_s"] > 0.0 and report["resident_mb"] > 30
    assert report["word_delay_p50_s"] <= report["word_delay_p95_s"]


def test_the_server_is_small_with_45_streams_and_smaller_after_them() -> None:
    with ServerProcess("engine.slots=64") as server:
        start = asyncio.run(CASES["start"](server, load(1, 0.5)))
        live = asyncio.run(CASES["live"](server, load(45, 2.0)))
    assert start["resident_mb"] <= start["starting_mb"] <= 150
    # A stream that speaks takes 1 MB for the network and 1.5 MB for its hypotheses' texts.
    assert live["resident_after_mb"] + 40 < live["resident_mb"] <= 210
    assert live["words"] == 0 or live["words"] % 45 == 0


def test_twice_the_slots_are_half_refused_with_a_time() -> None:
    with ServerProcess("engine.slots=2") as server:
        report = asyncio.run(CASES["overload"](server, load(2, 3.0)))
    assert (report["offered"], report["admitted"], report["refused"]) == (4, 2, 2)
    assert report["refused_with_retry_time"] == 2
    assert report["admitted_words"] == 2 * len(WORDS.split())


def test_short_and_long_sessions_leave_no_slot_taken() -> None:
    with ServerProcess("engine.slots=9") as server:
        short = asyncio.run(CASES["short"](server, load(40, 0.5)))
        long = asyncio.run(CASES["long"](server, replace(load(1, 60.0), frame_s=0.5)))
        said = asyncio.run(speak(server.url, pcm(), 6.0, paced=False))
    assert short["sessions"] == 40 and short["slots_in_use_after"] == 0
    assert long["audio_s"] == 60.0 and long["slots_in_use_after"] == 0
    assert long["cpu_s_per_audio_s"] > 0
    # On a fast machine the minute is over before the server has said how long a step takes.
    tenths = [value for name, value in long.items() if name.endswith("_tenth")]
    assert len(tenths) == 4 and all(value is None or value >= 0 for value in tenths)
    assert said.words == 2 * len(WORDS.split()) and said.delays_s == []


def test_a_refusal_says_when_to_come_again() -> None:
    async def run(url: str) -> Refused:
        first = asyncio.create_task(speak(url, pcm(), 3.0))
        await asyncio.sleep(1.0)
        with pytest.raises(Refused) as refused:
            await speak(url, pcm(), 1.0)
        await first
        return refused.value

    with ServerProcess("engine.slots=1") as server:
        refused = asyncio.run(run(server.url))
    assert str(refused) == "HTTP 503" and refused.retry_after_s == 2.0


def test_a_server_that_does_not_start_is_an_error() -> None:
    with pytest.raises(Error, match="did not start"):
        ServerProcess("engine.slots=0")


def test_the_slope_is_that_of_the_second_half() -> None:
    samples = [(i, 1_000_000 * i) for i in range(10)] + [
        (i, 9_000_000 + 5 * i) for i in range(10, 20)
    ]
    assert _slope(samples) == 5.0
    assert _slope([(1, 1)]) == 0.0
    assert SAMPLE_RATE == 16_000


def test_the_command_prints_a_line_and_refuses_what_it_cannot_do() -> None:
    options = ("--case", "start", "--streams", "1", "--seconds", "1", "--audio", SPOKEN)
    done = audiomamba("bench", "serving", *options, "--server", "engine.slots=1")
    line = json.loads(done.stdout)
    assert done.returncode == 0 and line["what"] == "serving start"
    assert line["ready_s"] > 0 and line["resident_mb"] > 30 and line["date"]
    assert audiomamba("bench", "serving").returncode == 2
