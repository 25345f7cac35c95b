"""What sound is like as it runs on: how loud, noisy, saturated, silent, steady; in constant memory.

The same running means are taken of what a model was trained on, whose extremes its checkpoint
keeps (:class:`SoundStatistics`), and of what it makes (guard.py compares the two). One step is a
block of about a tenth of a second; the spectrum's mean fades over :data:`FADE_S`, so that one
hissed consonant among vowels is not noise and a second of nothing else is.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audiomamba.audio.mulaw import CLASSES, expand

__all__ = [
    "FADE_S", "SILENCE_DB", "Readings", "Running", "SoundStatistics", "block_samples", "measure",
]  # fmt: skip

FADE_S = 0.3  # of the running means
LONG_S = 2.0  # of that which tells lasting noise from a hissed consonant
SILENCE_DB = -60.0  # a block below this is silent
QUIET_DB = -50.0  # sound below this is neither noise nor speech: its colour is not judged
FFT = 256
STEADY_DB, STEADY_SHARE = 1.0, 0.1  # a block as loud and as coloured as the one before it
LOUDEST = 2  # classes at either end that count as full scale

Codes = NDArray[np.uint8]
Floats = NDArray[np.float64]


@dataclass(kw_only=True, slots=True)
class SoundStatistics:
    """The extremes of what a model was trained on; part of its checkpoint's ``config.json``."""

    level_db: float = 0.0  # running loudness, of full scale
    flatness: float = 1.0  # running flatness of the spectrum, 0 a tone, 1 white noise
    long_flatness: float = 1.0  # the same over LONG_S; 1 where nothing learnt from was as long
    clipped: float = 1.0  # running share of samples at full scale
    silence_s: float | None = None  # longest silence where nothing is asked for; None: unlimited
    labelled_silence_s: float | None = None  # the same where a label is asked for
    steady_s: float | None = None  # longest sound that did not change; None: unlimited


class Readings(NamedTuple):
    """The running means of M streams after a block."""

    level_db: Floats  # (M,)
    flatness: Floats  # (M,); 0 where the sound is too quiet to tell
    long_flatness: Floats  # (M,); 0 until so much was heard
    clipped: Floats  # (M,)
    silent_s: Floats  # (M,) seconds of silence up to now
    steady_s: Floats  # (M,) seconds of sound up to now that did not change


def block_samples(sample_rate: int, period: int) -> int:
    """Samples of a block: at least a tenth of a second, whole frames, whole periods of a model."""
    whole = math.lcm(FFT, period)
    return -(-(sample_rate // 10) // whole) * whole


class Running:
    """The running means of M streams.

    Args:
        streams: M.
        block: Samples of a block, from :func:`block_samples`.
        sample_rate: Hz.
    """

    def __init__(self, streams: int, block: int, sample_rate: int) -> None:
        self.block_s = block / sample_rate
        self._fade, self._long_fade = (math.exp(-self.block_s / s) for s in (FADE_S, LONG_S))
        self._window = np.hanning(FFT + 1)[:-1]
        # Of white noise at full power the spectrum's mean is then 1.
        self._window /= math.sqrt(float(np.square(self._window).sum()))
        self.spectrum = np.zeros((streams, FFT // 2 + 1))
        self.long_spectrum = np.zeros((streams, FFT // 2 + 1))
        self.heard_s = np.zeros(streams)
        self.clipped = np.zeros(streams)
        self.silent_s = np.zeros(streams)
        self.steady_s = np.zeros(streams)
        self.before = np.zeros((streams, FFT // 2 + 1))  # spectrum of the last block

    def add(self, codes: Codes, streams: NDArray[np.intp] | None = None) -> Readings:
        """Take a block ``(m, block)`` of each of ``streams (m,)``, or of all."""
        rows = np.arange(len(self.clipped)) if streams is None else streams
        sound = expand(codes).astype(np.float64)
        frames = sound.reshape(len(codes), -1, FFT) * self._window
        power = np.square(np.abs(np.fft.rfft(frames))).mean(1)
        self.spectrum[rows] += (1 - self._fade) * (power - self.spectrum[rows])
        kept = self.long_spectrum[rows]
        self.long_spectrum[rows] += (1 - self._long_fade) * (power - kept)
        self.heard_s[rows] += self.block_s
        ends = (codes < LOUDEST) | (codes >= CLASSES - LOUDEST)
        self.clipped[rows] += (1 - self._fade) * (ends.mean(1) - self.clipped[rows])
        silent = _db(np.square(sound).mean(1)) < SILENCE_DB
        self.silent_s[rows] = np.where(silent, self.silent_s[rows] + self.block_s, 0.0)
        steady = ~silent & _alike(self.before[rows], power)
        self.steady_s[rows] = np.where(steady, self.steady_s[rows] + self.block_s, 0.0)
        self.before[rows] = power
        return self._readings(rows)

    def forget(self, stream: int) -> None:
        """As if nothing of a stream had been heard."""
        for array in self.dump().values():
            array[stream] = 0.0

    def dump(self) -> dict[str, Floats]:
        """The means themselves, a row a stream."""
        return {
            "spectrum": self.spectrum, "long_spectrum": self.long_spectrum,
            "heard_s": self.heard_s, "clipped": self.clipped, "silent_s": self.silent_s,
            "steady_s": self.steady_s, "before": self.before,
        }  # fmt: skip

    def _readings(self, rows: NDArray[np.intp]) -> Readings:
        level, flatness = _colour(self.spectrum[rows])
        _, lasting = _colour(self.long_spectrum[rows])
        lasting = np.where(self.heard_s[rows] >= LONG_S, lasting, 0.0)
        others = (self.clipped[rows], self.silent_s[rows], self.steady_s[rows])
        return Readings(level, flatness, lasting, *others)


def measure(sounds: Iterable[Codes], sample_rate: int, period: int) -> SoundStatistics:
    """The extremes of recordings ``(n,)``, whose last block may be cut short by silence.

    ``silence_s`` is the longest silence inside of one of them, ``labelled_silence_s`` is left open.
    """
    block = block_samples(sample_rate, period)
    rows: list[Readings] = []
    for codes in sounds:
        running = Running(1, block, sample_rate)
        whole = len(codes) // block * block
        parts = [codes[start : start + block] for start in range(0, whole, block)]
        if whole < len(codes):
            rest = np.full(block, CLASSES // 2, np.uint8)
            rest[: len(codes) - whole] = codes[whole:]
            parts.append(rest)
        rows += [running.add(part[None]) for part in parts]
    if not rows:
        return SoundStatistics()
    columns = [np.concatenate(column) for column in zip(*rows, strict=True)]
    # The largest, not nearly so: what is rare in slow sound lasts for seconds when it comes.
    level, flatness, lasting, clipped = (round(float(c.max()), 4) for c in columns[:4])
    silence, steady = (round(float(c.max()), 3) for c in columns[4:])
    return SoundStatistics(
        level_db=level,
        flatness=flatness,
        long_flatness=lasting or 1.0,
        clipped=clipped,
        silence_s=silence,
        steady_s=steady,
    )


def _colour(spectrum: Floats) -> tuple[Floats, Floats]:
    """Loudness in dB and flatness, both ``(m,)``, of spectra ``(m, bins)``."""
    # Bins but the first and the last stand for two of the whole circle.
    level = _db((2 * spectrum.sum(1) - spectrum[:, 0] - spectrum[:, -1]) / FFT)
    inner = spectrum + 1e-12
    flatness = np.exp(np.log(inner).mean(1)) / inner.mean(1)
    return level, np.where(level > QUIET_DB, flatness, 0.0)


def _alike(before: Floats, power: Floats) -> NDArray[np.bool_]:
    """Whether spectra ``(m, bins)`` are as loud and of the same colour, ``(m,)``."""
    was, now = before.sum(1), power.sum(1)
    colours = [x / (total[:, None] + 1e-12) for x, total in ((before, was), (power, now))]
    moved = np.abs(colours[0] - colours[1]).sum(1) / 2
    same: NDArray[np.bool_] = (np.abs(_db(was) - _db(now)) < STEADY_DB) & (moved < STEADY_SHARE)
    return same


def _db(power: Floats) -> Floats:
    decibels: Floats = 10 * np.log10(power + 1e-12)
    return decibels
