"""What is mixed under speech: recordings, and noises made from numbers."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from audiomamba.training.corpus import SAMPLE_RATE, Corpus

__all__ = ["NOISE_SOURCES", "noise_bank"]

NOISE_SOURCES = ("noise", "music")

_MADE_SECONDS = 30
_SLOPES_DB = (0.0, -3.0, -6.0, 3.0)  # an octave: white, pink, brown, blue
_MAINS_HZ = (50.0, 60.0, 120.0)
_HARMONICS = 12


def noise_bank(corpora: Sequence[Corpus], *, seed: int = 0) -> NDArray[np.float32]:
    """One long strip of noise, every piece of it at the same level.

    Args:
        corpora: Their utterances of the sources ``noise`` and ``music`` are taken.
        seed: For the noises that are made: coloured noise, and the hum of mains.

    Returns:
        ``(S,)`` with a root mean square of 1 in each piece.
    """
    rng = np.random.default_rng(seed)
    recorded = [u.audio.astype(np.float32) for c in corpora for u in c if u.source in NOISE_SOURCES]
    made = [_coloured(rng, slope) for slope in _SLOPES_DB] + [_hum(rng, hz) for hz in _MAINS_HZ]
    pieces = [piece / np.sqrt(np.mean(piece**2)) for piece in recorded + made if np.any(piece)]
    return np.concatenate(pieces).astype(np.float32)


def _coloured(rng: np.random.Generator, slope_db: float) -> NDArray[np.float32]:
    count = _MADE_SECONDS * SAMPLE_RATE
    spectrum = np.fft.rfft(rng.standard_normal(count))
    hz = np.fft.rfftfreq(count, 1 / SAMPLE_RATE)
    octaves = np.log2(np.maximum(hz, 40.0) / 1000.0)
    return np.fft.irfft(spectrum * 10 ** (slope_db * octaves / 20), count).astype(np.float32)


def _hum(rng: np.random.Generator, hz: float) -> NDArray[np.float32]:
    """A mains tone with its harmonics, over a faint hiss."""
    time = np.arange(_MADE_SECONDS * SAMPLE_RATE) / SAMPLE_RATE
    wave = 0.01 * rng.standard_normal(len(time))
    for harmonic in range(1, _HARMONICS + 1):
        phase, weight = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 1.0) / harmonic
        wave += weight * np.sin(2 * np.pi * hz * harmonic * time + phase)
    return wave.astype(np.float32)
