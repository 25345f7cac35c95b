"""The recordings of one connection while their model is loaded, and where it cannot be."""

import threading
from collections.abc import Callable, Iterator

import pytest

from audiomamba.errors import ModelError
from audiomamba.models.wave.synthesizer import Synthesizer
from audiomamba.streaming.engine.sounds import SoundEngine
from audiomamba.streaming.engine.voice import Voice
from audiomamba.streaming.protocol import AudioSettings, GenerationSettings, events
from audiomamba.streaming.server.generations import Generations
from tests.models.wave.tiny import tiny_checkpoint


@pytest.fixture(scope="module")
def synthesizer(tmp_path_factory: pytest.TempPathFactory) -> Synthesizer:
    return Synthesizer.from_folder(tiny_checkpoint(tmp_path_factory.mktemp("voice")))


class Client:
    """What a connection does: look whenever it is told to."""

    def __init__(self, voice: Voice) -> None:
        self._news = threading.Event()
        self.heard: list[events.Event] = []
        self.generations = Generations(voice, AudioSettings(), self._news.set)

    def look(self) -> None:
        self.heard += self.generations.take_events()

    def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            assert self._news.wait(30), self.heard
            self._news.clear()
            self.look()

    def ends(self) -> list[tuple[str, str]]:
        return [(e.id, e.reason) for e in self.heard if isinstance(e, events.GenerationEnd)]


def asked(id: str) -> GenerationSettings:
    return GenerationSettings(id=id, max_s=0.1, seed=1)


@pytest.fixture
def slow(synthesizer: Synthesizer) -> Iterator[tuple[Voice, threading.Event]]:
    """A voice, and what its loading waits for."""
    loaded = threading.Event()

    def load() -> SoundEngine:
        assert loaded.wait(60)
        return SoundEngine(synthesizer, most=2)

    voice = Voice("slow", synthesizer.config, synthesizer.sampling, load)
    yield voice, loaded
    loaded.set()
    voice.stop()


def test_what_is_asked_for_while_the_model_is_loaded_is_made_in_order(
    slow: tuple[Voice, threading.Event],
) -> None:
    voice, loaded = slow
    client = Client(voice)
    for id in "abc":
        client.generations.ask(asked(id))
    client.look()
    client.generations.cancel("b")
    client.look()
    assert client.heard == [events.GenerationEnd("b", 0, "cancelled")]
    loaded.set()
    client.until(lambda: len(client.ends()) == 3)
    assert client.ends()[1:] == [("a", "complete"), ("c", "complete")]
    made = [e.samples for e in client.heard if isinstance(e, events.Sound)]
    assert sum(made) == 1600


def test_a_client_that_leaves_while_the_model_is_loaded_gets_nothing(
    slow: tuple[Voice, threading.Event],
) -> None:
    voice, loaded = slow
    client = Client(voice)
    client.generations.ask(asked("a"))
    client.generations.close()
    loaded.set()
    voice.wanted().result(60)
    client.look()
    assert client.heard == []


def test_a_model_that_cannot_be_loaded_fails_what_waits_and_is_tried_again(
    synthesizer: Synthesizer, caplog: pytest.LogCaptureFixture
) -> None:
    broken, both_wait = [True], threading.Event()

    def load() -> SoundEngine:
        assert both_wait.wait(60)
        if broken:
            raise ModelError(f"no weights ({broken.pop()})")
        return SoundEngine(synthesizer, most=2)

    voice = Voice("frail", synthesizer.config, synthesizer.sampling, load)
    client = Client(voice)
    for id in "ab":
        client.generations.ask(asked(id))
    both_wait.set()
    client.until(lambda: len(client.ends()) == 2)
    assert client.ends() == [("a", "error"), ("b", "error")]
    [problem] = [event for event in client.heard if isinstance(event, events.Problem)]
    assert problem.code == "internal" and "frail" in problem.message
    assert problem.ref and problem.ref in caplog.text and "no weights" in caplog.text
    assert "no weights" not in problem.message
    client.generations.ask(asked("c"))
    client.until(lambda: len(client.ends()) == 3)
    assert client.ends()[-1] == ("c", "complete")
    voice.stop()
