"""Numbers the events of a stream, and keeps those that its client may have missed."""

from collections import deque
from typing import Any

from audiomamba.streaming.protocol import events
from audiomamba.streaming.protocol.settings import ResultSettings
from audiomamba.streaming.protocol.v1 import wire

__all__ = ["Journal"]

KEPT = 512
"""Events that can be said again. More than a session and a socket hold on their way to a client."""

PASSING = (
    events.Ready,
    events.Metrics,
    events.Pong,
    events.Snapshot,
    events.Problem,
    events.GoAway,
    events.GenerationStart,
    events.GenerationEnd,
)
"""What concerns one connection, or is out of date with it."""


class Journal:
    """Frames of one stream, in order, across its connections."""

    def __init__(self) -> None:
        self.seq = 0  # of the last event
        self._kept: deque[tuple[int, str]] = deque(maxlen=KEPT)
        self._partial: tuple[int, str] | None = None  # of the utterance that is not final yet

    def enter(self, event: events.Event, results: ResultSettings) -> str:
        """The next frame, which carries ``event``."""
        self.seq += 1
        frame = wire.encode(event, self.seq, results)
        if isinstance(event, events.Partial):
            self._partial = (self.seq, frame)
        elif not isinstance(event, PASSING):
            self._kept.append((self.seq, frame))
        if isinstance(event, events.Final):
            self._partial = None
        return frame

    def after(self, seq: int) -> list[str]:
        """Frames that a client has not seen whose last event was number ``seq``."""
        partial = [self._partial] if self._partial else []
        return [frame for number, frame in [*self._kept, *partial] if number > seq]

    def state(self) -> dict[str, Any]:
        """All of it, of JSON's types."""
        kept = [list(entry) for entry in self._kept]
        return {"seq": self.seq, "kept": kept, "partial": self._partial}

    def load(self, state: dict[str, Any], seen: int) -> None:
        """Go on from a state; ``seen`` is the last event that the client knows of.

        The client may know of more than the state does: the server that said it is gone, and what
        it said after its last checkpoint is said anew, under higher numbers.
        """
        self.seq = max(int(state["seq"]), seen)
        kept = [(int(number), str(frame)) for number, frame in state["kept"]]
        self._kept = deque((entry for entry in kept if entry[0] > seen), maxlen=KEPT)
        partial = state["partial"]
        self._partial = (int(partial[0]), str(partial[1])) if partial else None
