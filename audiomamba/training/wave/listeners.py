"""Recognisers as judges of words, alone or several one after another."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from audiomamba.audio.resample import resample
from audiomamba.text.normalize import normalize
from audiomamba.training.peers import Recognize

__all__ = ["heard_right"]

RATE = 16_000  # Hz of what recognisers hear
MARGIN_S = 0.3  # of silence before and after: words cut tightly are nobody's training

_MARKS = re.compile(r"(\d)|[^\w\s']")  # a figure, or what stands between figures


def heard_right(
    recognize: Recognize,
    sounds: Sequence[NDArray[np.float32]],
    labels: Sequence[str],
    sample_rate: int,
) -> float:
    """Share of the words of ``labels`` that a recogniser hears in ``sounds``.

    Of a recording as many words are wrong as it has word errors, all of them at most: a word alone
    is right if it and no other is heard. Figures are read digit by digit, and of what a recogniser
    says without end (Whisper does after some short recordings, real ones too) all but one word
    more than were spoken is left out.
    """
    import jiwer

    margin = np.zeros(round(MARGIN_S * RATE), np.float32)
    right = words = 0
    for sound, label in zip(sounds, labels, strict=True):
        heard = np.concatenate([margin, resample(sound, sample_rate, RATE), margin])
        spoken = len(label.split())
        said = normalize(_MARKS.sub(r" \1 ", recognize(heard))).split()[: spoken + 1]
        found = jiwer.process_words(label, " ".join(said))
        words += spoken
        right += max(0, spoken - found.substitutions - found.deletions - found.insertions)
    return right / max(words, 1)
