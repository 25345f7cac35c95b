"""Impulse responses of rooms: made ones, and the recorded ones that a corpus holds.

A made room is a shoebox. Its early part is the direct sound and the reflections of low order, each
at the delay and strength that its mirror image has; its late part is noise that dies away, the high
band faster than the low one. The direct sound is sample 0, so that speech stays where it was.

Source: Allen and Berkley, "Image method for efficiently simulating small-room acoustics", 1979.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from audiomamba.training.corpus import SAMPLE_RATE, Corpus

__all__ = ["ROOM_TAPS", "room_bank"]

ROOM_TAPS = 7680  # samples, 0.48 s

_SPEED = 343.0  # of sound, m/s
_ORDER = 2  # mirror images along each axis, both ways
_SHORTEST_S, _LONGEST_S = 0.1, 0.9  # reverberation time: down by 60 dB
_MIXING_S = 0.02  # where the diffuse part begins to build up
_ROOM_SOURCE = "room"


def room_bank(corpora: Sequence[Corpus], *, count: int = 500, seed: int = 0) -> NDArray[np.float32]:
    """Responses with unit energy; row 0 is no room at all.

    Args:
        corpora: Their utterances of the source ``room`` are taken, ten times each.
        count: How many are made.
        seed: For those.

    Returns:
        ``(R, ROOM_TAPS)``.
    """
    rng = np.random.default_rng(seed)
    dry = np.zeros(ROOM_TAPS, np.float32)
    dry[0] = 1.0
    recorded = [_aligned(u.audio) for c in corpora for u in c if u.source == _ROOM_SOURCE]
    made = [_shoebox(rng) for _ in range(count)]
    return np.stack([dry, *(recorded * 10), *made]).astype(np.float32)


def _aligned(audio: NDArray[np.int16]) -> NDArray[np.float32]:
    """A recorded response from its direct sound on, cut to length."""
    start = int(np.argmax(np.abs(audio.astype(np.int32))))
    response = np.zeros(ROOM_TAPS, np.float32)
    kept = audio[start : start + ROOM_TAPS].astype(np.float32)
    response[: len(kept)] = kept
    response /= np.sqrt(np.sum(response**2))
    return response


def _shoebox(rng: np.random.Generator) -> NDArray[np.float32]:
    size = rng.uniform([2.5, 2.5, 2.2], [9.0, 8.0, 4.0])
    source, ear = rng.uniform(0.15, 0.85, (2, 3)) * size
    rt60 = rng.uniform(_SHORTEST_S, _LONGEST_S)
    early = _early(size, source, ear, rt60)
    time = np.arange(ROOM_TAPS) / SAMPLE_RATE
    rise = 1.0 - np.exp(-time / _MIXING_S)
    white = rng.standard_normal(ROOM_TAPS)
    low = np.convolve(white, np.ones(5) / 5, mode="same")
    decay = 10.0 ** (-3.0 * time / rt60)
    faster = 10.0 ** (-3.0 * time / (rt60 * rng.uniform(0.4, 0.9)))
    late = rise * (low * decay + (white - low) * faster)
    ratio = 10 ** (rng.uniform(0.0, 20.0) / 10)  # energy, early to late
    late *= np.sqrt(np.sum(early**2) / (ratio * np.sum(late**2)))
    response = early + late
    scaled: NDArray[np.float32] = (response / np.sqrt(np.sum(response**2))).astype(np.float32)
    return scaled


def _early(
    size: NDArray[np.float64], source: NDArray[np.float64], ear: NDArray[np.float64], rt60: float
) -> NDArray[np.float64]:
    """Direct sound and low reflections, the direct sound at sample 0 with strength 1."""
    volume, surface = size.prod(), 2 * (size[0] * size[1] + size[1] * size[2] + size[0] * size[2])
    absorbed = min(0.161 * volume / (surface * rt60), 0.95)  # Sabine
    reflected = np.sqrt(1.0 - absorbed)
    steps = np.arange(-_ORDER, _ORDER + 1)
    order = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    odd = order % 2 == 1
    images = order * size + np.where(odd, size - source, source)  # (I, 3)
    distance = np.maximum(np.linalg.norm(images - ear, axis=1), 0.1)
    nearest = np.linalg.norm(source - ear).clip(min=0.1)
    strength = nearest / distance * reflected ** np.abs(order).sum(axis=1)
    delay = np.rint((distance - nearest) / _SPEED * SAMPLE_RATE).astype(np.int64)
    early = np.zeros(ROOM_TAPS)
    kept = (delay >= 0) & (delay < ROOM_TAPS)
    np.add.at(early, delay[kept], strength[kept])
    return early
