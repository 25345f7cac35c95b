"""Shapes and bounds that the tests of ``norm`` run over."""

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
    """One call of ``norm``; ``gate`` is None, "before" (norm, then gate) or "after"."""

    shape: tuple[int, ...]
    residual: bool = True
    gate: str | None = None
    group: int | None = None
    strided: bool = False


class Arguments(NamedTuple):
    """Inputs of a call, and gradients of its two results."""

    x: Tensor
    weight: Tensor
    residual: Tensor | None
    gate: Tensor | None
    dy: Tensor
    dr: Tensor


# Each also runs in the interpreter, so tiny.
SMALL_CASES: Final = [
    Case((1, 1, 2)),
    Case((2, 7, 24), residual=False),
    Case((2, 3, 24), gate="before", group=8),
    Case((3, 24), gate="after", strided=True),
    Case((2, 5, 15), gate="after", group=5, residual=False),
    Case((40, 100), strided=True),  # more rows than a program holds
]
CASES: Final = [
    *SMALL_CASES,
    Case((3, 127, 320)),
    Case((2, 63, 768), gate="before", group=96),
    Case((2, 1000, 100), gate="after"),
    Case((9, 5000)),
    Case((4, 2500, 24), strided=True),  # more blocks of rows than programs
]


def arguments(case: Case, seed: int = 0) -> Arguments:
    """Draw float64 inputs for a case."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def strided() -> Tensor:
        *rows, D = case.shape
        return draw(*rows, 2 * D)[..., ::2] if case.strided else draw(*case.shape)

    return Arguments(
        strided(),
        draw(case.shape[-1]),
        strided() if case.residual else None,
        strided() if case.gate else None,
        draw(*case.shape),
        strided(),
    )
