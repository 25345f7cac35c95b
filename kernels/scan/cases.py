"""Shapes, inputs and error bounds that the tests and the benchmark of the scan share."""

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

__all__ = ["BOUNDS", "ODD", "SPEED", "TINY", "Bounds", "Case", "inputs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One call of ``scan``."""

    B: int = 1
    T: int
    D: int
    N: int
    G: int = 1
    extras: bool = True  # D, z, delta_bias and initial_state
    softplus: bool = True
    resets: tuple[int, ...] = ()  # times, in every row
    cu_seqlens: tuple[int, ...] = ()
    reverse: bool = False
    time_contiguous: bool = False  # u, delta and z as views of (B, D, T) memory

    def __str__(self) -> str:
        flags = [name for name in ("softplus", "reverse") if getattr(self, name)]
        flags += ["extras"] * self.extras + ["resets"] * bool(self.resets)
        flags += ["packed"] * bool(self.cu_seqlens) + ["tc"] * self.time_contiguous
        return "-".join([f"{self.B}x{self.T}x{self.D}x{self.N}x{self.G}", *flags])


# Every branch of the kernels once; small, as Triton's interpreter runs them too.
TINY: Final = (
    Case(B=2, T=9, D=5, N=3),
    Case(T=8, D=4, N=2, G=2, extras=False, softplus=False, time_contiguous=True),
    Case(T=66, D=2, N=2, resets=(0, 3, 4, 64, 65)),  # past a checkpoint
    Case(T=10, D=2, N=1, resets=(2,), reverse=True),
    Case(T=13, D=2, N=2, cu_seqlens=(0, 5, 5, 13), extras=False),
    Case(T=13, D=1, N=2, cu_seqlens=(0, 0, 12, 13), reverse=True),
    Case(B=2, T=0, D=3, N=2),
    Case(T=131, D=2, N=2, reverse=True),  # checkpoints, and tiles of two lengths, from a ragged end
)
ODD: Final = (
    Case(B=2, T=1, D=24, N=16),
    Case(T=7, D=100, N=5, G=2, time_contiguous=True),
    Case(B=3, T=63, D=24, N=1, reverse=True),
    Case(T=127, D=24, N=64, resets=(0, 1, 2, 63, 64, 126)),
    Case(T=64, D=4, N=200),
    Case(T=300, D=20, N=16, G=2, cu_seqlens=(0, 1, 70, 70, 199, 300)),
    Case(T=1000, D=33, N=16, time_contiguous=True),
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
    torch.bfloat16: Bounds(2.5e-3, 1e-5, 5e-3, 5e-3),
    torch.float16: Bounds(4e-4, 1e-5, 1e-3, 1e-3),
}


@dataclass(frozen=True, slots=True)
class Speed:
    """A shape to be fast at: all options on but resets, N = 16 states, one group."""

    name: str
    B: int
    T: int
    D: int
    N: int = 16

    def floor_bytes(self, backward: bool) -> int:
        """Bytes that must move with bfloat16 inputs: forward, or forward and backward."""
        samples = self.B * self.T * self.D
        weights = 4 * self.B * self.T * self.N  # B and C
        forward = 8 * samples + weights
        return forward + 14 * samples + 2 * weights if backward else forward


SPEED: Final = (
    Speed("train", 128, 304, 640),
    Speed("train-short", 170, 160, 640),
    Speed("train-long", 64, 496, 640),
    Speed("wide", 8, 2048, 1536),
    Speed("wide-long", 8, 8192, 1536),
    Speed("one-long", 1, 65536, 1536),
    Speed("many", 32, 1024, 1024),
    Speed("states-64", 8, 2048, 512, 64),
)


def inputs(
    case: Case,
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    seed: int = 0,
    there: bool = False,
) -> dict[str, Any]:
    """Draw the arguments of ``scan`` for a case, the same numbers on every device.

    ``there`` draws them on the device: quickly, and others.

    Step sizes lie around 0.05, decays between −8 and 0; float64 asks for float64 throughout.
    """
    source = device if there else "cpu"
    draw = torch.Generator(source).manual_seed(seed)
    wide = torch.float64 if dtype == torch.float64 else torch.float32

    def normal(*shape: int, of: torch.dtype = dtype) -> Tensor:
        return torch.randn(shape, generator=draw, device=source).to(device, of)

    def sequence() -> Tensor:
        if case.time_contiguous:
            return normal(case.B, case.D, case.T).mT
        return normal(case.B, case.T, case.D)

    rows = len(case.cu_seqlens) - 1 if case.cu_seqlens else case.B
    given: dict[str, Any] = {
        "u": sequence(),
        "delta": sequence() - 3 if case.softplus else sequence().abs() * 0.1,
        "A": -torch.rand(case.D, case.N, generator=draw, device=source).to(device, wide) * 8,
        "B": normal(case.B, case.T, case.G, case.N),
        "C": normal(case.B, case.T, case.G, case.N),
        "softplus": case.softplus,
        "reverse": case.reverse,
    }
    if case.extras:
        given["D"] = normal(case.D, of=wide)
        given["z"] = sequence()
        given["delta_bias"] = normal(case.D, of=wide) * 0.3
        given["initial_state"] = normal(rows, case.D, case.N, of=wide)
    if case.resets:
        times = torch.zeros(case.B, case.T, dtype=torch.bool)
        times[:, list(case.resets)] = True
        given["resets"] = times.to(device)
    if case.cu_seqlens:
        given["cu_seqlens"] = torch.tensor(case.cu_seqlens, dtype=torch.int32, device=device)
    return given
