"""One stream through the engine: chunks, flushes, gaps, drops, and what goes wrong alone."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from audiomamba.audio import pcm
from audiomamba.errors import AudioError
from audiomamba.streaming.engine import Engine
from audiomamba.streaming.engine.session import SessionLimits
from audiomamba.streaming.protocol import AudioSettings, events
from audiomamba.text.ctc import DecoderConfig
from tests.streaming.energy import DELAY, FRAME_S, EnergyModel, Listener, bursts, linear16, spoken


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(EnergyModel())
    engine.start()
    yield engine
    engine.stop()


def finals(listener: Listener) -> list[events.Final]:
    return [event for event in listener.heard if isinstance(event, events.Final)]


def run(engine: Engine, pieces: list[bytes], audio: AudioSettings | None = None) -> Listener:
    listener = Listener(engine, audio)
    for piece in pieces:
        listener.feed(piece)
    listener.session.finish()
    listener.until(events.Drained)
    return listener


def cut(sent: bytes, size: int) -> list[bytes]:
    return [sent[i : i + size] for i in range(0, len(sent), size)]


def test_every_burst_becomes_a_word_with_its_time(engine: Engine) -> None:
    listener = run(engine, [linear16(bursts(5))])
    assert listener.text() == spoken(5)
    words = [word for final in finals(listener) for word in final.words]
    for i, word in enumerate(words):
        assert word.start == pytest.approx(0.24 + i * 0.48, abs=0.12)


@pytest.mark.parametrize("size", [1, 7, 160, 320, 4096, 160_000], ids=str)
def test_chunks_of_any_size_give_the_same_events(engine: Engine, size: int) -> None:
    sent = linear16(bursts(4)[: 160_000 if size > 1 else 24_000])
    whole = run(engine, [sent])
    pieces = run(engine, cut(sent, 2 * size))
    assert finals(pieces) == finals(whole)
    assert len(finals(whole)) > 0


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 44_100, 48_000])
def test_any_rate_gives_the_same_words(engine: Engine, rate: int) -> None:
    listener = run(engine, [linear16(bursts(3, rate=rate))], AudioSettings(sample_rate=rate))
    assert listener.text() == spoken(3)


@pytest.mark.parametrize("encoding", ["float32", "mulaw", "alaw"])
def test_any_encoding_gives_the_same_words(engine: Engine, encoding: Any) -> None:
    listener = run(engine, [pcm.encode(bursts(3), encoding)], AudioSettings(encoding=encoding))
    assert listener.text() == spoken(3)


def test_channels_are_mixed_or_the_first_is_taken(engine: Engine) -> None:
    silent = np.zeros_like(bursts(3))
    for mode, left, right in [("mix", silent, 2 * bursts(3)), ("first", bursts(3), silent)]:
        both = np.stack([left, right], 1)
        audio = AudioSettings(channels=2, channel_mode=mode)  # type: ignore[arg-type]
        assert run(engine, [linear16(both)], audio).text() == spoken(3)


def test_stable_text_only_grows_and_the_final_begins_with_it(engine: Engine) -> None:
    listener = run(engine, cut(linear16(bursts(6)), 1600))
    stable: dict[int, str] = {}
    for event in listener.heard:
        if isinstance(event, events.Partial):
            assert event.stable.startswith(stable.get(event.utterance, ""))
            stable[event.utterance] = event.stable
        if isinstance(event, events.Final):
            assert event.text.startswith(stable.get(event.utterance, "").strip())


def test_a_flush_makes_the_last_word_final_and_disturbs_nothing_after_it(engine: Engine) -> None:
    sent = linear16(bursts(6))
    middle = len(sent) // 2  # right after the third burst, whose word is still to come
    listener = Listener(engine)
    listener.feed(sent[:middle])
    listener.session.flush("half")
    listener.until(events.Flushed)
    assert listener.text() == spoken(3)
    [flushed] = [event for event in listener.heard if isinstance(event, events.Flushed)]
    assert flushed.id == "half"
    assert flushed.audio_s == pytest.approx(3 * 0.48)
    listener.feed(sent[middle:])
    listener.session.finish()
    listener.until(events.Drained)
    assert listener.text() == spoken(6)
    whole = [word.start for final in finals(run(engine, [sent])) for word in final.words]
    assert [word.start for final in finals(listener) for word in final.words] == whole


def test_a_flush_is_answered_also_when_there_is_nothing_to_say(engine: Engine) -> None:
    listener = Listener(engine)
    listener.session.flush()
    listener.until(events.Flushed)
    assert finals(listener) == []


def test_a_gap_moves_time_on_and_costs_a_few_seconds_of_silence_at_most(engine: Engine) -> None:
    listener = Listener(engine)
    listener.feed(linear16(bursts(2)))
    listener.session.gap(3600 * 16_000)
    listener.feed(linear16(bursts(1)))
    listener.session.finish()
    listener.until(events.Drained)
    assert listener.text() == spoken(3)
    assert finals(listener)[-1].start == pytest.approx(3600 + 3 * 0.48 - 0.24, abs=0.15)
    blocks = len(engine.model.batches)  # type: ignore[attr-defined]
    assert blocks * 0.16 < 15


def test_a_short_gap_is_the_same_as_silence(engine: Engine) -> None:
    one, two = linear16(bursts(2)), linear16(bursts(2))
    listener = Listener(engine)
    listener.feed(one)
    listener.session.gap(16_000)
    listener.feed(two)
    listener.session.finish()
    listener.until(events.Drained)
    assert finals(listener) == finals(run(engine, [one + bytes(32_000) + two]))


def test_an_utterance_ends_at_a_pause_and_not_without_endpointing(engine: Engine) -> None:
    sent = linear16(bursts(2, pause_s=1.2))
    assert [final.reason for final in finals(run(engine, [sent]))] == ["endpoint", "finish"]
    listener = Listener(engine)
    listener.session.configure(
        DecoderConfig(frame_s=FRAME_S, emission_delay_s=DELAY * FRAME_S, endpointing=False)
    )
    listener.feed(sent)
    listener.session.finish()
    listener.until(events.Drained)
    assert [final.text for final in finals(listener)] == [spoken(2)]


def test_silence_says_nothing(engine: Engine) -> None:
    listener = run(engine, [bytes(2 * 16_000 * 5)])
    assert {type(event) for event in listener.heard} <= {events.Progress, events.Drained,
                                                         events.Warned}  # fmt: skip


def test_progress_reaches_all_that_was_fed(engine: Engine) -> None:
    listener = Listener(engine)
    listener.feed(bytes(2 * 777))
    while True:
        listener.until(events.Progress)
        [*_, last] = [event for event in listener.heard if isinstance(event, events.Progress)]
        if last.samples == 777:
            break


def test_a_sample_that_is_not_a_number_is_refused(engine: Engine) -> None:
    listener = Listener(engine, AudioSettings(encoding="float32"))
    with pytest.raises(AudioError, match="nan at 1"):
        listener.session.feed(np.array([0.0, np.nan], np.float32).tobytes())


def held_engine(limits: SessionLimits) -> Engine:
    """An engine that takes no turns yet, so that what is fed has to wait."""
    return Engine(EnergyModel(), limits=limits)


def test_a_full_ring_takes_what_it_can_and_goes_on_later() -> None:
    engine = held_engine(SessionLimits(buffer_s=1.0))
    listener = Listener(engine)
    sent = linear16(bursts(5))
    assert listener.session.feed(sent) == 32_000
    assert listener.session.feed(sent[32_000:]) == 0
    engine.start()
    listener.feed(sent[32_000:])
    listener.session.finish()
    listener.until(events.Drained)
    engine.stop()
    assert listener.text() == spoken(5)


def test_drop_oldest_keeps_the_newest_audio_and_the_time() -> None:
    engine = held_engine(SessionLimits(buffer_s=1.0))
    listener = Listener(engine, overflow="drop_oldest")
    silence = bytes(32_000)
    for piece in (silence, silence, silence, linear16(bursts(2))):
        assert listener.session.feed(piece) == len(piece)
    engine.start()
    listener.session.finish()
    listener.until(events.Drained)
    engine.stop()
    [dropped] = [
        e for e in listener.heard if isinstance(e, events.Warned) and e.code == "audio_dropped"
    ]
    assert dropped.details == {"from": 0.0, "to": pytest.approx(2.96)}
    assert listener.text() == spoken(2)
    assert finals(listener)[0].start == pytest.approx(3.24, abs=0.12)


def test_a_backlog_is_warned_of_once() -> None:
    engine = held_engine(SessionLimits(lagging_s=1.0))
    listener = Listener(engine)
    listener.feed(bytes(64_000))
    engine.start()
    listener.session.finish()
    listener.until(events.Drained)
    engine.stop()
    codes = [event.code for event in listener.heard if isinstance(event, events.Warned)]
    assert codes == ["lagging"]


def test_without_progress_a_turn_is_taken_when_a_block_is_there(engine: Engine) -> None:
    sent = linear16(bursts(4))
    told = run(engine, cut(sent, 640))
    quiet = Listener(engine, progress=False)
    for piece in cut(sent, 640):
        quiet.feed(piece)
    quiet.session.finish()
    quiet.until(events.Drained)
    assert finals(quiet) == finals(told)
    assert not any(isinstance(event, events.Progress) for event in quiet.heard)


def test_without_progress_less_than_a_block_wakes_nobody_and_a_flush_takes_it(
    engine: Engine,
) -> None:
    listener = Listener(engine, progress=False)
    listener.feed(linear16(bursts(1)))
    listener.session.flush("a")
    listener.until(events.Flushed)
    taken = listener.session.decoded
    listener.feed(bytes(640))
    assert listener.session.received == taken + 320
    listener.session.flush("b")
    listener.until(events.Flushed)
    assert listener.session.decoded == taken + 320


def test_without_progress_a_small_buffer_still_empties() -> None:
    limits = SessionLimits(buffer_s=0.05)  # less than a block
    engine = Engine(EnergyModel(), limits=limits)
    engine.start()
    listener = Listener(engine, progress=False)
    listener.feed(linear16(bursts(3)))
    listener.session.finish()
    listener.until(events.Drained)
    assert listener.text() == spoken(3)
    engine.stop()
