"""Shapes, inputs and error bounds that the tests and the benchmark of the duality share."""

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

__all__ = ["BOUNDS", "ODD", "SPEED", "TINY", "Bounds", "Case", "Speed", "inputs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One call of ``ssd``."""

    B: int = 1
    T: int
    H: int
    P: int
    N: int
    G: int = 1
    extras: bool = True  # D, z, delta_bias and initial_state
    softplus: bool = True
    by_step: bool = False  # A is the logarithm of each step's decay
    limit: tuple[float, float] = (0.0, float("inf"))
    resets: tuple[int, ...] = ()  # times, in every row
    cu_seqlens: tuple[int, ...] = ()

    def __str__(self) -> str:
        flags = ["softplus"] * self.softplus + ["extras"] * self.extras
        flags += ["resets"] * bool(self.resets) + ["packed"] * bool(self.cu_seqlens)
        flags += ["limit"] * (self.limit[0] > 0) + ["by_step"] * self.by_step
        return "-".join([f"{self.B}x{self.T}x{self.H}x{self.P}x{self.N}x{self.G}", *flags])


# Every branch of the kernels once; small, as Triton's interpreter runs them too. A chunk has 32
# steps in float32, and time is cut into spans from eight chunks on.
TINY: Final = (
    Case(B=2, T=9, H=2, P=5, N=3),
    Case(T=33, H=4, P=4, N=2, G=2, extras=False, softplus=False),
    Case(T=66, H=1, P=2, N=2, resets=(0, 3, 4, 32, 63, 65)),
    Case(T=260, H=1, P=3, N=2, resets=(40, 170)),
    Case(T=13, H=2, P=2, N=2, cu_seqlens=(0, 5, 5, 13), extras=False),
    Case(T=270, H=1, P=1, N=2, cu_seqlens=(0, 0, 1, 260, 270)),
    Case(T=12, H=3, P=2, N=1, limit=(0.02, 0.1)),
    Case(B=2, T=41, H=2, P=2, N=3, G=2, by_step=True, softplus=False, resets=(7,)),
    Case(T=40, H=2, P=2, N=2, by_step=True, cu_seqlens=(0, 33, 40)),
    Case(B=2, T=0, H=2, P=3, N=2),
)
ODD: Final = (
    Case(B=2, T=1, H=3, P=24, N=16),
    Case(T=7, H=2, P=100, N=5, G=2),
    Case(B=3, T=63, H=1, P=24, N=1),
    Case(T=127, H=4, P=16, N=64, G=2, resets=(0, 1, 2, 63, 64, 126)),
    Case(T=64, H=2, P=4, N=200),
    Case(T=300, H=4, P=20, N=16, G=2, cu_seqlens=(0, 1, 70, 70, 199, 300)),
    Case(T=500, H=2, P=33, N=16),
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Relative error allowed: output, last state, gradients, gradients that are long sums."""

    out: float
    state: float
    gradient: float
    long_sum: float


BOUNDS: Final = {
    torch.float64: Bounds(1e-12, 1e-12, 1e-12, 1e-12),
    torch.float32: Bounds(1e-6, 1e-6, 5e-6, 2e-5),
    torch.bfloat16: Bounds(2.5e-3, 1e-5, 5e-3, 1e-2),
    torch.float16: Bounds(4e-4, 1e-5, 1e-3, 1e-3),
}


@dataclass(frozen=True, slots=True)
class Speed:
    """A shape to be fast at: all options on but resets, one group."""

    name: str
    B: int
    T: int
    H: int = 24
    P: int = 64
    N: int = 128

    def floor_bytes(self, backward: bool) -> int:
        """Bytes that must move with bfloat16 inputs: forward, or forward and backward."""
        samples = self.B * self.T * self.H * self.P
        weights = 4 * self.B * self.T * self.N  # B and C
        forward = 6 * samples + weights  # x, z and the output
        return forward + 10 * samples + 2 * weights if backward else forward

    def flops(self, chunk: int, backward: bool) -> int:
        """Operations of the products, the masked half of the pairs counted."""
        tokens, heads = self.B * self.T, self.H
        pairs = 2 * tokens * chunk * (self.N + heads * self.P)
        states = 2 * tokens * heads * self.P * self.N
        forward = pairs + 2 * states
        return (
            forward + 2 * pairs + 2 * tokens * chunk * self.N + 5 * states if backward else forward
        )


SPEED: Final = (
    Speed("wide", 8, 2048),
    Speed("wide-long", 8, 8192),
    Speed("one-long", 1, 65536),
    Speed("many", 32, 1024, H=16),
    Speed("states-64", 8, 2048, N=64),
)


def inputs(
    case: Case,
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    seed: int = 0,
    there: bool = False,
) -> dict[str, Any]:
    """Draw the arguments of ``ssd`` for a case, the same numbers on every device.

    ``there`` draws them on the device: quickly, and others.

    Step sizes lie around 0.05, decays between −8 and 0; float64 asks for float64 throughout.
    """
    source = device if there else "cpu"
    draw = torch.Generator(source).manual_seed(seed)
    wide = torch.float64 if dtype == torch.float64 else torch.float32

    def normal(*shape: int, of: torch.dtype = dtype) -> Tensor:
        return torch.randn(shape, generator=draw, device=source).to(device, of)

    rows = len(case.cu_seqlens) - 1 if case.cu_seqlens else case.B
    delta = normal(case.B, case.T, case.H)
    steps = (case.B, case.T) if case.by_step else ()
    given: dict[str, Any] = {
        "x": normal(case.B, case.T, case.H, case.P),
        "delta": delta - 3 if case.softplus else delta.abs() * 0.1,
        "A": -torch.rand(*steps, case.H, generator=draw, device=source).to(device, wide) * 8,
        "B": normal(case.B, case.T, case.G, case.N),
        "C": normal(case.B, case.T, case.G, case.N),
        "softplus": case.softplus,
        "delta_limit": case.limit,
    }
    if case.extras:
        given["D"] = normal(case.H, of=wide)
        given["z"] = normal(case.B, case.T, case.H, case.P)
        given["delta_bias"] = normal(case.H, of=wide) * 0.3
        given["initial_state"] = normal(rows, case.H, case.P, case.N, of=wide)
    if case.resets:
        times = torch.zeros(case.B, case.T, dtype=torch.bool)
        times[:, list(case.resets)] = True
        given["resets"] = times.to(device)
    if case.cu_seqlens:
        given["cu_seqlens"] = torch.tensor(case.cu_seqlens, dtype=torch.int32, device=device)
    return given
