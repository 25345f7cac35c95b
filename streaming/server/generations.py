"""The recordings that one connection asked for: one is made at a time, the others wait."""

import logging
import secrets
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING

from audiomamba.errors import AudioError, Overloaded, ProtocolError
from audiomamba.streaming.protocol import AudioSettings, GenerationSettings, events

if TYPE_CHECKING:
    from audiomamba.streaming.engine.sound import Sound
    from audiomamba.streaming.engine.sounds import SoundEngine
    from audiomamba.streaming.engine.voice import Voice

__all__ = ["Generations"]

log = logging.getLogger(__name__)

PIECES = 4
"""Pieces of sound that are on their way to the socket at once: few, so that a cancel is quick."""


class Generations:
    """Asks the engine in the connection's stead.

    Args:
        voice: Makes the sound; it is loaded when the first recording is asked for.
        audio: Of the stream, for its account: none of it is heard here.
        notify: Called when there are events, from any thread.
    """

    received = decoded = 0

    def __init__(self, voice: "Voice", audio: AudioSettings, notify: Callable[[], None]) -> None:
        self.audio = audio
        self._voice = voice
        self._engine: Future[SoundEngine] | None = None  # asked for, maybe still being loaded
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
            self._wake()
        for at, waiting in enumerate(self._queue):
            if waiting.id == id and waiting.credit_s is not None:
                self._queue[at] = replace(waiting, credit_s=waiting.credit_s + seconds)

    def cancel(self, id: str) -> None:
        """Stop one, or do not begin it; harmless when it is over."""
        if self._running is not None and self._running.settings.id == id:
            self._running.cancel()
            self._wake()
        if any(waiting.id == id for waiting in self._queue):
            self._queue = deque(waiting for waiting in self._queue if waiting.id != id)
            self._said.append(events.GenerationEnd(id, 0, "cancelled"))

    def close(self) -> None:
        """Stop all; nobody listens."""
        self._queue.clear()
        if self._running is not None:
            self._running.cancel()
            self._wake()

    def take_events(self) -> list[events.Event]:
        """What happened, with no more sound than may be sent before somebody looks again."""
        if self._running is None:
            self._begin()  # the model may have been loaded meanwhile
        said, self._said = self._said, []
        if self._running is not None:
            said += self._running.take_events(PIECES)
            self._wake()  # there is room again
            if self._running.empty:
                self._running = None
                self._begin()
        if said:
            self._notify()  # come back for the rest
        return said

    def _begin(self) -> None:
        if self._running is not None or not self._queue:
            return
        if self._engine is None:
            self._engine = self._voice.wanted()
            self._engine.add_done_callback(lambda _: self._notify())
        if not self._engine.done():
            return
        if (broken := self._engine.exception()) is not None:
            self._give_up(broken)
            return
        engine = self._engine.result()
        while self._running is None and self._queue:
            settings = self._queue.popleft()
            self._index += 1
            try:
                self._running = engine.open(settings, index=self._index, notify=self._notify)
            except (ProtocolError, AudioError, Overloaded) as error:
                self._said += [_problem(error), events.GenerationEnd(settings.id, 0, "error")]
                self._notify()

    def _wake(self) -> None:
        """Only while one is made, so there is an engine."""
        assert self._engine is not None
        self._engine.result().wake()

    def _give_up(self, why: BaseException) -> None:
        """None of those that wait can be made; the next one that is asked for may be."""
        ref = secrets.token_hex(4)
        name = self._voice.name
        log.error("voice: %s cannot be loaded, reference %s", name, ref, exc_info=why)
        message = f"the server could not load {name}; quote {ref} when you report it"
        self._said.append(events.Problem("internal", message, ref=ref))
        self._said += [events.GenerationEnd(settings.id, 0, "error") for settings in self._queue]
        self._queue.clear()
        self._engine = None
        self._notify()


def _problem(error: ProtocolError | AudioError | Overloaded) -> events.Problem:
    if isinstance(error, Overloaded):
        return events.Problem("overloaded", str(error), retry_after_s=error.retry_after_s)
    return events.Problem(getattr(error, "code", "bad_audio"), str(error))
