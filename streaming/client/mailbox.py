"""Events on their way from the socket to the reader, in bounded memory.

A newer partial of the same utterance, and newer metrics, take the place of one that was not read
yet; everything else waits for room, so a slow reader loses no words and slows only itself down.
"""

import asyncio

from audiomamba.streaming.client.events import Event, Metrics, Partial

__all__ = ["Mailbox"]

Key = tuple[str, int, int]


class Mailbox:
    """An asynchronous queue of at most ``size`` events."""

    def __init__(self, size: int = 256) -> None:
        self._size = size
        self._events: dict[Key, Event] = {}
        self._serial = 0
        self._changed = asyncio.Condition()
        self._failure: Exception | None = None
        self._closed = False

    async def put(self, event: Event) -> None:
        async with self._changed:
            key = self._key(event)
            if key not in self._events:
                await self._changed.wait_for(lambda: len(self._events) < self._size)
            self._events[key] = event
            self._changed.notify_all()

    async def close(self, failure: Exception | None = None) -> None:
        """No event follows; readers get ``failure`` after the last one, if there is one."""
        async with self._changed:
            self._closed, self._failure = True, failure
            self._changed.notify_all()

    async def get(self) -> Event | None:
        """The next event, or None after the last.

        Raises:
            Exception: the failure given to ``close``.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: self._events or self._closed)
            if self._events:
                event = self._events.pop(next(iter(self._events)))
                self._changed.notify_all()
                return event
            if self._failure is not None:
                raise self._failure
            return None

    def _key(self, event: Event) -> Key:
        match event:
            case Partial():
                return ("partial", event.channel, event.utterance)
            case Metrics():
                return ("metrics", 0, 0)
        self._serial += 1
        return ("event", 0, self._serial)
