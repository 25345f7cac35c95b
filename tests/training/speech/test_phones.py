"""Tokens to phones with lengths."""

import numpy as np

from audiomamba.training.speech.phones import NUM_PHONES, fold_marks, trim_lead

SPACE, STRESS, LENGTH, COMMA = 16, 156, 158, 3


def test_marks_give_their_frames_to_their_phone() -> None:
    tokens = np.array([0, STRESS, 44, 51, LENGTH, COMMA, SPACE, 62, 0], np.uint8)
    frames = np.array([3, 1, 2, 4, 1, 5, 2, 3, 1])
    ids, lengths = fold_marks(tokens, frames)
    assert ids.tolist() == [0, 44, 51, 0, 62, 0]
    assert lengths.tolist() == [3, 3, 5, 7, 3, 1]


def test_no_frame_is_lost() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        tokens = rng.integers(0, NUM_PHONES, 40).astype(np.uint8)
        frames = rng.integers(1, 9, 40)
        ids, lengths = fold_marks(tokens, frames)
        assert lengths.sum() == frames.sum()
        assert not ((ids[1:] == 0) & (ids[:-1] == 0) & (lengths[1:] == 0)).any()


def test_the_lead_is_cut_to_what_is_kept_and_no_further() -> None:
    trimmed, cut = trim_lead(np.array([12, 3, 4]), 3)
    assert (trimmed.tolist(), cut) == ([3, 3, 4], 9)
    trimmed, cut = trim_lead(np.array([2, 3, 4]), 3)
    assert (trimmed.tolist(), cut) == ([2, 3, 4], 0)
