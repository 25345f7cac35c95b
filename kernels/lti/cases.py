"""Systems, shapes and bounds that the tests of ``lti`` run over."""

import math
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

__all__ = ["BOUNDS", "CASES", "SMALL_CASES", "Arguments", "Case", "arguments"]

# Relative error of outputs, and of gradients.
BOUNDS: Final = {
    torch.float64: (1e-11, 1e-11),
    torch.float32: (1e-6, 5e-6),
    torch.bfloat16: (2.5e-3, 5e-3),
    torch.float16: (4e-4, 1e-3),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One call of ``lti``; ``layout`` names the axis that is contiguous in memory."""

    B: int
    T: int
    D: int
    N: int  # pairs
    discretization: str = "zoh"
    rate: float = 1.0
    skip: bool = True
    state: bool = True
    resets: bool = False
    layout: str = "time"


class Arguments(NamedTuple):
    """Inputs of a call, and gradients of its two results."""

    u: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    delta: Tensor
    D: Tensor | None
    initial_state: Tensor | None
    resets: Tensor | None
    dy: Tensor
    dstate: Tensor

    def options(self, case: Case, **more: Any) -> dict[str, Any]:
        """Keyword arguments of ``lti``."""
        return {
            "D": self.D,
            "rate": case.rate,
            "discretization": case.discretization,
            "initial_state": self.initial_state,
            "resets": self.resets,
            **more,
        }


# Each also runs in the interpreter, so tiny.
SMALL_CASES: Final = [
    Case(1, 1, 1, 1),
    Case(2, 7, 5, 3, "bilinear", rate=2.0, layout="channels"),
    Case(2, 13, 3, 5, resets=True),
    Case(1, 20, 4, 2, "bilinear", skip=False, state=False, layout="strided"),
]
CASES: Final = [
    *SMALL_CASES,
    Case(2, 63, 24, 16),
    Case(1, 127, 24, 5, "bilinear", rate=0.5, layout="channels"),
    Case(2, 200, 10, 8, resets=True, layout="strided"),
    Case(3, 1000, 8, 16, state=False),
]


def arguments(case: Case, seed: int = 0) -> Arguments:
    """Draw a system as a model starts with, and inputs; all values are float32 numbers.

    Re A = -1/2, Im A = πn, delta log-uniform in [1e-3, 1e-1]: S4D-Lin.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        wide = torch.complex128 if dtype.is_complex else torch.float64
        return torch.randn(*shape, generator=generator, dtype=dtype).to(wide)

    B, T, D, N = case.B, case.T, case.D, case.N
    u = {
        "time": lambda: draw(B, D, T).transpose(1, 2),
        "channels": lambda: draw(B, T, D),
        "strided": lambda: draw(B, 2 * D, T + 3)[:, ::2, 1 : T + 1].transpose(1, 2),
    }[case.layout]()
    angles = (math.pi * torch.arange(N)).expand(D, N)
    A = torch.complex(torch.full((D, N), -0.5), angles).to(torch.complex128)
    log_delta = torch.rand(D, generator=generator) * math.log(100) + math.log(1e-3)
    resets = None
    if case.resets:
        resets = torch.rand(B, T, generator=generator) < 0.1
        resets[0, [0, T // 2, min(T // 2 + 1, T - 1), T - 1]] = True
        resets[-1, 0] = B == 1
    return Arguments(
        u,
        A,
        draw(D, N, dtype=torch.complex64),
        draw(D, N, dtype=torch.complex64),
        log_delta.exp().double(),
        draw(D) if case.skip else None,
        draw(B, D, N, 2) if case.state else None,
        resets,
        draw(B, T, D),
        draw(B, D, N, 2),
    )
