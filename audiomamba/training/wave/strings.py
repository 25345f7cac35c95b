"""Strings of words out of single ones, so that a model goes on after a word.

Recordings of single words end, and a model of them falls silent. Here words of one speaker, drawn
at random, stand one after another with pauses between. They have no label, but keep where which
word lies: a model that divides its labels (``label_states``) is told, any other is not. So to the
latter a label asks for one word and silence, no label for one word after another without end.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from audiomamba.audio.mulaw import SILENCE
from audiomamba.training.wave.config import StringsConfig
from audiomamba.training.wave.takes import Take, Word

__all__ = ["strings"]

_ENOUGH = 20  # words of a speaker, below which none are strung together


def strings(takes: Sequence[Take], config: StringsConfig, sample_rate: int) -> list[Take]:
    """Strings of ``config.piece_s`` seconds; whose words weigh more has more of them.

    Args:
        takes: Single words; those held out, and those of nobody in particular, are not used.
        config: How many, how long, with which pauses.
        sample_rate: Of the takes, Hz.
    """
    by_speaker: dict[str, list[Take]] = {}
    for take in takes:
        if take.speaker and take.label and not take.held_out and len(take.codes):
            by_speaker.setdefault(take.speaker, []).append(take)
    speakers = sorted(name for name, own in by_speaker.items() if len(own) >= _ENOUGH)
    if not config.minutes or not speakers:
        return []
    weights = {name: sum(take.weight for take in by_speaker[name]) for name in speakers}
    each = config.minutes * 60 / config.piece_s / sum(weights.values())
    made = []
    for number, speaker in enumerate(speakers):
        rng = np.random.default_rng([config.seed, number])
        for _ in range(max(1, round(each * weights[speaker]))):
            codes, words = _string(by_speaker[speaker], config, sample_rate, rng)
            made.append(Take(codes, None, speaker, held_out=False, words=words))
    return made


def _string(
    own: Sequence[Take], config: StringsConfig, sample_rate: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], tuple[Word, ...]]:
    wanted = round(config.piece_s * sample_rate)
    parts: list[NDArray[np.uint8]] = []
    words: list[Word] = []
    held = 0
    while held < wanted:
        pause = round(rng.uniform(config.pause_least_s, config.pause_most_s) * sample_rate)
        # A string begins as what is generated does: with the word.
        gap = np.full(pause if parts else 0, SILENCE, np.uint8)
        take = own[int(rng.integers(len(own)))]
        parts += [gap, take.codes]
        held += len(gap) + len(take.codes)
        [word] = take.spoken
        words.append(word._replace(begin=held - len(take.codes), end=held))
    inside = tuple(word for word in words if word.begin < wanted)
    return np.concatenate(parts)[:wanted], inside
