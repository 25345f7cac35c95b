"""Strings of words out of single ones, so that a model goes on after a word.

Recordings of single words end, and a model of them falls silent. Here words of one speaker, drawn
at random, stand one after another with pauses between; nothing says which words they are. So a
label asks for one word and silence, and no label for one word after another without end.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from audiomamba.audio.mulaw import SILENCE
from audiomamba.training.wave.config import StringsConfig
from audiomamba.training.wave.takes import Take

__all__ = ["strings"]

_ENOUGH = 20  # words of a speaker, below which none are strung together


def strings(takes: Sequence[Take], config: StringsConfig, sample_rate: int) -> list[Take]:
    """Strings of ``config.piece_s`` seconds without a label; who has more words has more of them.

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
    words = sum(len(by_speaker[name]) for name in speakers)
    each = config.minutes * 60 / config.piece_s / words
    made = []
    for number, speaker in enumerate(speakers):
        rng = np.random.default_rng([config.seed, number])
        for _ in range(max(1, round(each * len(by_speaker[speaker])))):
            codes = _string(by_speaker[speaker], config, sample_rate, rng)
            made.append(Take(codes, None, speaker, held_out=False))
    return made


def _string(
    own: Sequence[Take], config: StringsConfig, sample_rate: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    wanted = round(config.piece_s * sample_rate)
    parts: list[NDArray[np.uint8]] = []
    held = 0
    while held < wanted:
        pause = round(rng.uniform(config.pause_least_s, config.pause_most_s) * sample_rate)
        # A string begins as what is generated does: with the word.
        gap = np.full(pause if parts else 0, SILENCE, np.uint8)
        parts += [gap, own[int(rng.integers(len(own)))].codes]
        held += len(parts[-2]) + len(parts[-1])
    return np.concatenate(parts)[:wanted]
