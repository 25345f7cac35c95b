"""What a client sent and the engine has not taken yet: bounded, in order, shared by two threads."""

import threading
from collections import deque
from dataclasses import dataclass

from audiomamba.errors import Overloaded

__all__ = ["InputRing", "Item", "Silence", "Skip"]

MAX_COMMANDS = 256
"""Flushes, gaps and the like that may wait; past it a client asks for more than it sends."""


@dataclass(frozen=True, slots=True)
class Silence:
    """Samples of nothing, to be heard."""

    samples: int


@dataclass(frozen=True, slots=True)
class Skip:
    """Time that passes unheard; ``lost`` where there was audio."""

    samples: int
    lost: bool


Item = bytes | Silence | Skip | object


class InputRing:
    """Audio and, between it, whatever has to happen in the same order.

    Args:
        capacity: Samples (of all channels) it may hold.
        frame_bytes: Bytes of one.
    """

    def __init__(self, capacity: int, frame_bytes: int) -> None:
        self._capacity = capacity
        self._frame_bytes = frame_bytes
        self._items: deque[bytearray | object] = deque()
        self._held = 0  # samples of audio
        self._lock = threading.Lock()

    @property
    def held(self) -> int:
        """Samples of audio that wait."""
        return self._held

    def lacks(self, samples: int) -> bool:
        """Whether so much audio is not there yet, and nothing else is, and there is room for it."""
        with self._lock:
            if self._held >= min(samples, self._capacity):
                return False
            return all(isinstance(item, bytearray) for item in self._items)

    def offer(self, audio: bytes) -> int:
        """Take as many whole samples of ``audio`` as there is room for; returns their bytes."""
        with self._lock:
            room = (self._capacity - self._held) * self._frame_bytes
            taken = audio[:room] if len(audio) > room else audio
            if not taken:
                return 0
            if self._items and isinstance(self._items[-1], bytearray):
                self._items[-1] += taken
            else:
                self._items.append(bytearray(taken))
            self._held += len(taken) // self._frame_bytes
            return len(taken)

    def put(self, command: object) -> None:
        """Queue something that is not audio.

        Raises:
            Overloaded: too many of them wait already.
        """
        with self._lock:
            if len(self._items) >= MAX_COMMANDS:
                raise Overloaded(f"{MAX_COMMANDS} requests wait already", retry_after_s=1.0)
            self._items.append(command)

    def drop_oldest(self, samples: int) -> int:
        """Replace the oldest audio by a skip of as many samples; returns how many."""
        with self._lock:
            for at, item in enumerate(self._items):
                if isinstance(item, bytearray):
                    gone = min(samples, len(item) // self._frame_bytes)
                    del item[: gone * self._frame_bytes]
                    self._held -= gone
                    self._note_loss(at, gone)
                    return gone
            return 0

    def take(self, samples: int) -> Item | None:
        """The next item; of audio and silence at most so many samples. None when empty."""
        with self._lock:
            if not self._items:
                return None
            head = self._items[0]
            if isinstance(head, bytearray):
                size = samples * self._frame_bytes
                taken = bytes(head[:size])
                del head[:size]  # cheap: a bytearray only moves its start
                self._held -= len(taken) // self._frame_bytes
                if not head:
                    self._items.popleft()
                return taken
            if isinstance(head, Silence) and head.samples > samples:
                self._items[0] = Silence(head.samples - samples)
                return Silence(samples)
            return self._items.popleft()

    def _note_loss(self, at: int, gone: int) -> None:
        """Put the skip before item ``at``, joined with one that is there already."""
        if not self._items[at]:
            del self._items[at]
        before = self._items[at - 1] if at else None
        if isinstance(before, Skip) and before.lost:
            self._items[at - 1] = Skip(before.samples + gone, lost=True)
        else:
            self._items.insert(at, Skip(gone, lost=True))
