"""Events on their way from the engine's thread to whoever serves the session."""

import threading
from collections import deque

from audiomamba.streaming.protocol.events import Event, Final, Partial, Progress

__all__ = ["Mailbox"]


class Mailbox:
    """Bounded: a partial and a progress are replaced by newer ones, everything else is kept.

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

    def put(self, event: Event) -> None:
        with self._lock:
            if isinstance(event, Partial):
                self._partial = event
            elif isinstance(event, Progress):
                self._progress = event
            else:
                if isinstance(event, Final):
                    self._partial = None
                self._firm.append(event)

    def take(self) -> list[Event]:
        """All that waits, in order."""
        with self._lock:
            firm, partial, progress = self._firm, self._partial, self._progress
            self._firm, self._partial, self._progress = deque(), None, None
        newest = [event for event in (partial, progress) if event is not None]
        return [*firm, *newest]
