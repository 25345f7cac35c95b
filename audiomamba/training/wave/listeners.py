"""Recognisers as judges of single words."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from audiomamba.audio.resample import resample
from audiomamba.text.normalize import normalize
from audiomamba.training.peers import Recognize

__all__ = ["heard_right"]

RATE = 16_000  # Hz of what recognisers hear
MARGIN_S = 0.3  # of silence before and after: words cut tightly are nobody's training


def heard_right(
    recognize: Recognize,
    sounds: Sequence[NDArray[np.float32]],
    labels: Sequence[str | None],
    sample_rate: int,
) -> float:
    """Share of ``sounds`` of which a recogniser says the one word of their label, and no other."""
    margin = np.zeros(round(MARGIN_S * RATE), np.float32)
    right = 0
    for sound, label in zip(sounds, labels, strict=True):
        heard = np.concatenate([margin, resample(sound, sample_rate, RATE), margin])
        right += normalize(recognize(heard)) == label
    return right / max(len(sounds), 1)
