"""The sequences are what the papers say."""

import torch

from audiomamba.training.tasks.problems import (
    COPIED,
    INDUCTION_HEADS,
    MARKER,
    NOISE,
    SELECTIVE_COPYING,
)


def test_copied_tokens_stand_in_order_between_noise() -> None:
    tokens, answers = SELECTIVE_COPYING.draw(8, 64, torch.Generator().manual_seed(0))
    assert tokens.shape == (8, 64) and answers.shape == (8, COPIED)
    for row, answer in zip(tokens, answers, strict=True):
        body = row[:-COPIED]
        assert torch.equal(body[body != NOISE], answer)
        assert (row[-COPIED:] == MARKER).all()


def test_the_answer_followed_the_marker_the_first_time() -> None:
    tokens, answers = INDUCTION_HEADS.draw(16, 40, torch.Generator().manual_seed(0))
    for row, answer in zip(tokens, answers, strict=True):
        first, last = torch.nonzero(row == MARKER).flatten().tolist()
        assert last == 39
        assert row[first + 1] == answer
