"""The native engine: states in one array, a row a slot; torch is never imported.

The array is memory of its own, in which a row begins a page: a slot that is not in use holds none.
"""

import mmap
import sys
from collections.abc import Sequence

import numpy as np

from audiomamba.errors import StateError
from audiomamba.models.native import NativeTranscriber
from audiomamba.models.transcriber_config import FACTOR
from audiomamba.streaming.engine.model import FloatArray

__all__ = ["NativeStepModel"]

FRAME_S = 0.04
BEST_BATCH = 8
"""More save 3 % of the time at most (32: 1.75 ms a stream and block, 8: 1.8), and take memory."""
FULL = 4
"""Encoder frames of a step where more wait: a frame costs a quarter less than in steps of two."""


class NativeStepModel:
    """A :class:`~audiomamba.streaming.engine.model.StepModel` over the native engine.

    Args:
        model: The engine.
        slots: Streams at once.
        block: Encoder frames a step (40 ms each).
        checkpoint: Digest of the checkpoint, in hexadecimal: says which snapshots fit.
    """

    kind = "native"

    def __init__(
        self, model: NativeTranscriber, *, slots: int, block: int = 4, checkpoint: str
    ) -> None:
        self._model = model
        floats = model.state_floats
        self._row_bytes = -(-floats * 4 // mmap.PAGESIZE) * mmap.PAGESIZE
        self._memory = mmap.mmap(
            -1, (slots + 1) * self._row_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        )
        rows = np.frombuffer(self._memory, np.float32).reshape(slots + 1, self._row_bytes // 4)
        self._states = rows[:, :floats]
        self._digest = bytes.fromhex(checkpoint)
        self.slots = slots
        self.best_batch = min(BEST_BATCH, slots)
        self.num_mel_bins = model.bins
        self.frames_per_block = block * FACTOR
        self.most_blocks = max(1, FULL // block)
        self.block_s = block * FRAME_S
        self.state_bytes = int(self._states[0].nbytes)
        self.fingerprint = f"native-{self.state_bytes}-{self._digest.hex()}"

    def step(self, features: FloatArray, slots: Sequence[int]) -> FloatArray:
        # No fixed batch sizes are needed here: padding, the null slot, is left out.
        rows = [row for row, slot in enumerate(slots) if slot]
        frames = features.shape[1] // FACTOR
        out = np.zeros((len(slots), frames, self._model.outputs), np.float32)
        if rows:
            at = np.array([slots[row] for row in rows], np.intp)
            out[rows] = self._model.transcribe(features[rows], self._states, at)
        return out

    def reset(self, slot: int) -> None:
        if (
            sys.platform == "linux"
        ):  # where pages that are given back are zeros when they come again
            at = slot * self._row_bytes
            self._memory.madvise(mmap.MADV_DONTNEED, at, self._row_bytes)
        else:
            self._states[slot] = 0.0

    def save(self, slot: int) -> bytes:
        row: bytes = self._states[slot].tobytes()
        return self._digest + row

    def load(self, slot: int, snapshot: bytes) -> None:
        size = len(self._digest)
        if snapshot[:size] != self._digest or len(snapshot) != size + self.state_bytes:
            raise StateError("snapshot is damaged, or belongs to another model")
        self._states[slot] = np.frombuffer(snapshot[size:], np.float32)
