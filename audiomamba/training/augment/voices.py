"""Other throats and other microphones, on the features: a row's formants moved, its colour changed.

Playing a recording faster moves formants, pitch and pace together; here formants move alone. Both
work on log-mel features, where they are two reads and an addition.

Source: Jaitly and Hinton, "Vocal Tract Length Perturbation improves speech recognition", 2013;
Nam et al., "FilterAugment", 2022 (random smooth filters, the linear kind).
"""

from math import log

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from audiomamba.audio.mel import MelConfig, hz_to_mel, mel_to_hz

__all__ = ["disguise", "plan_colours", "plan_warps"]

KNOTS = 6  # of a colour's curve, evenly spaced over the bins
_DB = log(10) / 10  # of a natural logarithm of power


def plan_warps(
    rng: np.random.Generator, rows: int, mel: MelConfig, widest: float
) -> NDArray[np.float32]:
    """Where each bin of a row is read, ``(B, bins)`` in bins: at ``factor`` times its frequency.

    Args:
        rng: Where all chance comes from.
        rows: ``B``.
        mel: Of the features.
        widest: Factors lie in ``1 / (1 + widest)`` to ``1 + widest``; 0 leaves all where it is.
    """
    low, high = (float(hz_to_mel(np.array(hz))) for hz in (mel.low_hz, mel.high_hz))
    step = (high - low) / (mel.bins + 1)
    centres = mel_to_hz(low + step * np.arange(1.0, mel.bins + 1))
    factors = np.exp(rng.uniform(-1, 1, (rows, 1)) * np.log1p(widest))
    places = (hz_to_mel(centres * factors) - low) / step - 1
    return np.clip(places, 0, mel.bins - 1).astype(np.float32)


def plan_colours(
    rng: np.random.Generator, rows: int, bins: int, deviation_db: float
) -> NDArray[np.float32]:
    """What is added to each bin of a row, ``(B, bins)``: a curve through random knots."""
    knots = rng.normal(0.0, deviation_db * _DB, (rows, KNOTS))
    place = np.linspace(0, KNOTS - 1, bins)
    left = np.minimum(place.astype(np.int64), KNOTS - 2)
    right = place - left
    curve = knots[:, left] * (1 - right) + knots[:, left + 1] * right
    return curve.astype(np.float32)


def disguise(features: Tensor, warps: Tensor, colours: Tensor) -> Tensor:
    """Features ``(B, F, bins)`` read at ``warps`` between bins, plus ``colours``, a row each."""
    left = warps.floor().clamp(max=features.shape[2] - 2)
    share = (warps - left)[:, None]
    index = left.long()[:, None].expand(features.shape)
    near, far = features.gather(2, index), features.gather(2, index + 1)
    return near.lerp_(far, share.expand(features.shape)).add_(colours[:, None])
