"""Many streams on one model: batches, admission, and failures that stay where they are."""

import logging
import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from audiomamba.errors import Overloaded
from audiomamba.streaming.engine import Engine
from audiomamba.streaming.engine.engine import GATHER_EACH_S, GATHER_S
from audiomamba.streaming.protocol import AudioSettings, events
from tests.streaming.energy import EnergyModel, Listener, bursts, linear16, recognizer, spoken


@pytest.fixture
def model() -> EnergyModel:
    return EnergyModel(slots=6)


@pytest.fixture
def engine(model: EnergyModel) -> Iterator[Engine]:
    engine = Engine(model)
    yield engine
    engine.stop()


def test_streams_that_share_batches_do_not_touch_each_other(
    engine: Engine, model: EnergyModel
) -> None:
    listeners = [Listener(engine) for _ in range(5)]
    for count, listener in enumerate(listeners, start=1):
        listener.feed(linear16(bursts(count, pause_s=0.1 * count)))
        listener.session.finish()
    engine.start()
    for count, listener in enumerate(listeners, start=1):
        listener.until(events.Drained)
        assert listener.text() == spoken(count)
    assert max(model.batches) == 6  # five streams, in the bucket of six


def test_batches_come_in_a_few_sizes_all_of_them_warmed_up(
    engine: Engine, model: EnergyModel
) -> None:
    engine.warmup()
    assert sorted(model.batches) == [1, 2, 4, 6]
    assert not engine.ready


def test_a_stream_beyond_the_slots_is_refused_and_a_freed_slot_is_fresh(
    engine: Engine,
) -> None:
    engine.start()
    listeners = [Listener(engine) for _ in range(6)]
    with pytest.raises(Overloaded, match="all 6 streams") as caught:
        engine.open(recognizer(), AudioSettings())
    assert caught.value.retry_after_s > 0
    listeners[2].feed(linear16(bursts(3)))
    listeners[2].until(events.Progress)
    listeners[2].session.cancel()
    _until(lambda: engine.free == 1)
    again = Listener(engine)
    again.feed(linear16(bursts(2)))
    again.session.finish()
    again.until(events.Drained)
    assert again.text() == spoken(2)


def test_the_phases_of_a_turn_are_timed_for_whoever_asks(engine: Engine) -> None:
    noted: list[tuple[str, float, int]] = []
    engine.on_phase = lambda *phase: noted.append(phase)
    engine.start()
    listener = Listener(engine)
    listener.feed(linear16(bursts(1)))
    listener.session.finish()
    listener.until(events.Drained)
    assert {phase for phase, _, _ in noted} == {"queue", "features", "model", "text"}
    assert all(seconds >= 0.0 for _, seconds, _ in noted)
    assert {streams for phase, _, streams in noted if phase == "model"} == {1}


def test_a_finished_stream_gives_its_slot_back(engine: Engine) -> None:
    engine.start()
    for _ in range(20):
        listener = Listener(engine)
        listener.session.finish()
        listener.until(events.Drained)
        _until(lambda: engine.free == 6)


def test_a_step_that_fails_for_one_stream_fails_it_alone(
    engine: Engine, model: EnergyModel, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = Listener(engine), Listener(engine)

    def refuse(slots: Sequence[int]) -> None:
        if bad.session.slot in slots:
            raise RuntimeError("this slot is cursed")

    model.before_step = refuse
    for listener in (bad, good):
        listener.feed(linear16(bursts(3)))
        listener.session.finish()
    with caplog.at_level(logging.ERROR):
        engine.start()
        good.until(events.Drained)
        bad.until(events.Failed)
    assert good.text() == spoken(3)
    [failed] = [event for event in bad.heard if isinstance(event, events.Failed)]
    assert failed.ref in caplog.text and "cursed" in caplog.text
    _until(lambda: engine.free == 6)


def test_a_session_that_fails_fails_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = Listener(engine), Listener(engine)

    def explode(samples: object) -> None:
        raise RuntimeError("front end on fire")

    monkeypatch.setattr(bad.session._recognizer, "push", explode)
    for listener in (bad, good):
        listener.feed(linear16(bursts(3)))
        listener.session.finish()
    with caplog.at_level(logging.ERROR):
        engine.start()
        good.until(events.Drained)
        bad.until(events.Failed)
    assert good.text() == spoken(3)


def test_a_client_that_reads_nothing_stops_only_its_own_stream(engine: Engine) -> None:
    engine.start()
    deaf, good = Listener(engine), Listener(engine)
    deaf.session._mailbox._limit = 1
    deaf.session.flush()
    deaf.session.flush()
    good.feed(linear16(bursts(3)))
    good.session.finish()
    good.until(events.Drained)
    deaf.until(events.Flushed)
    deaf.until(events.Flushed)
    assert good.text() == spoken(3)


def test_metrics_tell_what_waits(engine: Engine) -> None:
    listener = Listener(engine)
    listener.feed(bytes(32_000))
    before = engine.metrics(listener.session)
    assert (before.received_s, before.decoded_s, before.buffered_s) == (1.0, 0.0, 1.0)
    engine.start()
    listener.session.finish()
    listener.until(events.Drained)
    after = engine.metrics(listener.session)
    assert (after.decoded_s, after.lag_s, after.state_bytes) == (1.0, 0.0, 64)
    assert after.rtf > 0 and after.step_ms_p50 > 0 and after.batch == 1


def test_a_failed_warm_up_leaves_the_engine_unready(
    engine: Engine, model: EnergyModel, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(slots: Sequence[int]) -> None:
        raise RuntimeError("no memory")

    model.before_step = refuse
    with caplog.at_level(logging.ERROR):
        engine.start()
        engine._thread.join()
    assert not engine.ready


def _until(holds: "object") -> None:
    """Wait for what the engine's thread does after the last event of a session."""
    for _ in range(3000):
        if holds():  # type: ignore[operator]
            return
        threading.Event().wait(0.01)
    raise AssertionError("it never came to hold")


def test_a_stream_that_is_behind_takes_several_blocks_in_a_step() -> None:
    frames: list[int] = []

    class Noting(EnergyModel):
        def step(self, features: NDArray[np.float32], slots: Sequence[int]) -> NDArray[np.float32]:
            frames.append(features.shape[1])
            return super().step(features, slots)

    model = Noting(slots=3, block=2, most_blocks=2)
    engine = Engine(model)
    behind, odd = Listener(engine), Listener(engine)
    behind.feed(linear16(bursts(4)))
    odd.feed(linear16(bursts(3, pause_s=0.3)))
    for listener in (behind, odd):
        listener.session.finish()
    engine.start()
    for listener, words in ((behind, 4), (odd, 3)):
        listener.until(events.Drained)
        assert listener.text() == spoken(words)
    assert set(frames) == {model.frames_per_block, 2 * model.frames_per_block}
    engine.stop()


def test_blocks_that_come_soon_after_a_turn_share_the_next(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.warmup()
    first, second = Listener(engine), Listener(engine)
    first.feed(linear16(bursts(1)))
    slept: list[float] = []

    def meanwhile(seconds: float) -> None:
        slept.append(seconds)
        second.feed(linear16(bursts(1)))

    monkeypatch.setattr("audiomamba.streaming.engine.engine.time.sleep", meanwhile)
    engine._turned_at = time.perf_counter()
    assert engine._wait() == [first.session, second.session]
    assert len(slept) == 1 and 0 < slept[0] <= 2 * GATHER_EACH_S
    first.feed(linear16(bursts(1)))
    engine._turned_at = time.perf_counter() - GATHER_S
    assert engine._wait() == [first.session]
    assert len(slept) == 1
