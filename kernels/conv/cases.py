"""Shapes and bounds that the tests of ``conv`` run over."""

from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
from torch import Tensor

__all__ = ["BOUNDS", "CASES", "SMALL_CASES", "Arguments", "Case", "arguments"]

# Relative error of outputs, and of gradients.
BOUNDS: Final = {
    torch.float64: (1e-12, 1e-12),
    torch.float32: (1e-6, 5e-6),
    torch.bfloat16: (2.5e-3, 5e-3),
    torch.float16: (4e-4, 1e-3),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One call of ``conv``; ``layout`` names the axis that is contiguous in memory."""

    B: int
    T: int
    D: int
    K: int
    activation: str | None = None
    bias: bool = True
    state: bool = True
    resets: bool = False
    reverse: bool = False
    layout: str = "time"


class Arguments(NamedTuple):
    """Inputs of a call, and gradients of its two results."""

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    initial_state: Tensor | None
    resets: Tensor | None
    dy: Tensor
    dstate: Tensor


# Each also runs in the interpreter, so tiny.
SMALL_CASES: Final = [
    Case(1, 1, 1, 1),
    Case(2, 7, 5, 1, "silu", reverse=True, layout="channels"),
    Case(2, 3, 3, 4, "silu", resets=True),  # shorter than the taps
    Case(1, 9, 9, 15, resets=True, reverse=True),
    Case(1, 139, 2, 4, "silu", bias=False, state=False),  # more than a tile
    Case(1, 70, 3, 5, "silu", resets=True, layout="channels"),
    Case(2, 6, 3, 5, "silu"),  # no resets: whole vectors of time, here less than one
    Case(1, 290, 2, 11),  # and more than a tile, whose taps reach back two
]
CASES: Final = [
    *SMALL_CASES,
    Case(2, 63, 24, 4, "silu"),
    Case(1, 127, 24, 15, layout="channels"),
    Case(2, 1000, 24, 4, "silu", resets=True, layout="strided"),
    Case(3, 600, 100, 15, state=False),
    Case(2, 300, 100, 16, "silu", reverse=True, resets=True, layout="channels"),
    Case(1, 513, 1, 7, bias=False, layout="strided"),
    Case(2, 320, 40, 4, "silu"),  # rows of time aligned to 32 bytes
    Case(2, 304, 40, 15),
]


def arguments(case: Case, seed: int = 0) -> Arguments:
    """Draw float64 inputs for a case; resets where a row starts, ends, and next to each other."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    B, T, D, K = case.B, case.T, case.D, case.K
    x = {
        "time": lambda: draw(B, D, T).transpose(1, 2),
        "channels": lambda: draw(B, T, D),
        "strided": lambda: draw(B, 2 * D, T + 3)[:, ::2, 1 : T + 1].transpose(1, 2),
    }[case.layout]()
    resets = None
    if case.resets:
        resets = torch.rand(B, T, generator=generator) < 0.1
        resets[0, [0, T // 2, min(T // 2 + 1, T - 1), T - 1]] = True
        resets[-1, 0] = B == 1
    weight = draw(D, K)
    bias = draw(D) if case.bias else None
    initial_state = draw(B, K - 1, D) if case.state else None
    dy = draw(B, T, D)
    if case.layout == "time":  # as the backward of the op that follows leaves it
        dy = torch.empty_like(x).copy_(dy)
    return Arguments(x, weight, bias, initial_state, resets, dy, draw(B, K - 1, D))
