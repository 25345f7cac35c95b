"""Shapes, inputs and error bounds that the tests of Mamba-3 share."""

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from audiomamba.kernels.mamba3 import Mamba3State

__all__ = ["BOUNDS", "CASES", "Case", "inputs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One call of ``mamba3``."""

    B: int = 1
    T: int
    H: int
    P: int
    N: int
    R: int
    extras: bool = True  # D, z, delta_bias and initial_state
    resets: tuple[int, ...] = ()  # times, in every row

    def __str__(self) -> str:
        flags = ["extras"] * self.extras + ["resets"] * bool(self.resets)
        return "-".join([f"{self.B}x{self.T}x{self.H}x{self.P}x{self.N}x{self.R}", *flags])


CASES: Final = (
    Case(B=2, T=9, H=2, P=3, N=5, R=2),
    Case(T=40, H=1, P=2, N=4, R=1, extras=False),
    Case(B=2, T=36, H=2, P=2, N=4, R=2, resets=(0, 5, 6, 33)),
    Case(T=1, H=1, P=1, N=2, R=1),
    Case(B=2, T=0, H=2, P=3, N=4, R=1),
)
# Relative error of the output, of the last state, of gradients.
BOUNDS: Final = {
    torch.float64: (1e-12, 1e-12, 1e-12),
    torch.float32: (1e-6, 1e-6, 5e-6),
    torch.bfloat16: (4e-3, 2e-3, 8e-3),  # keys are rounded too, the output twice
}


def inputs(
    case: Case,
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    seed: int = 0,
    there: bool = False,
) -> dict[str, Any]:
    """Draw the arguments of ``mamba3`` for a case, the same numbers on every device.

    ``there`` draws them on the device: quickly, and others.
    """
    source = device if there else "cpu"
    draw = torch.Generator(source).manual_seed(seed)
    wide = torch.float64 if dtype == torch.float64 else torch.float32

    def normal(*shape: int, of: torch.dtype = dtype) -> Tensor:
        return torch.randn(shape, generator=draw, device=source).to(device, of)

    rows, steps, heads = case.B, case.T, case.H
    given: dict[str, Any] = {
        "x": normal(rows, steps, heads, case.P),
        "delta": normal(rows, steps, heads) - 1,
        "A": normal(rows, steps, heads),
        "mix": normal(rows, steps, heads),
        "angle": normal(rows, steps, case.R),
        "B": normal(rows, steps, heads, case.N),
        "C": normal(rows, steps, heads, case.N),
    }
    if case.extras:
        given["D"] = normal(heads, of=wide)
        given["z"] = normal(rows, steps, heads, case.P)
        given["delta_bias"] = normal(heads, of=wide) * 0.3
        given["initial_state"] = Mamba3State(
            torch.rand(rows, heads, case.R, generator=draw, device=source).to(device, wide),
            normal(rows, heads, case.P, case.N, of=wide),
            normal(rows, heads, case.N, of=wide),
            normal(rows, heads, case.P, of=wide),
        )
    if case.resets:
        times = torch.zeros(rows, steps, dtype=torch.bool)
        times[:, list(case.resets)] = True
        given["resets"] = times.to(device)
    return given
