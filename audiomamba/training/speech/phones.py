"""From the voice model's tokens to phones with lengths, as the corpus keeps them.

A token is a letter: a phone, a mark (stress before a phone, length after it), or a space or
punctuation. Marks have lengths of their own, which are given to the phone they belong to; spaces,
punctuation and the zeros at both ends become 0, a gap, and neighbouring gaps one gap. Phones keep
the voice model's ids, all below 178.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["NUM_PHONES", "fold_marks", "trim_lead"]

NUM_PHONES = 178
_GAPS = (*range(17), 169, 171, 172, 173)  # ends, punctuation, space, intonation arrows
_BEFORE = (156, 157)  # stress
_AFTER = (17, 158, 162, 164)  # nasal, length, breath, palatal marks

_GAP = np.zeros(NUM_PHONES, np.bool_)
_GAP[list(_GAPS)] = True
_IS_BEFORE = np.zeros(NUM_PHONES, np.bool_)
_IS_BEFORE[list(_BEFORE)] = True
_IS_AFTER = np.zeros(NUM_PHONES, np.bool_)
_IS_AFTER[list(_AFTER)] = True


def fold_marks(
    tokens: NDArray[np.uint8], frames: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Phones and gaps with their lengths; the sum of the lengths stays.

    Args:
        tokens: ``(P,)`` ids below 178, zeros at both ends included.
        frames: ``(P,)`` lengths in frames of 25 ms.
    """
    gap, before, after = _GAP[tokens], _IS_BEFORE[tokens], _IS_AFTER[tokens]
    joins = after.copy()
    joins[1:] |= before[:-1]
    joins[1:] |= gap[1:] & gap[:-1]
    joins[0] = False
    group = np.cumsum(~joins) - 1
    lengths = np.bincount(group, frames).astype(np.uint16)
    ids = np.zeros(len(lengths), np.uint8)
    named = ~(gap | before | after)
    ids[group[named]] = tokens[named]
    return ids, lengths


def trim_lead(frames: NDArray[np.int64], keep: int) -> tuple[NDArray[np.int64], int]:
    """Cut the silence before the first phone to ``keep`` frames.

    Never below 50 ms: onsets can be soft, and begin before the model says so.

    Returns:
        The new lengths, and how many frames to drop from the audio's start.
    """
    cut = max(0, int(frames[0]) - keep)
    trimmed = frames.copy()
    trimmed[0] -= cut
    return trimmed, cut
