"""Batches of encoded rows with their labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audiomamba.errors import ConfigError
from audiomamba.training.delayed.encoded import Encoded
from audiomamba.training.ends.labels import quiet

__all__ = ["EndsBatch", "Rows"]


@dataclass(frozen=True, slots=True)
class EndsBatch:
    """Rows of frames, and what each of them should have said."""

    frames: Tensor  # (B, T, width) float32
    labels: Tensor  # (B, T, horizons) int8: 1, 0 or UNKNOWN
    seconds: float

    def tensors(self) -> Sequence[Tensor]:
        """All of it that may lie on the device."""
        return [self.frames, self.labels]


class Rows:
    """Batches by number.

    Args:
        parts: Encoded speech with its activity; rows of all parts are drawn alike.
        horizons_s: See :func:`quiet`.
        batch: Rows.
        frame_s: Seconds a frame.
        device: Where batches are made.
        seed: Of all that is drawn.

    Raises:
        ConfigError: there is nothing, the activity was not written down, or rows are of several
            lengths.
    """

    def __init__(
        self,
        parts: Sequence[Encoded],
        horizons_s: Sequence[float],
        *,
        batch: int,
        frame_s: float,
        device: torch.device,
        seed: int = 0,
    ) -> None:
        if not parts:
            raise ConfigError("data: nothing to train on; give data.encoded")
        if len({part.frames.shape[1] for part in parts}) > 1:
            raise ConfigError("data.encoded: rows must have one length")
        self._frames = [part.frames for part in parts]
        self._labels = [quiet(_activity(part), horizons_s, frame_s) for part in parts]
        self._places = [(part, row) for part, x in enumerate(self._frames) for row in range(len(x))]
        self._batch, self._frame_s, self._device, self._seed = batch, frame_s, device, seed

    def __len__(self) -> int:
        return len(self._places)

    def batch(self, number: int) -> EndsBatch:
        """Batch ``number``, from 0, of rows drawn for it."""
        draw = np.random.default_rng((self._seed, number))
        return self._of(draw.choice(len(self), min(self._batch, len(self)), replace=False).tolist())

    def each(self) -> list[EndsBatch]:
        """Every row once, a batch each."""
        return [self._of([row]) for row in range(len(self))]

    def _of(self, rows: Sequence[int]) -> EndsBatch:
        places = [self._places[row] for row in rows]
        frames = np.stack([self._frames[part][row] for part, row in places]).astype(np.float32)
        labels = np.stack([self._labels[part][row] for part, row in places])
        return EndsBatch(
            torch.from_numpy(frames).to(self._device),
            torch.from_numpy(labels).to(self._device),
            labels.shape[0] * labels.shape[1] * self._frame_s,
        )


def _activity(part: Encoded) -> NDArray[np.uint8]:
    if part.activity is None:
        raise ConfigError("data.encoded: has no activity.npy; encode it anew")
    return part.activity
