"""Rows of text, cut where sentences begin; the same for the same number."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from audiomamba.errors import ConfigError
from audiomamba.text.ngram import BOUNDARY
from audiomamba.training.language.config import LanguageDataConfig
from audiomamba.training.language.pieces import Pieces

__all__ = ["Rows", "TextBatch"]


class TextBatch(NamedTuple):
    """What one step trains on."""

    inputs: Tensor  # (B, T) int64: the piece before each target
    targets: Tensor  # (B, T) int64
    resets: Tensor  # (B, T) bool: nothing before is remembered
    seconds: float = 0.0  # of audio, of which there is none

    def tensors(self) -> list[Tensor]:
        """All of it that may lie on the device."""
        return list(self[:3])


class Rows:
    """Batches by number.

    A row begins where a sentence does and goes on to the next ones, which follow in the book. Some
    of them forget what was before, as a recogniser's utterance does; the others may learn from it.

    Args:
        texts: Arrays of pieces.
        data: How rows are cut.
        device: Where batches are made.
        seed: Of all that is drawn.

    Raises:
        ConfigError: there is no text, or one is shorter than a row.
    """

    def __init__(
        self,
        texts: Sequence[Pieces],
        data: LanguageDataConfig,
        *,
        device: torch.device,
        seed: int = 0,
    ) -> None:
        if not texts:
            raise ConfigError("data: no text to train on; give data.pieces")
        self._texts, self._data, self._device, self._seed = texts, data, device, seed
        self._starts = [
            np.flatnonzero(text[: max(0, len(text) - data.length)] == BOUNDARY) for text in texts
        ]
        for i, starts in enumerate(self._starts):
            if not len(starts):
                raise ConfigError(f"{data.pieces[i]}: is shorter than a row of {data.length}")
        weights = np.array(data.weights or [1.0] * len(texts)) * [len(text) for text in texts]
        self._weights = weights / weights.sum()

    def batch(self, number: int) -> TextBatch:
        """Batch ``number``, from 0."""
        data = self._data
        draw = np.random.default_rng((self._seed, number))
        rows = []
        for which in draw.choice(len(self._texts), data.batch, p=self._weights):
            start = draw.choice(self._starts[which])
            rows.append(self._texts[which][start : start + data.length + 1])
        pieces = np.stack(rows).astype(np.int64)
        resets = pieces[:, :-1] == BOUNDARY
        resets &= draw.random(resets.shape) < data.fresh_share
        text, fresh = (torch.from_numpy(part).to(self._device) for part in (pieces, resets))
        return TextBatch(text[:, :-1], text[:, 1:], fresh)
