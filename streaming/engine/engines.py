"""Several engines as one: a thread each, the sessions shared out over them.

A processor's cores serve more streams this way than as the threads of one step: a stream stays on
its core, nothing waits for the slowest, and a step of a few streams is too small to be cut up.
"""

from collections.abc import Callable, Sequence
from typing import Any

from audiomamba.errors import Overloaded
from audiomamba.streaming.engine.engine import RETRY_AFTER_S, Engine
from audiomamba.streaming.engine.model import Recognizer
from audiomamba.streaming.engine.session import Session, SessionLimits
from audiomamba.streaming.protocol.events import Metrics
from audiomamba.streaming.protocol.settings import AudioSettings, Overflow

__all__ = ["Engines"]


class Engines:
    """Engines of one model.

    Args:
        engines: At least one; their step models may share weights, never states.
    """

    def __init__(self, engines: Sequence[Engine]) -> None:
        self._engines = list(engines)

    @property
    def ready(self) -> bool:
        """All of them warmed up and running."""
        return all(engine.ready for engine in self._engines)

    @property
    def slots(self) -> int:
        """Streams at once."""
        return sum(engine.model.slots for engine in self._engines)

    @property
    def free(self) -> int:
        """Slots that can still be handed out."""
        return sum(engine.free for engine in self._engines)

    @property
    def live(self) -> int:
        """Sessions that hold a slot."""
        return sum(engine.live for engine in self._engines)

    @property
    def limits(self) -> SessionLimits:
        """Of each session."""
        return self._engines[0].limits

    @property
    def state_bytes(self) -> int:
        """Size of one stream's state."""
        return self._engines[0].model.state_bytes

    @property
    def kind(self) -> str:
        """``native`` or ``torch``."""
        return self._engines[0].model.kind

    def observe(self, on_phase: Callable[[str, float, int], None]) -> None:
        """Tell ``on_phase`` of every turn's phases; see :attr:`Engine.on_phase`."""
        for engine in self._engines:
            engine.on_phase = on_phase

    def start(self) -> None:
        """Warm up and take turns from now on; returns at once."""
        for engine in self._engines:
            engine.start()

    def stop(self) -> None:
        """End the threads; sessions that are still open are closed without a word."""
        for engine in self._engines:
            engine.stop()

    def open(
        self,
        recognizer: Recognizer,
        audio: AudioSettings,
        *,
        overflow: Overflow = "block",
        progress: bool = True,
        notify: Callable[[], None] = lambda: None,
        state: dict[str, Any] | None = None,
    ) -> Session:
        """Admit a stream where the fewest are; see :meth:`Engine.open`.

        Raises:
            Overloaded: every slot of every engine is taken.
            StateError: ``state`` belongs to another model, or to audio of another form.
        """
        for engine in sorted(self._engines, key=lambda engine: engine.live):
            if engine.free:
                return engine.open(
                    recognizer,
                    audio,
                    overflow=overflow,
                    progress=progress,
                    notify=notify,
                    state=state,
                )
        raise Overloaded(f"all {self.slots} streams are taken", retry_after_s=RETRY_AFTER_S)

    def metrics(self, session: Session) -> Metrics:
        """Figures of a session and of its engine, for its client."""
        engine = next(one for one in self._engines if one.model is session.model)
        return engine.metrics(session)
