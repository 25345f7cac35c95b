"""Events on their way from the engine's thread to whoever serves the session."""

import threading
from collections import deque
from dataclasses import replace

from audiomamba.streaming.protocol.events import Checkpoint, Event, Final, Partial, Progress

__all__ = ["Mailbox"]


class Mailbox:
    """Bounded: partials, progress and checkpoints are replaced by newer ones, the rest is kept.

    Args:
        limit: Events from which on :attr:`full` holds. The engine then leaves the session alone
            until somebody reads, so nothing has to be dropped.
    """

    def __init__(self, limit: int = 256) -> None:
        self._limit = limit
        self._firm: deque[Event] = deque()
        self._partial: Partial | None = None
        self._progress: Progress | None = None
        self._lock = threading.Lock()

    @property
    def full(self) -> bool:
        return len(self._firm) >= self._limit

    def put(self, *events: Event) -> None:
        """Add events, which a reader gets together."""
        with self._lock:
            for event in events:
                self._put(event)

    def take(self) -> list[Event]:
        """All that waits, in order."""
        with self._lock:
            firm, partial, progress = self._firm, self._partial, self._progress
            self._firm, self._partial, self._progress = deque(), None, None
        newest = [event for event in (partial, progress) if event is not None]
        return [*firm, *newest]

    def _put(self, event: Event) -> None:
        if isinstance(event, Partial):
            self._partial = event
        elif isinstance(event, Progress):
            self._progress = event
        else:
            if isinstance(event, Final):
                self._partial = None
            if isinstance(event, Checkpoint):
                event = self._newest(event)
            self._firm.append(event)

    def _newest(self, event: Checkpoint) -> Checkpoint:
        """Drop an older checkpoint: they are large, and the newer one says all that it said."""
        older = [kept for kept in self._firm if isinstance(kept, Checkpoint)]
        for kept in older:
            self._firm.remove(kept)
        requested = event.requested or any(kept.requested for kept in older)
        return replace(event, requested=requested)
