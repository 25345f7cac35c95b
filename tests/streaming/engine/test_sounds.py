"""Recordings for many: what is sent is what is made alone, no faster than it is wanted."""

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from audiomamba.audio import pcm
from audiomamba.errors import Overloaded, ProtocolError
from audiomamba.models.wave.synthesizer import Synthesizer
from audiomamba.streaming.engine.sound import MOST_BYTES, Sound
from audiomamba.streaming.engine.sounds import SoundEngine
from audiomamba.streaming.protocol import GenerationSettings, events
from tests.models.wave.tiny import tiny_checkpoint


@pytest.fixture(scope="module")
def synthesizer(tmp_path_factory: pytest.TempPathFactory) -> Synthesizer:
    return Synthesizer.from_folder(tiny_checkpoint(tmp_path_factory.mktemp("voice")))


@pytest.fixture
def engine(synthesizer: Synthesizer) -> Iterator[SoundEngine]:
    engine = SoundEngine(synthesizer, most=3)
    engine.start()
    yield engine
    engine.stop()


class Hearer:
    """Collects what a recording says."""

    def __init__(self, engine: SoundEngine, **settings: Any) -> None:
        self._news = threading.Event()
        self._engine = engine
        self.heard: list[events.Event] = []
        asked = GenerationSettings(**{"id": "a", "max_s": 0.2, "seed": 5, **settings})
        self.sound: Sound = engine.open(asked, index=1, notify=self._news.set)

    def until(self, samples: int) -> None:
        """Wait for so many samples, or for the end."""
        while sum(sound.samples for sound in self.sounds()) < samples and not self.sound.empty:
            self._news.clear()
            new = self.sound.take_events(4)
            self.heard += new
            self._engine.wake()
            assert new or self.sound.empty or self._news.wait(30), self.heard

    def sounds(self) -> list[events.Sound]:
        return [event for event in self.heard if isinstance(event, events.Sound)]

    def payload(self) -> bytes:
        return b"".join(sound.payload for sound in self.sounds())

    def end(self) -> events.GenerationEnd:
        self.until(1 << 60)
        last = self.heard[-1]
        assert isinstance(last, events.GenerationEnd)
        return last


def alone(synthesizer: Synthesizer, seconds: float, **given: Any) -> bytes:
    made = np.concatenate(list(synthesizer.generate(seconds=seconds, **given)))
    return pcm.encode(made, "linear16")


def test_several_at_once_are_each_what_they_are_alone(
    engine: SoundEngine, synthesizer: Synthesizer
) -> None:
    hearers = [
        Hearer(engine, label="yes", seed=1),
        Hearer(engine, label="no", seed=2, max_s=0.11),
        Hearer(engine, seed=3, temperature=0.5),
    ]
    ends = [hearer.end() for hearer in hearers]
    assert [(end.samples, end.reason) for end in ends] == [
        (1600, "complete"), (880, "complete"), (1600, "complete"),
    ]  # fmt: skip
    assert hearers[0].payload() == alone(synthesizer, 0.2, label="yes", seed=1)
    assert hearers[1].payload() == alone(synthesizer, 0.11, label="no", seed=2)
    assert hearers[2].payload() == alone(synthesizer, 0.2, seed=3, temperature=0.5)
    assert [sound.last for sound in hearers[0].sounds()].count(True) == 1
    firsts = [sound.first_sample for sound in hearers[0].sounds()]
    assert firsts == sorted(set(firsts)) and firsts[0] == 0


def test_the_start_tells_the_seed_that_gives_it_again(engine: SoundEngine) -> None:
    hearer = Hearer(engine, seed=None)
    hearer.end()
    start = hearer.heard[0]
    assert isinstance(start, events.GenerationStart)
    again = Hearer(engine, seed=start.seed)
    again.end()
    assert again.payload() == hearer.payload()


@pytest.mark.parametrize("encoding", ["mulaw", "float32"])
def test_it_comes_in_the_rate_and_encoding_asked_for(engine: SoundEngine, encoding: str) -> None:
    hearer = Hearer(engine, sample_rate=16_000, encoding=encoding)
    assert hearer.end().samples == pytest.approx(3200, abs=2)
    size = {"mulaw": 1, "float32": 4}[encoding]
    assert len(hearer.payload()) == size * hearer.end().samples


def test_no_more_is_made_than_there_is_credit_for(engine: SoundEngine) -> None:
    hearer = Hearer(engine, credit_s=0.1, max_s=1.0)
    hearer.until(600)
    barrier = Hearer(engine, id="b", max_s=0.4, credit_s=None)  # the engine has gone on meanwhile
    barrier.end()
    made = hearer.sound.generation.position
    assert 600 <= made <= 800
    hearer.sound.credit(10.0)
    engine.wake()
    assert hearer.end() == events.GenerationEnd("a", 8000, "complete")


def test_a_reader_that_does_not_read_is_waited_for(engine: SoundEngine) -> None:
    hearer = Hearer(engine, max_s=3600.0, credit_s=None, sample_rate=48_000, encoding="float32")
    other = Hearer(engine, id="b", max_s=30.0, credit_s=None)
    assert other.end().reason == "complete"
    most_s = MOST_BYTES / 4 / 48_000 + 0.1
    assert hearer.sound.generation.position / 8000 < most_s
    hearer.sound.cancel()
    engine.wake()
    assert hearer.end() == events.GenerationEnd("a", 0, "cancelled")


def test_a_cancelled_one_ends_where_its_reader_is(engine: SoundEngine) -> None:
    hearer = Hearer(engine, max_s=3600.0)
    hearer.until(1000)
    hearer.sound.cancel()
    engine.wake()
    end = hearer.end()
    assert end.reason == "cancelled"
    assert end.samples == sum(sound.samples for sound in hearer.sounds())


def test_what_cannot_be_made_is_refused(engine: SoundEngine) -> None:
    with pytest.raises(ProtocolError, match="label 'seven' is not known"):
        Hearer(engine, label="seven")
    hearers = [Hearer(engine, max_s=3600.0) for _ in range(3)]
    with pytest.raises(Overloaded, match="all 3 recordings"):
        Hearer(engine)
    for hearer in hearers:
        hearer.sound.cancel()
        engine.wake()
        hearer.end()
    Hearer(engine).end()


def test_in_real_time_the_clock_sets_the_pace(synthesizer: Synthesizer) -> None:
    engine = SoundEngine(synthesizer, most=1)  # not started: asked by hand
    sound = Hearer(engine, pace="realtime", max_s=10.0).sound
    began = sound._began
    assert sound.due(320, began) == 0.0
    sound.generation.next(8000)
    assert sound.due(320, began) == pytest.approx(1.04 - 0.5)
    assert sound.due(320, began + 1.0) == 0.0
