"""Where snapshots of streams are kept: in memory, or in a folder that outlives the process."""

import contextlib
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from audiomamba.errors import ConfigError
from audiomamba.streaming.server.resume.tokens import KEY_BYTES, new_key

__all__ = ["FileStore", "MemoryStore", "SnapshotStore"]


class SnapshotStore(Protocol):
    """Bytes under the names of streams; they are forgotten some time after the last ``put``.

    Called from several threads, never from two at once for the same stream.
    """

    @property
    def durable(self) -> bool:
        """Whether what is put outlives the process."""

    @property
    def key(self) -> bytes:
        """Secret for the tokens of these streams, which lives as long as they do."""

    def put(self, stream_id: str, snapshot: bytes) -> None:
        """Keep a snapshot in the place of an earlier one; raises OSError where that fails."""

    def get(self, stream_id: str) -> bytes | None:
        """The last snapshot, or None."""

    def touch(self, stream_id: str) -> None:
        """Count the time from now."""

    def delete(self, stream_id: str) -> None:
        """Forget a stream; harmless where it is not known."""

    def sweep(self) -> None:
        """Forget what is too old."""


class MemoryStore:
    """In this process.

    Args:
        ttl_s: How long a snapshot is kept.
        capacity: Bytes in all; past it the oldest snapshots go.
        clock: Seconds.
    """

    durable = False

    def __init__(
        self, ttl_s: float, capacity: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.key = new_key()
        self._ttl_s, self._capacity, self._clock = ttl_s, capacity, clock
        self._kept: OrderedDict[str, tuple[float, bytes]] = OrderedDict()  # oldest first
        self._held = 0  # bytes
        self._lock = threading.RLock()

    def put(self, stream_id: str, snapshot: bytes) -> None:
        with self._lock:
            self.delete(stream_id)
            self._kept[stream_id] = (self._clock(), snapshot)
            self._held += len(snapshot)
            while self._held > self._capacity:
                self.delete(next(iter(self._kept)))

    def get(self, stream_id: str) -> bytes | None:
        with self._lock:
            self.sweep()
            return self._kept[stream_id][1] if stream_id in self._kept else None

    def touch(self, stream_id: str) -> None:
        with self._lock:
            if stream_id in self._kept:
                self._kept[stream_id] = (self._clock(), self._kept[stream_id][1])
                self._kept.move_to_end(stream_id)

    def delete(self, stream_id: str) -> None:
        with self._lock:
            if stream_id in self._kept:
                self._held -= len(self._kept.pop(stream_id)[1])

    def sweep(self) -> None:
        with self._lock:
            while self._kept:
                oldest, (at, _) = next(iter(self._kept.items()))
                if at + self._ttl_s > self._clock():
                    return
                self.delete(oldest)


class FileStore:
    """A file a stream. Any server that sees the folder can go on with any stream in it.

    Files are replaced whole, so a server that dies while it writes leaves the earlier snapshot.
    They are not forced to the disk: a killed process loses nothing, a power cut may.

    Args:
        folder: Made where it is missing; holds the key of the tokens too, readable to the owner.
        ttl_s: How long a snapshot is kept.
        clock: Seconds since the epoch, as files have them.

    Raises:
        ConfigError: the folder cannot be used.
    """

    durable = True

    def __init__(self, folder: Path, ttl_s: float, clock: Callable[[], float] = time.time) -> None:
        self._folder, self._ttl_s, self._clock = folder, ttl_s, clock
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.key = _key_of(folder)
        except OSError as error:
            raise ConfigError(f"resume.folder: {error}") from None

    def put(self, stream_id: str, snapshot: bytes) -> None:
        path = self._path(stream_id)
        half = path.with_suffix(f".{os.getpid()}")
        half.write_bytes(snapshot)
        now = self._clock()
        os.utime(half, (now, now))
        half.replace(path)

    def get(self, stream_id: str) -> bytes | None:
        path = self._path(stream_id)
        try:
            return path.read_bytes() if self._fresh(path) else None
        except FileNotFoundError:
            return None

    def touch(self, stream_id: str) -> None:
        now = self._clock()
        with contextlib.suppress(FileNotFoundError):
            os.utime(self._path(stream_id), (now, now))

    def delete(self, stream_id: str) -> None:
        self._path(stream_id).unlink(missing_ok=True)

    def sweep(self) -> None:
        for path in self._folder.glob("*.*"):
            with contextlib.suppress(FileNotFoundError):
                if path.stem.isalnum() and not self._fresh(path):
                    path.unlink()

    def _fresh(self, path: Path) -> bool:
        return path.stat().st_mtime + self._ttl_s > self._clock()

    def _path(self, stream_id: str) -> Path:
        return self._folder / f"{stream_id}.snapshot"


def _key_of(folder: Path) -> bytes:
    """The folder's key; of servers that start at the same time, the first to write it wins."""
    path = folder / "key"
    if not path.exists():
        mine = folder / f"key-{os.getpid()}"
        mine.touch(mode=0o600)
        mine.write_bytes(new_key())
        with contextlib.suppress(FileExistsError):
            os.link(mine, path)
        mine.unlink()
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise ConfigError(f"resume.folder: {path} wants {KEY_BYTES} bytes, has {len(key)}")
    return key
