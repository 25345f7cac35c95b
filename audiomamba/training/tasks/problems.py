"""The two problems of the Mamba paper that separate selective from time-invariant dynamics."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["INDUCTION_HEADS", "PROBLEMS", "SELECTIVE_COPYING", "Problem"]

VOCABULARY = 16
NOISE = 0
MARKER = VOCABULARY - 1
COPIED = 16  # tokens to be copied


@dataclass(frozen=True, slots=True)
class Problem:
    """A synthetic sequence task.

    Attributes:
        name: For the command line.
        draw: ``(batch, length, generator)`` to tokens ``(B, length)`` int64 and answers ``(B, K)``;
            the answer k is what the model has to say at position ``length - K + k``.
        train_length: Length of training sequences.
    """

    name: str
    draw: Callable[[int, int, torch.Generator], tuple[Tensor, Tensor]]
    train_length: int


def _selective_copying(
    batch: int, length: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Remember ``COPIED`` tokens strewn over noise, and write them down in order at the end.

    Source: Gu and Dao, "Mamba", 2023, section 4.1.1 and appendix E.1.
    """
    device = generator.device
    body = length - COPIED
    order = torch.rand(batch, body, generator=generator, device=device)
    places = order.topk(COPIED, dim=1).indices.sort(1).values
    answers = torch.randint(NOISE + 1, MARKER, (batch, COPIED), generator=generator, device=device)
    tokens = torch.full((batch, length), NOISE, device=device)
    tokens.scatter_(1, places, answers)
    tokens[:, body:] = MARKER
    return tokens, answers


def _induction_heads(batch: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Say what followed the marker the first time, when it comes a second time, at the end.

    Source: Gu and Dao, "Mamba", 2023, section 4.1.2 and table 11.
    """
    device = generator.device
    tokens = torch.randint(0, MARKER, (batch, length), generator=generator, device=device)
    place = torch.randint(0, length - 2, (batch, 1), generator=generator, device=device)
    answers = tokens.gather(1, place + 1)
    tokens.scatter_(1, place, torch.full_like(place, MARKER))
    tokens[:, -1] = MARKER
    return tokens, answers


SELECTIVE_COPYING = Problem("selective_copying", _selective_copying, train_length=4096)
INDUCTION_HEADS = Problem("induction_heads", _induction_heads, train_length=256)
PROBLEMS = {problem.name: problem for problem in (SELECTIVE_COPYING, INDUCTION_HEADS)}
