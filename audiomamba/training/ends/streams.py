"""One long recording of sentences with pauses between them, and when each of them ended."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audiomamba.training.clips import Clip

__all__ = ["RATE", "Said", "disturb", "join", "speech_span"]

RATE = 16_000  # Hz
Samples = NDArray[np.float32]

_FRAME = RATE // 50  # 20 ms
_QUIET = 10**-2.5  # of the loudest frame's power: what is below it at a clip's ends is no speech
_AFTER_S = 3.0  # after the last sentence, for whatever still comes


@dataclass(frozen=True, slots=True)
class Said:
    """A sentence of the recording, in seconds from its first sample: from speech to speech."""

    clip: Clip
    start: float
    end: float


def speech_span(samples: Samples) -> tuple[int, int]:
    """First and last sample, the latter not included, of what is loud enough to be speech."""
    power = _power(samples)
    loud = np.flatnonzero(power > power.max(initial=0.0) * _QUIET)
    if not len(loud):
        return 0, len(samples)
    return int(loud[0]) * _FRAME, min(len(samples), (int(loud[-1]) + 1) * _FRAME)


def join(
    clips: Sequence[Clip], *, shortest_s: float, longest_s: float, seed: int = 0
) -> tuple[Samples, list[Said]]:
    """All clips once, in a new order, with pauses of ``shortest_s`` to ``longest_s`` in between.

    From the end of speech to the beginning of speech, that is: of a clip's own silence as much is
    taken as fits. A pause hisses as loudly as the clip before it does in its quietest tenth, for a
    recording that turned to digital silence would give its ends away.

    Args:
        clips: At least one.
        shortest_s: Seconds.
        longest_s: The same.
        seed: Of order, pauses and noise.

    Returns:
        Samples ``(S,)`` at 16 kHz in -1..1, and the sentences in their order.
    """
    random = np.random.default_rng(seed)
    parts: list[Samples] = [_hiss(random, clips[0].samples, RATE)]
    said: list[Said] = []
    at = RATE
    for i in random.permutation(len(clips)):
        clip = clips[int(i)]
        begin, end = speech_span(clip.samples)
        pause = round(random.uniform(shortest_s, longest_s) * RATE)
        kept = clip.samples[begin : end + pause // 2]
        said.append(Said(clip, at / RATE, (at + end - begin) / RATE))
        rest = end - begin + pause - len(kept)
        parts += [kept, _hiss(random, clip.samples, rest)]
        at += len(kept) + rest
    parts.append(_hiss(random, clips[-1].samples, round(_AFTER_S * RATE)))
    return np.concatenate(parts), said


def disturb(samples: Samples, said: Sequence[Said], ratio_db: float, *, seed: int = 0) -> Samples:
    """White noise under all of a recording, sentences and pauses alike.

    Args:
        samples: ``(S,)``.
        said: Its sentences; the noise is by ``ratio_db`` weaker than they are on average.
        ratio_db: Decibels.
        seed: Of the noise.
    """
    speech = [samples[round(one.start * RATE) : round(one.end * RATE)] for one in said]
    level = np.sqrt(np.mean(np.square(np.concatenate(speech)))) * 10 ** (-ratio_db / 20)
    noise = np.random.default_rng(seed).standard_normal(len(samples), np.float32)
    return samples + np.float32(level) * noise


def _power(samples: Samples) -> NDArray[np.float64]:
    """Mean square of each 20 ms, the last one filled up with zeros."""
    padded = np.pad(samples.astype(np.float64), (0, -len(samples) % _FRAME))
    power: NDArray[np.float64] = np.square(padded).reshape(-1, _FRAME).mean(1)
    return power


def _hiss(random: np.random.Generator, like: Samples, count: int) -> Samples:
    level = np.sqrt(np.quantile(_power(like), 0.1)) if len(like) else 0.0
    return (level * random.standard_normal(count)).astype(np.float32)
