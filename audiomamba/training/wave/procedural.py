"""Sound made by rule, without end and without anybody's rights: bells, music and ambience.

*Bells*: the same broken chords as the music's, of decaying sine waves over a pad of slow ones, in
one tuning. What follows from the past is nearly all of it, so a small model learns it soonest.

*Music*: plucked strings (Karplus and Strong, "Digital Synthesis of Plucked-String and Drum
Timbres", 1983) in broken chords over a bass, after a plan of harmonies that takes half a minute to
come round. What a model must remember to go on is seconds and tens of seconds long.

*Ambience*: rain, wind and an engine that come and go: noise whose colour and strength drift.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from audiomamba.audio.mulaw import compand
from audiomamba.errors import ConfigError

__all__ = ["KINDS", "ambience", "codes_of", "make", "music", "pluck"]

Samples = NDArray[np.float32]
Random = np.random.Generator

_PLANS = (
    (("minor", 0), ("major", -4), ("major", 3), ("major", -2)),
    (("major", 0), ("minor", 9), ("major", 5), ("major", 7)),
    (("minor", 0), ("minor", 5), ("major", -2), ("major", 3)),
)
"""Chords of a round: kind, and semitones from the key."""
_THIRD = {"major": 4, "minor": 3}
_PATTERNS = ((0, 1, 2, 3, 2, 1), (0, 2, 1, 3), (0, 1, 2, 3, 4, 3, 2, 1), (0, 3, 2, 1))


def pluck(rng: Random, hz: float, seconds: float, sample_rate: int, *, damping: float) -> Samples:
    """One string: a burst of noise that goes round in a loop a period long and is smoothed.

    Args:
        rng: Where the burst comes from.
        hz: Pitch.
        seconds: Length.
        sample_rate: Hz.
        damping: In 0.5..1; what is left of a round, so that high strings die sooner.
    """
    samples = round(seconds * sample_rate)
    period = max(2, round(sample_rate / hz - 0.5))  # the smoothing delays by half a sample
    rounds = -(-samples // period)
    out = np.empty((rounds, period), np.float32)
    line = rng.uniform(-1, 1, period).astype(np.float32)
    line -= line.mean()
    for row in out:
        row[:] = line
        line = damping * 0.5 * (line + np.roll(line, 1))
    return out.reshape(-1)[:samples]


def music(rng: Random, seconds: float, sample_rate: int) -> Samples:
    """Broken chords over a bass, ``(n,)`` in -1..1."""
    out = np.zeros(round(seconds * sample_rate), np.float32)
    key, plan = 110.0 * 2 ** (rng.integers(0, 12) / 12), _PLANS[rng.integers(len(_PLANS))]
    pattern = _PATTERNS[rng.integers(len(_PATTERNS))]
    beat_s, chord_beats = rng.uniform(0.16, 0.3), 8 * int(rng.integers(2, 4))
    at, beat = 0.0, 0
    while at < seconds:
        kind, root = plan[beat // chord_beats % len(plan)]
        steps = (0, _THIRD[kind], 7, 12, 12 + _THIRD[kind])
        if beat % chord_beats == 0:
            bass_s = beat_s * chord_beats
            _add(out, pluck(rng, key * _up(root - 12), bass_s, sample_rate, damping=0.998),
                 at, 0.35, sample_rate)  # fmt: skip
        note = steps[pattern[beat % len(pattern)]]
        loud = rng.uniform(0.18, 0.3) * (1.2 if beat % 4 == 0 else 1.0)
        _add(out, pluck(rng, key * _up(root + note), beat_s * 4, sample_rate, damping=0.995),
             at, loud, sample_rate)  # fmt: skip
        at += beat_s * rng.normal(1, 0.01)
        beat += 1
    return np.clip(out, -1, 1)


def bells(rng: Random, seconds: float, sample_rate: int) -> Samples:
    """Broken chords of sine waves over a pad, ``(n,)`` in -1..1."""
    out = np.zeros(round(seconds * sample_rate), np.float32)
    key, plan = int(rng.integers(-5, 7)), _PLANS[rng.integers(len(_PLANS))]
    pattern = _PATTERNS[rng.integers(len(_PATTERNS))]
    beat_s, chord_beats = rng.uniform(0.2, 0.4), 8 * int(rng.integers(1, 3))
    at, beat = 0.0, 0
    while at < seconds:
        kind, root = plan[beat // chord_beats % len(plan)]
        root += key
        steps = (0, _THIRD[kind], 7, 12, 12 + _THIRD[kind])
        if beat % chord_beats == 0:
            for step in (-12, 0, _THIRD[kind], 7):
                _add(out, _swell(_hz(root + step), beat_s * chord_beats * 1.15, sample_rate),
                     at, 0.06, sample_rate)  # fmt: skip
        note = steps[pattern[beat % len(pattern)]]
        loud = 0.22 if beat % 4 == 0 else 0.17
        if rng.random() < 0.9:
            _add(out, _bell(_hz(root + 12 + note), beat_s * 8, sample_rate), at, loud, sample_rate)
        at += beat_s
        beat += 1
    return np.clip(out, -1, 1)


def ambience(rng: Random, seconds: float, sample_rate: int) -> Samples:
    """Rain, wind and an engine, each drifting, ``(n,)`` in -1..1."""
    n = round(seconds * sample_rate)
    white = rng.normal(0, 1, n).astype(np.float32)
    wind = _coloured(rng, n, sample_rate, 400.0) * (0.2 + 0.8 * _drift(rng, n, sample_rate, 4.0))
    rain = 0.15 * white * _drift(rng, n, sample_rate, 8.0)
    rain = rain + _drops(rng, n, sample_rate)
    speed = 25.0 + 30.0 * _drift(rng, n, sample_rate, 6.0)  # Hz of the engine
    phase = 2 * np.pi * np.cumsum(speed) / sample_rate
    engine = sum(np.sin(k * phase) / k for k in range(1, 9)) * _drift(rng, n, sample_rate, 15.0)
    mixed = 0.25 * wind + rain + 0.12 * engine
    return np.clip(mixed, -1, 1).astype(np.float32)


KINDS: dict[str, Callable[[Random, float, int], Samples]] = {
    "ambience": ambience,
    "bells": bells,
    "music": music,
}


def make(kind: str, seed: int, seconds: float, sample_rate: int) -> Samples:
    """A piece of a kind; the same seed gives the same piece.

    Raises:
        ConfigError: no such kind.
    """
    if kind not in KINDS:
        raise ConfigError(f"data.made.kinds: no {kind!r}; there are {', '.join(KINDS)}")
    return KINDS[kind](
        np.random.default_rng([sorted(KINDS).index(kind), seed]), seconds, sample_rate
    )


def codes_of(piece: tuple[str, int], *, seconds: float, sample_rate: int) -> NDArray[np.uint8]:
    """Classes of samples of the piece of a kind and a seed; other processes call it."""
    return compand(make(*piece, seconds, sample_rate))


def _up(semitones: float) -> float:
    return float(2 ** (semitones / 12))


def _hz(semitones: float) -> float:
    """Pitch so far above the A below middle C."""
    return 220.0 * _up(semitones)


def _bell(hz: float, seconds: float, sample_rate: int) -> Samples:
    """Three partials; the higher one, the sooner gone."""
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    tone = np.zeros(len(t))
    for k, loud in ((1, 1.0), (2, 0.35), (3, 0.12)):
        if hz * k < 0.45 * sample_rate:
            tone += loud * np.sin(2 * np.pi * hz * k * t) * np.exp(-t * k / 0.6)
    rise = max(1, round(0.008 * sample_rate))
    tone[:rise] *= np.sin(np.linspace(0, np.pi / 2, rise)) ** 2
    return tone.astype(np.float32)


def _swell(hz: float, seconds: float, sample_rate: int) -> Samples:
    """A sine wave that comes and goes."""
    n = round(seconds * sample_rate)
    t = np.arange(n) / sample_rate
    return np.asarray(np.sin(2 * np.pi * hz * t) * np.sin(np.pi * np.arange(n) / n), np.float32)


def _add(out: Samples, note: Samples, at_s: float, loud: float, sample_rate: int) -> None:
    start = round(at_s * sample_rate)
    part = note[: max(0, len(out) - start)]
    fade = min(len(note), sample_rate // 100)
    out[start : start + len(part)] += (
        np.float32(loud) * part * _ending(len(note), fade)[: len(part)]
    )


def _ending(n: int, fade: int) -> Samples:
    """Ones that fall to zero over the last samples: a string that is damped makes no click."""
    envelope = np.ones(n, np.float32)
    envelope[n - fade :] = np.linspace(1, 0, fade, dtype=np.float32)
    return envelope


def _drift(rng: Random, n: int, sample_rate: int, every_s: float) -> Samples:
    """A curve in 0..1 that takes about ``every_s`` from one turn to the next."""
    knots = max(2, round(n / sample_rate / every_s) + 2)
    places = np.linspace(0, knots - 1, n)
    return np.interp(places, np.arange(knots), rng.uniform(0, 1, knots)).astype(np.float32)


def _coloured(rng: Random, n: int, sample_rate: int, corner_hz: float) -> Samples:
    """Noise that falls with frequency above a corner, of deviation 1."""
    spectrum = np.fft.rfft(rng.normal(0, 1, n))
    spectrum /= 1 + (np.fft.rfftfreq(n, 1 / sample_rate) / corner_hz) ** 2
    noise = np.fft.irfft(spectrum, n)
    level: Samples = (noise / noise.std()).astype(np.float32)
    return level


def _drops(rng: Random, n: int, sample_rate: int) -> Samples:
    """Single drops: short decaying clicks, some ten a second."""
    out = np.zeros(n, np.float32)
    decay = np.exp(-np.arange(sample_rate // 50) / (sample_rate * 0.002)).astype(np.float32)
    for start in rng.integers(0, n, max(1, 12 * n // sample_rate)):
        part = decay[: n - start]
        out[start : start + len(part)] += rng.uniform(0.02, 0.2) * part * rng.choice((-1, 1))
    return out
