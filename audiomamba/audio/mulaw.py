"""Mu-law companding to 256 classes in order of loudness: what waveform models predict.

Not the byte code of telephony (``pcm.decode(…, "mulaw")``, ITU-T G.711), which inverts its bits and
has two zeros: here class 0 is -1, class 255 is 1, and neighbours sound alike. 256 classes are also
what published likelihoods of raw-audio models count.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["CLASSES", "SILENCE", "compand", "expand"]

CLASSES = 256
SILENCE = 128
"""The class of 0.0; it expands to 8.5e-5, -81 dB."""

Samples = NDArray[np.float32]
Codes = NDArray[np.uint8]

_MU = CLASSES - 1


def _levels() -> Samples:
    y = np.linspace(-1.0, 1.0, CLASSES)
    levels: Samples = (np.sign(y) * np.expm1(np.abs(y) * np.log1p(_MU)) / _MU).astype(np.float32)
    levels.setflags(write=False)
    return levels


_LEVELS = _levels()


def compand(samples: Samples) -> Codes:
    """Classes of samples in -1..1, any shape; what is louder is clipped.

    Source: van den Oord et al., "WaveNet", 2016, section 2.2, with mu = 255.
    """
    x = np.clip(samples, -1.0, 1.0)
    y = np.sign(x) * np.log1p(_MU * np.abs(x)) / np.log1p(_MU)
    codes: Codes = np.floor((y + 1.0) * (_MU / 2) + 0.5).astype(np.uint8)
    return codes


def expand(codes: Codes) -> Samples:
    """The sample in -1..1 that each class stands for."""
    samples: Samples = _LEVELS[codes]
    return samples
