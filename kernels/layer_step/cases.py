"""Shapes and bounds that the tests and the bench of the step of a layer run over."""

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from audiomamba.kernels.layer_step import LayerWeights

__all__ = ["BENCH", "BOUNDS", "CASES", "OF_TINY", "Case", "Inputs", "inputs"]

# Relative error of what the layer adds, and of the states. In bfloat16 five things are rounded on
# the way: the input of each product, and what the projections and the convolution give. With those
# roundings alone the cases of ``BENCH`` are off by up to 5.7e-3, some of the tiny ones, where few
# numbers average little out, by 2e-2.
BOUNDS: Final = {torch.float32: (2e-6, 2e-6), torch.bfloat16: (8e-3, 4e-3)}
OF_TINY: Final = {torch.float32: 1, torch.bfloat16: 4}  # times the bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """M rows, width W, D channels of K taps and N states, a step size of rank R."""

    M: int = 2
    W: int = 24
    D: int = 20
    K: int = 4
    N: int = 5
    R: int = 3
    residual: bool = True

    def __str__(self) -> str:
        rest = "" if self.residual else "-first"
        return f"M{self.M}-W{self.W}-D{self.D}-K{self.K}-N{self.N}-R{self.R}{rest}"


# Each also runs in the interpreter, so tiny; no size need be a power of two.
CASES: Final = (
    Case(),
    Case(M=1, residual=False),
    Case(M=3, W=7, D=13, K=1, N=1, R=1),
    Case(M=4, W=16, D=32, K=2, N=16, R=2),
    Case(M=5, W=40, D=33, N=3, R=5),
    Case(M=1, W=1, D=1, K=3, N=2, R=1),
    Case(M=17, W=12, D=6, N=4, R=2, residual=False),
)
# Of a model with 130 M parameters in 24 layers.
BENCH: Final = tuple(Case(M=M, W=768, D=1536, K=4, N=16, R=48) for M in (1, 3, 16))


@dataclass(frozen=True, slots=True)
class Inputs:
    """Arguments of a call."""

    x: Tensor
    residual: Tensor | None
    weights: LayerWeights
    pools: tuple[Tensor, Tensor]
    slots: Tensor

    def to(self, device: str, dtype: torch.dtype, *, exactly: bool = False) -> "Inputs":
        """As a layer has them: what is not a matrix and the states stay float32.

        ``exactly`` widens all to ``dtype`` instead: for the definition of the same numbers.
        """
        wide = dtype if exactly else torch.promote_types(dtype, torch.float32)

        def moved(t: Tensor, matrix: bool) -> Tensor:
            return t.to(device, dtype if matrix else wide, copy=True)

        weights = (
            moved(w, w.ndim == 2 and name != "A_log")
            for name, w in zip(LayerWeights._fields, self.weights, strict=True)
        )
        conv, state = (moved(pool, False) for pool in self.pools)
        return Inputs(
            moved(self.x, True),
            None if self.residual is None else moved(self.residual, False),
            LayerWeights(*weights),
            (conv, state),
            self.slots.to(device, copy=True),
        )

    def call(self, op: Any, **options: Any) -> Any:
        return op(self.x, self.residual, self.weights, self.pools, self.slots, **options)


def inputs(case: Case, seed: int = 0) -> Inputs:
    """Draw float64 inputs of about the sizes that a model has; slots in no order."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int, std: float = 1.0) -> Tensor:
        return std * torch.randn(*shape, generator=draw, dtype=torch.float64)

    M, W, D, K, N, R = case.M, case.W, case.D, case.K, case.N, case.R
    weights = LayerWeights(
        norm=1 + normal(W, std=0.2),
        in_proj=normal(2 * D, W, std=W**-0.5),
        conv=normal(D, K, std=K**-0.5),
        conv_bias=normal(D, std=0.2),
        x_proj=normal(R + 2 * N, D, std=D**-0.5),
        dt_proj=normal(D, R, std=R**-0.5),
        dt_bias=normal(D) - 3,
        A_log=torch.log(torch.arange(1, N + 1).double()).repeat(D, 1) + normal(D, N, std=0.1),
        skip=normal(D),
        out_proj=normal(W, D, std=D**-0.5),
    )
    slots = torch.randperm(M + 2, generator=draw)[:M] + 1
    return Inputs(
        normal(M, W),
        normal(M, W) if case.residual else None,
        weights,
        (normal(M + 3, K - 1, D), normal(M + 3, D, N)),
        slots,
    )
