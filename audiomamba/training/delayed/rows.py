"""Batches of encoded speech and of its text some steps late; the same for the same number."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audiomamba.errors import ConfigError
from audiomamba.models.delayed_streams import NOTHING, DelayedStreamsConfig
from audiomamba.training.delayed.config import DelayedDataConfig
from audiomamba.training.delayed.encoded import Encoded

__all__ = ["DelayedBatch", "Rows", "delayed"]

_STRETCH = 16  # frames, the longest that is hidden at once


class DelayedBatch(NamedTuple):
    """What one step trains on."""

    encoded: Tensor  # (B, T stride, audio_width) float32
    before: Tensor  # (B, T) int64: the token of the step before, some of them wrong
    targets: Tensor  # (B, T) int64
    delay: Tensor  # (B,) int64, a position in the model's delays
    seconds: float  # of audio

    def tensors(self) -> list[Tensor]:
        """All of it that may lie on the device."""
        return list(self[:4])


def delayed(pieces: NDArray[np.integer], stride: int, delay: int) -> NDArray[np.int64]:
    """The text stream of a row: what each step writes.

    A piece that begins in frame ``f`` is written ``delay`` steps after the step that hears ``f``,
    or in the first step after the piece before it.

    Args:
        pieces: ``(T stride,)``, the piece that begins in each frame, 0 where none does.
        stride: Frames a step.
        delay: Steps.

    Returns:
        ``(T,)``, NOTHING where nothing is written; pieces past the end are left out.
    """
    at = np.flatnonzero(pieces)
    order = np.arange(len(at))
    steps = np.maximum.accumulate(at // stride + delay - order) + order
    text = np.full(len(pieces) // stride, NOTHING, np.int64)
    fits = steps < len(text)
    text[steps[fits]] = pieces[at[fits]]
    return text


class Rows:
    """Batches by number.

    Args:
        parts: Encoded speech; rows of all parts are drawn alike, and have one length.
        model: Stride and delays; each row is given one of the delays.
        data: How rows are disturbed.
        device: Where batches are made.
        frame_s: Seconds a frame.
        seed: Of all that is drawn.

    Raises:
        ConfigError: there is nothing, or rows are of several lengths.
    """

    def __init__(
        self,
        parts: Sequence[Encoded],
        model: DelayedStreamsConfig,
        data: DelayedDataConfig,
        *,
        device: torch.device,
        frame_s: float,
        seed: int = 0,
    ) -> None:
        if not parts:
            raise ConfigError("data: nothing to train on; give data.encoded")
        if len({part.frames.shape[1] for part in parts}) > 1:
            raise ConfigError("data.encoded: rows must have one length")
        self._parts, self._model, self._data = parts, model, data
        self._device, self._frame_s, self._seed = device, frame_s, seed
        self._ends = np.cumsum([len(part.frames) for part in parts])
        self._frames = parts[0].frames.shape[1] // model.stride * model.stride
        some = parts[0].frames[:: max(1, len(parts[0].frames) // 256)].astype(np.float32)
        self._mean = some.mean((0, 1))

    def batch(self, number: int) -> DelayedBatch:
        """Batch ``number``, from 0."""
        model, data = self._model, self._data
        draw = np.random.default_rng((self._seed, number))
        frames, pieces = self._take(draw.choice(self._ends[-1], data.batch))
        self._hide(frames, draw)
        delay = draw.choice(len(model.delays), data.batch)
        steps = [model.delays[position] for position in delay.tolist()]
        targets = np.stack(
            [delayed(row, model.stride, late) for row, late in zip(pieces, steps, strict=True)]
        )
        before = np.pad(targets[:, :-1], ((0, 0), (1, 0)), constant_values=NOTHING)
        wrong = draw.random(before.shape) < data.token_noise * np.where(before == NOTHING, 0.1, 1)
        # Half of what is wrong is a piece that was left out, half another piece.
        others = draw.integers(1, model.vocabulary, before.shape)
        others[draw.random(before.shape) < 0.5] = NOTHING
        before = np.where(wrong, others, before)
        seconds = data.batch * self._frames * self._frame_s
        return DelayedBatch(
            torch.from_numpy(frames).to(self._device),
            torch.from_numpy(before).to(self._device),
            torch.from_numpy(targets).to(self._device),
            torch.from_numpy(delay).to(self._device),
            seconds,
        )

    def _take(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
        frames, pieces = [], []
        for row in rows.tolist():
            part = int(np.searchsorted(self._ends, row, side="right"))
            inside = row - (int(self._ends[part - 1]) if part else 0)
            frames.append(self._parts[part].frames[inside, : self._frames])
            pieces.append(self._parts[part].pieces[inside, : self._frames])
        return np.stack(frames).astype(np.float32), np.stack(pieces)

    def _hide(self, frames: NDArray[np.float32], draw: np.random.Generator) -> None:
        """Stretches in which there is only the frames' mean; in place."""
        B, T, _ = frames.shape
        for row in range(B):
            count = draw.poisson(self._data.hidden_share * T / (_STRETCH / 2))
            for start, length in zip(
                draw.integers(0, T, count), draw.integers(1, _STRETCH, count), strict=True
            ):
                frames[row, start : start + length] = self._mean
