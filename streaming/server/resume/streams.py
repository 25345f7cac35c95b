"""Which streams there are, who holds each, and what is kept of those that nobody holds."""

import asyncio
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from audiomamba.errors import StateError
from audiomamba.streaming.engine.snapshot import pack, unpack
from audiomamba.streaming.server.resume.config import ResumeConfig
from audiomamba.streaming.server.resume.store import FileStore, MemoryStore, SnapshotStore
from audiomamba.streaming.server.resume.tokens import Tokens

__all__ = ["Holder", "Past", "Streams", "open_streams"]

log = logging.getLogger(__name__)

STORED = ("session", "dialect", "at_sample", "ended")
TAKE_OVER_S = 10.0
"""How long the holder of a stream may take to let go of it."""


class Observer(Protocol):
    """Who is told of snapshots and resumptions."""

    def snapshot(self, result: str, seconds: float) -> None:
        """One was ``stored``, or that ``failed``."""

    def resume(self, result: str) -> None:
        """A stream was ``resumed``, or it was ``unavailable``."""


class Holder(Protocol):
    """A connection, as far as it can lose its stream to a newer one."""

    def supersede(self) -> None:
        """Let go of the stream; :meth:`Streams.leave` follows."""


@dataclass(frozen=True, slots=True)
class Past:
    """What is known of a stream.

    Attributes:
        stream_id: Its name.
        session: State of the session; None before its first sample, and where it has ended.
        dialect: State of the dialect.
        at_sample: The first sample that it has not heard.
        ended: Whether it has said its last word.
    """

    stream_id: str
    session: dict[str, Any] | None
    dialect: dict[str, Any]
    at_sample: int
    ended: bool = False


class Streams:
    """The streams of a server.

    Args:
        store: Keeps snapshots.
        ttl_s: How long it does.
        observer: For metrics.
    """

    def __init__(self, store: SnapshotStore, ttl_s: float, observer: Observer) -> None:
        self.ttl_s = ttl_s
        self._store = store
        self._observer = observer
        self._tokens = Tokens(store.key)
        self._held: dict[str, Holder] = {}
        self._left = asyncio.Condition()

    @property
    def durable(self) -> bool:
        """Whether another process can go on with these streams."""
        return self._store.durable

    def token(self, stream_id: str) -> str:
        """What its client has to show."""
        return self._tokens.sign(stream_id)

    def enter(self, stream_id: str, holder: Holder) -> None:
        """A new stream."""
        self._held[stream_id] = holder

    async def leave(self, stream_id: str) -> None:
        """Nobody holds the stream any more."""
        async with self._left:
            self._held.pop(stream_id, None)
            self._left.notify_all()

    async def resume(self, token: str, holder: Holder) -> Past | None:
        """Become the holder of a token's stream, in the place of whoever was.

        Returns:
            What is kept of it; None where the token is wrong or too old, what is kept cannot be
            read, or the holder does not let go.
        """
        stream_id = self._tokens.read(token)
        past = None
        if stream_id is not None and await self._claim(stream_id, holder):
            past = await self._recall(stream_id)
            if past is None:
                await self.leave(stream_id)
        return past

    def resumed(self, past: Past | None) -> None:
        """Count how a client's wish to go on with a stream came out."""
        self._observer.resume("unavailable" if past is None else "resumed")

    async def _claim(self, stream_id: str, holder: Holder) -> bool:
        async with self._left:
            try:
                async with asyncio.timeout(TAKE_OVER_S):
                    while (earlier := self._held.get(stream_id)) is not None:
                        earlier.supersede()
                        await self._left.wait()
            except TimeoutError:
                return False
            self._held[stream_id] = holder
        return True

    async def _recall(self, stream_id: str) -> Past | None:
        try:
            kept = await asyncio.to_thread(self._read, stream_id)
            if kept is None:
                return None
            return Past(stream_id, **kept)
        except (OSError, StateError, TypeError) as error:
            log.warning("stream %s cannot be gone on with: %s", stream_id, error)
            return None

    async def keep(self, past: Past) -> bool:
        """Keep this of a stream in the place of what was kept; False where that fails."""
        tree = {name: getattr(past, name) for name in STORED}
        began = time.perf_counter()
        try:
            await asyncio.to_thread(self._write, past.stream_id, tree)
        except OSError as error:
            log.error("no snapshot of stream %s: %s", past.stream_id, error)
            self._observer.snapshot("failed", time.perf_counter() - began)
            return False
        self._observer.snapshot("stored", time.perf_counter() - began)
        return True

    async def forget(self, stream_id: str) -> None:
        """Nobody will come back for a stream."""
        await asyncio.to_thread(self._store.delete, stream_id)

    async def tend(self) -> None:
        """Keep what is held from growing old and let go of the rest, until cancelled."""
        while True:
            await asyncio.to_thread(self._sweep, list(self._held))
            await asyncio.sleep(self.ttl_s / 4)

    def _write(self, stream_id: str, tree: dict[str, Any]) -> None:
        self._store.put(stream_id, pack(tree))

    def _read(self, stream_id: str) -> dict[str, Any] | None:
        packed = self._store.get(stream_id)
        return None if packed is None else unpack(packed)

    def _sweep(self, held: list[str]) -> None:
        for stream_id in held:
            self._store.touch(stream_id)
        self._store.sweep()


def open_streams(config: ResumeConfig, observer: Observer) -> Streams:
    """Streams over the store that the settings name.

    Raises:
        ConfigError: its folder cannot be used.
    """
    if config.folder:
        store: SnapshotStore = FileStore(Path(config.folder).expanduser(), config.ttl_s)
    else:
        store = MemoryStore(config.ttl_s, config.memory_mb << 20)
    return Streams(store, config.ttl_s, observer)
