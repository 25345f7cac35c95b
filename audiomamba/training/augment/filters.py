"""Filtering of many rows at once, each by its own response, by overlapping blocks of one length.

Source: the overlap-save method, Oppenheim and Schafer, "Discrete-Time Signal Processing", 8.7.
"""

from math import log

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from audiomamba.training.augment.rooms import ROOM_TAPS
from audiomamba.training.corpus import SAMPLE_RATE

__all__ = ["BLOCK_TAPS", "channel_response", "convolve", "plan_channels", "spectra"]

BLOCK_TAPS = 16_384
_AHEAD = 512  # taps before time zero that a channel's response may have
_STEP = BLOCK_TAPS - ROOM_TAPS - _AHEAD

_TELEPHONE_HZ = (300.0, 3400.0)
_TILT_DB = 6.0
_OCTAVES = 3.0  # from 1 kHz, where a tilt has no effect, to the top
_UPPER_KNEE_HZ, _LOWER_KNEE_HZ = 120.0, 30.0  # how soft the edges of a band are
_OPEN_HZ = 1e5  # an edge that is not there


def spectra(responses: NDArray[np.float32]) -> NDArray[np.complex64]:
    """Spectra ``(R, BLOCK_TAPS / 2 + 1)`` of responses ``(R, taps)``, at most ``ROOM_TAPS``."""
    return np.fft.rfft(responses, BLOCK_TAPS).astype(np.complex64)


def convolve(samples: Tensor, response: Tensor) -> Tensor:
    """Filter each row by its own response; sample 0 of a response stays where it was.

    Args:
        samples: ``(B, S)`` float32.
        response: ``(B, BLOCK_TAPS / 2 + 1)``, complex, or real for a response without delay.

    Returns:
        ``(B, S)``; what rings on past the end is cut.
    """
    S = samples.shape[1]
    blocks = -(-S // _STEP)
    padded = F.pad(samples, (ROOM_TAPS, blocks * _STEP - S + _AHEAD))
    spectrum = torch.fft.rfft(padded.unfold(1, BLOCK_TAPS, _STEP))  # (B, blocks, bins)
    filtered: Tensor = torch.fft.irfft(spectrum.mul_(response[:, None]), BLOCK_TAPS)
    return filtered[..., ROOM_TAPS : ROOM_TAPS + _STEP].reshape(len(samples), -1)[:, :S]


def plan_channels(rng: np.random.Generator, rows: int, strength: float) -> NDArray[np.float32]:
    """Draw microphones and lines: a tilt, and often a band.

    A third of the rows gets the band of a telephone, a third a random low-pass, a third the tilt
    alone.

    Returns:
        ``(B, 3)``: tilt in dB an octave, lower and upper edge of the band in Hz.
    """
    tilt = rng.uniform(-_TILT_DB, _TILT_DB, rows) * strength / _OCTAVES
    kind = rng.random(rows)
    top = np.exp(rng.uniform(np.log(2500.0), np.log(7500.0), rows))
    top = np.where(kind < 1 / 3, _TELEPHONE_HZ[1], np.where(kind < 2 / 3, top, _OPEN_HZ))
    bottom = np.where(kind < 1 / 3, _TELEPHONE_HZ[0], -_OPEN_HZ)
    return np.stack([tilt, bottom, top], 1).astype(np.float32)


def channel_response(channels: Tensor) -> Tensor:
    """Gains ``(B, BLOCK_TAPS / 2 + 1)`` of planned channels ``(B, 3)``."""
    tilt, bottom, top = channels[:, :, None].unbind(1)  # (B, 1) each
    hz = torch.linspace(0, SAMPLE_RATE / 2, BLOCK_TAPS // 2 + 1, device=channels.device)
    octaves = (hz.clamp(min=62.5) / 1000).log2_()
    upper = torch.sigmoid((top - hz) / _UPPER_KNEE_HZ)
    lower = torch.sigmoid((hz - bottom) / _LOWER_KNEE_HZ)
    return (tilt * octaves / 20 * log(10)).exp_() * upper * lower
