"""The recordings that one connection asked for: one is made at a time, the others wait."""

from collections import deque
from collections.abc import Callable
from dataclasses import replace

from audiomamba.errors import AudioError, Overloaded, ProtocolError
from audiomamba.streaming.engine.sound import Sound
from audiomamba.streaming.engine.sounds import SoundEngine
from audiomamba.streaming.protocol import AudioSettings, GenerationSettings, events

__all__ = ["Generations"]

PIECES = 4
"""Pieces of sound that are on their way to the socket at once: few, so that a cancel is quick."""


class Generations:
    """Asks the engine in the connection's stead.

    Args:
        engine: Makes the sound.
        audio: Of the stream, for its account: none of it is heard here.
        notify: Called when there are events, from any thread.
    """

    received = decoded = 0

    def __init__(
        self, engine: SoundEngine, audio: AudioSettings, notify: Callable[[], None]
    ) -> None:
        self.audio = audio
        self._engine = engine
        self._notify = notify
        self._queue: deque[GenerationSettings] = deque()
        self._running: Sound | None = None
        self._said: list[events.Event] = []
        self._index = 0

    def ask(self, settings: GenerationSettings) -> None:
        """One more recording."""
        self._queue.append(settings)
        self._begin()

    def credit(self, id: str, seconds: float) -> None:
        """Allow more of one to be sent; harmless when it is over."""
        if self._running is not None and self._running.settings.id == id:
            self._running.credit(seconds)
            self._engine.wake()
        for at, waiting in enumerate(self._queue):
            if waiting.id == id and waiting.credit_s is not None:
                self._queue[at] = replace(waiting, credit_s=waiting.credit_s + seconds)

    def cancel(self, id: str) -> None:
        """Stop one, or do not begin it; harmless when it is over."""
        if self._running is not None and self._running.settings.id == id:
            self._running.cancel()
            self._engine.wake()
        if any(waiting.id == id for waiting in self._queue):
            self._queue = deque(waiting for waiting in self._queue if waiting.id != id)
            self._said.append(events.GenerationEnd(id, 0, "cancelled"))

    def close(self) -> None:
        """Stop all; nobody listens."""
        self._queue.clear()
        if self._running is not None:
            self._running.cancel()
            self._engine.wake()

    def take_events(self) -> list[events.Event]:
        """What happened, with no more sound than may be sent before somebody looks again."""
        said, self._said = self._said, []
        if self._running is not None:
            said += self._running.take_events(PIECES)
            self._engine.wake()  # there is room again
            if self._running.empty:
                self._running = None
                self._begin()
        if said:
            self._notify()  # come back for the rest
        return said

    def _begin(self) -> None:
        while self._running is None and self._queue:
            settings = self._queue.popleft()
            self._index += 1
            try:
                self._running = self._engine.open(settings, index=self._index, notify=self._notify)
            except (ProtocolError, AudioError, Overloaded) as error:
                self._said += [_problem(error), events.GenerationEnd(settings.id, 0, "error")]
                self._notify()


def _problem(error: ProtocolError | AudioError | Overloaded) -> events.Problem:
    if isinstance(error, Overloaded):
        return events.Problem("overloaded", str(error), retry_after_s=error.retry_after_s)
    return events.Problem(getattr(error, "code", "bad_audio"), str(error))
