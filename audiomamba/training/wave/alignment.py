"""Where the parts of a word lie in each recording of it, so that a part is the same sound in all.

Equal parts are a flat start: in one recording the third of eight is still an *f*, in the next a
vowel, and a model that is told "third part" may go on with either. Here recordings of a word are
cut so that what lies in a part is as alike as it can be: each part has a mean of log-mel features,
each recording is divided where it is nearest to the means in their order (dynamic programming),
means are taken anew, and so on, from equal parts on.

Source: segmental k-means; Rabiner, Wilpon and Juang, "A segmental k-means training procedure for
connected word recognition", 1986, with one mean a part.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from audiomamba.audio.mel import MelConfig
from audiomamba.audio.mel_torch import log_mel
from audiomamba.audio.mulaw import expand
from audiomamba.training.wave.takes import Take, Word

__all__ = ["aligned", "divided"]

_ROUNDS = 10
_BINS = 24
_TOGETHER = 256  # recordings whose features are worked out at once
_LEAST = 2  # frames of a part
_FLOOR = 7.0  # below the loudest bin, in natural logarithms of power: 30 dB

Features = NDArray[np.float32]


def aligned(takes: Sequence[Take], parts: int, sample_rate: int) -> list[Take]:
    """The same recordings; those of one labelled word with where its parts begin.

    One that is too short for that keeps equal ones.

    Args:
        takes: All recordings of a word, of whomever, are made alike.
        parts: Of a word.
        sample_rate: Of the takes, Hz.
    """
    mel = MelConfig.at(sample_rate, _BINS)
    shortest = mel.window + (_LEAST * parts - 1) * mel.hop
    out = list(takes)
    by_label: dict[str, list[int]] = {}
    for number, take in enumerate(takes):
        if take.label is not None and not take.words and len(take.codes) >= shortest:
            by_label.setdefault(take.label, []).append(number)
    chosen = [number for own in by_label.values() for number in own]
    heard = dict(zip(chosen, _features([takes[number] for number in chosen], mel), strict=True))
    for label, own in by_label.items():
        starts = divided([heard[number] for number in own], parts)
        for number, begins in zip(own, starts.tolist(), strict=True):
            shares = tuple(begin / len(heard[number]) for begin in begins)
            word = Word(label, 0, len(takes[number].codes), shares)
            out[number] = replace(takes[number], words=(word,))
    return out


def divided(words: Sequence[Features], parts: int) -> NDArray[np.int64]:
    """At which frames the second and later parts begin, ``(n, parts - 1)``.

    Args:
        words: ``(T, bins)`` each, T at least two frames a part.
        parts: Of each.
    """
    lengths = np.array([len(word) for word in words])
    padded = np.zeros((len(words), lengths.max(), words[0].shape[1]), np.float32)
    for row, word in zip(padded, words, strict=True):
        row[: len(word)] = word
    frame = np.arange(lengths.max())
    inside = frame < lengths[:, None]
    part_of = np.where(inside, frame * parts // lengths[:, None], -1)
    for _ in range(_ROUNDS):
        means = np.stack([padded[part_of == part].mean(0) for part in range(parts)])
        spread = np.square(padded - means[part_of])[inside].mean(0) + 1e-6
        # What the square of the frame itself costs is the same in all parts.
        costs = np.square(means) @ (1 / spread) - 2 * padded @ (means / spread).T
        # A part is so many steps of the search, of a frame at least each.
        again = _cheapest(np.repeat(costs, _LEAST, -1), lengths)
        again = np.where(again < 0, -1, again // _LEAST)
        if np.array_equal(again, part_of):
            break
        part_of = again
    return np.stack([(part_of == part).argmax(1) for part in range(1, parts)], 1)


def _cheapest(costs: Features, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The part of each frame, ``(n, T)``, -1 past the end: all parts in order, each a frame at
    least; ``costs`` is ``(n, T, parts)``."""
    rows, frames, parts = costs.shape
    total = np.full((rows, parts), np.inf)
    total[:, 0] = costs[:, 0, 0]
    entered = np.zeros((rows, frames, parts), bool)
    for t in range(1, frames):
        before = np.concatenate([np.full((rows, 1), np.inf), total[:, :-1]], 1)
        entered[:, t] = before < total
        total = np.minimum(before, total) + costs[:, t]
    part_of = np.full((rows, frames), -1)
    part = np.full(rows, parts - 1)
    for t in reversed(range(frames)):
        inside = t < lengths
        part_of[inside, t] = part[inside]
        part -= inside & entered[np.arange(rows), t, part]
    return part_of


def _features(takes: Sequence[Take], mel: MelConfig) -> list[Features]:
    """Log-mel frames of each recording, every 10 ms, from its loudest bin down; of every speaker
    with the same mean and deviation of a bin, so that no part is one speaker's."""
    out: list[Features] = []
    for first in range(0, len(takes), _TOGETHER):
        some = takes[first : first + _TOGETHER]
        sounds = torch.zeros(len(some), max(len(take.codes) for take in some))
        for row, take in zip(sounds, some, strict=True):
            row[: len(take.codes)] = torch.from_numpy(expand(take.codes))
        for take, x in zip(some, log_mel(sounds, mel), strict=True):
            own = x[: 1 + (len(take.codes) - mel.window) // mel.hop]
            out.append((own - own.max()).clamp(min=-_FLOOR).numpy())
    for speaker in {take.speaker for take in takes}:
        of_speaker = [n for n, take in enumerate(takes) if take.speaker == speaker]
        frames = np.concatenate([out[n] for n in of_speaker])
        mean, deviation = frames.mean(0), frames.std(0) + 1e-3
        for n in of_speaker:
            out[n] = (out[n] - mean) / deviation
    return out
