"""SpecAugment: bands and stretches of the features are hidden.

Source: Park et al., "SpecAugment", 2019 (masks), and "SpecAugment on large scale datasets", 2020
(their number by the length of the row).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["hide", "plan_bands", "plan_stretches"]

BANDS, WIDEST_BAND = 2, 27
LONGEST_STRETCH = 64  # frames of 10 ms


def plan_bands(
    rng: np.random.Generator, rows: int, bins: int, strength: float
) -> NDArray[np.bool_]:
    """Bins to hide, ``(B, bins)`` bool: two bands of up to 27 bins at full strength."""
    return _spans(rng, rows, BANDS, bins, WIDEST_BAND * strength)


def plan_stretches(
    rng: np.random.Generator, rows: int, frames: int, share: float, strength: float
) -> NDArray[np.bool_]:
    """Frames to hide, ``(B, F)`` bool: so many stretches that they add up to ``share`` of the row.

    At full strength a stretch is up to 0.64 s long, however long the row: what is hidden shall be a
    word that can be guessed, not a sentence that cannot.
    """
    count = round(share * frames / (LONGEST_STRETCH / 2))
    return _spans(rng, rows, count, frames, min(LONGEST_STRETCH, frames) * strength)


def _spans(
    rng: np.random.Generator, rows: int, count: int, length: int, widest: float
) -> NDArray[np.bool_]:
    widths = np.floor(rng.random((rows, count)) * (widest + 1)).astype(np.int64)
    starts = np.floor(rng.random((rows, count)) * (length - widths + 1)).astype(np.int64)
    # +1 where a span opens, -1 where it closes; the running sum says how many are open.
    edges = np.zeros((rows, length + 1), np.int16)
    row = np.repeat(np.arange(rows), count)
    np.add.at(edges, (row, starts.ravel()), 1)
    np.add.at(edges, (row, (starts + widths).ravel()), -1)
    return edges[:, :-1].cumsum(axis=1) > 0


def hide(features: Tensor, stretches: Tensor, bands: Tensor, value: Tensor) -> Tensor:
    """Features with the planned parts replaced.

    Args:
        features: ``(B, F, bins)``.
        stretches: ``(B, F)`` bool.
        bands: ``(B, bins)`` bool.
        value: What stands there instead, ``(bins,)``, for example the mean of each bin.
    """
    hidden = stretches[:, :, None] | bands[:, None, :]
    return torch.where(hidden, value, features)
