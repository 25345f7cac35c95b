"""A stream that stops anywhere goes on elsewhere as if it had not."""

from collections.abc import Iterator
from typing import Any

import pytest

from audiomamba.audio import pcm
from audiomamba.errors import StateError
from audiomamba.streaming.engine import Engine
from audiomamba.streaming.engine.session import SessionLimits
from audiomamba.streaming.engine.snapshot import pack, unpack
from audiomamba.streaming.protocol import AudioSettings, events
from tests.streaming.energy import EnergyModel, Listener, bursts, linear16, spoken

OFTEN = SessionLimits(checkpoint_s=0.1)
SECOND = 32_000  # bytes


def running(limits: SessionLimits | None = None) -> Iterator[Engine]:
    engine = Engine(EnergyModel(), limits=limits)
    engine.start()
    yield engine
    engine.stop()


@pytest.fixture
def engine() -> Iterator[Engine]:
    yield from running(OFTEN)


@pytest.fixture
def other() -> Iterator[Engine]:
    yield from running()


def finals(heard: list[events.Event]) -> list[events.Final]:
    return [event for event in heard if isinstance(event, events.Final)]


def checkpoints(heard: list[events.Event]) -> list[events.Checkpoint]:
    return [event for event in heard if isinstance(event, events.Checkpoint)]


def finished(listener: Listener) -> list[events.Final]:
    listener.session.finish()
    return finals(listener.until(events.Drained))


@pytest.mark.parametrize(
    "audio", [AudioSettings(), AudioSettings(encoding="mulaw", sample_rate=8000)]
)
def test_every_checkpoint_goes_on_to_the_same_words_and_times(
    engine: Engine, other: Engine, audio: AudioSettings
) -> None:
    sent = pcm.encode(bursts(6, rate=audio.sample_rate, pause_s=0.8), audio.encoding)
    listener = Listener(engine, audio)
    for start in range(0, len(sent), 4000):
        listener.feed(sent[start : start + 4000])
        listener.until(events.Progress)
    whole = finished(listener)
    assert len(whole) > 2
    assert len(checkpoints(listener.heard)) > 6
    for at, checkpoint in enumerate(listener.heard):
        if not isinstance(checkpoint, events.Checkpoint):
            continue
        before = finals(listener.heard[:at])
        resumed = Listener(other, audio, state=unpack(pack(checkpoint.state)))
        resumed.feed(sent[checkpoint.at_sample * audio.frame_bytes :])
        assert before + finished(resumed) == whole, f"event {at}"


def test_a_final_and_the_checkpoint_after_it_come_together(engine: Engine) -> None:
    listener = Listener(engine)
    for piece in (linear16(bursts(2)), bytes(2 * SECOND), linear16(bursts(2)), bytes(2 * SECOND)):
        listener.feed(piece)
        seen = len(listener.heard)
        new = listener.until(events.Progress)[seen:]
        if finals(new):
            assert any(isinstance(event, events.Checkpoint) for event in new)
    assert len(finals(listener.heard)) == 2


def test_a_flush_is_saved_after_the_copy_is_gone(engine: Engine, other: Engine) -> None:
    sent = linear16(bursts(6))
    cut = 3 * SECOND // 4
    listener = Listener(engine)
    listener.feed(sent[:cut])
    listener.session.flush("a")
    heard = list(listener.until(events.Flushed))
    kinds = [type(event) for event in heard]
    assert kinds.index(events.Final) < kinds.index(events.Flushed) < kinds.index(events.Progress)
    saved = checkpoints(heard[kinds.index(events.Flushed) :])[-1]
    listener.feed(sent[cut:])
    resumed = Listener(other, state=unpack(pack(saved.state)))
    resumed.feed(sent[saved.at_sample * 2 :])
    assert finals(heard) + finished(resumed) == finished(listener)


def test_time_that_passed_unheard_is_kept(engine: Engine, other: Engine) -> None:
    listener = Listener(engine)
    listener.feed(linear16(bursts(1)))
    listener.session.gap(160_000)
    listener.session.checkpoint()
    saved = checkpoints(listener.until(events.Checkpoint))[-1]
    while not saved.requested:
        saved = checkpoints(listener.until(events.Checkpoint))[-1]
    assert saved.at_sample == 7680 + 160_000
    resumed = Listener(other, state=unpack(pack(saved.state)))
    resumed.feed(linear16(bursts(1)))
    [final] = finished(resumed)
    assert final.start == pytest.approx(0.48 + 10 + 0.24, abs=0.12)


def test_parking_decodes_what_was_fed_and_gives_the_slot_back(other: Engine) -> None:
    sent = linear16(bursts(5, pause_s=0.8))
    listener = Listener(other)
    listener.feed(sent)
    listener.session.park()
    before = finals(listener.until(events.Parked))
    [saved] = checkpoints(listener.heard)
    assert saved.at_sample == len(sent) // 2
    resumed = Listener(other, state=unpack(pack(saved.state)))
    text = [final.text for final in before + finished(resumed)]
    assert " ".join(text) == spoken(5)


def test_nothing_is_saved_unless_asked(other: Engine) -> None:
    listener = Listener(other)
    listener.feed(linear16(bursts(5, pause_s=0.8)))
    assert finished(listener)
    assert not checkpoints(listener.heard)


@pytest.mark.parametrize("wrong", [{"fingerprint": "another"}, {"audio": {"encoding": "alaw"}}])
def test_a_state_of_something_else_is_refused_and_costs_no_slot(
    other: Engine, wrong: dict[str, Any]
) -> None:
    listener = Listener(other)
    listener.session.checkpoint()
    [saved] = checkpoints(listener.until(events.Checkpoint))
    free = other.free
    with pytest.raises(StateError, match="saved"):
        Listener(other, state={**saved.state, **wrong})
    assert other.free == free
