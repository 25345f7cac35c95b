"""Time the norm: ``python -m audiomamba.kernels.norm.bench [--json]``.

With a residual, as every block uses it. On a GPU: bfloat16 beside a float32 stream, next to
PyTorch's ``rms_norm``, in the first case also under ``torch.compile``, and mamba-ssm's kernel where
it is installed. Elsewhere: float32, beside PyTorch and the reference.
"""

from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from audiomamba.kernels import timing
from audiomamba.kernels.norm import norm
from audiomamba.kernels.norm.cases import Case, arguments

__all__ = ["cases"]

GPU_CASES = (Case((64, 400, 640)), Case((8, 2048, 1536)), Case((32, 1024, 1024)))
CPU_CASES = (Case((4, 512, 512)), Case((4, 512, 768)), Case((1, 16, 384)), Case((8, 1, 384)))
EPS = 1e-5
# Bytes a value: x 2, residual 4 read, r 4, y 2 written; backward: dy 2, dr 4, r 4 read, dx 2 and
# the residual's gradient 4 written.
FORWARD_BYTES, BOTH_BYTES = 12, 28


def cases(device: str) -> Iterator[timing.Case]:
    """All cases of a device, forward and both directions."""
    gpu = device == "cuda"
    for case in GPU_CASES if gpu else CPU_CASES:
        given = arguments(case)
        dtype = torch.bfloat16 if gpu else torch.float32
        assert given.residual is not None, "the cases have a residual"
        x, weight, dy = (t.to(device, dtype) for t in (given.x, given.weight, given.dy))
        residual, dr = (t.to(device, torch.float32) for t in (given.residual, given.dr))
        runs = _contenders(case, gpu)
        values = x.numel()
        shape = ", ".join(map(str, case.shape))
        bound = 1e-2 if gpu else 1e-5
        forward = {name: partial(_first, run, x, weight, residual) for name, run in runs.items()}
        yield timing.Case(shape, "forward", forward, values, FORWARD_BYTES * values, bound)
        leaves = [t.detach().requires_grad_() for t in (x, weight, residual)]
        both = {name: partial(_both, run, leaves, (dy, dr)) for name, run in runs.items()}
        yield timing.Case(shape, "both", both, values, BOTH_BYTES * values, bound)


def _contenders(case: Case, gpu: bool) -> dict[str, Callable[..., tuple[Tensor, Tensor]]]:
    if not gpu:
        return {"ours": _ours, "torch": _torch, "reference": partial(_ours, how="reference")}
    runs: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
        "ours": _ours,
        "torch": _torch,
    }
    if case is GPU_CASES[0]:  # each takes the compiler some seconds
        runs["compiled"] = torch.compile(_torch, dynamic=False)
    if find_spec("mamba_ssm") is not None:
        runs["mamba-ssm"] = partial(
            _peer, import_module("mamba_ssm.ops.triton.layer_norm").rms_norm_fn
        )
    return runs


def _ours(
    x: Tensor, weight: Tensor, residual: Tensor, how: str | None = None
) -> tuple[Tensor, Tensor]:
    return norm(x, weight, residual=residual, eps=EPS, implementation=how)


def _torch(x: Tensor, weight: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
    r = x.float() + residual
    return F.rms_norm(r, weight.shape, weight.float(), EPS).to(x.dtype), r


def _peer(
    run: Callable[..., Any], x: Tensor, weight: Tensor, residual: Tensor
) -> tuple[Tensor, Tensor]:
    y, r = run(
        x, weight, None, residual=residual, eps=EPS, prenorm=True, residual_in_fp32=True
    )  # fmt: skip
    return y, r


def _first(run: Callable[..., tuple[Tensor, Tensor]], *given: Tensor) -> Tensor:
    return run(*given)[0]


def _both(
    run: Callable[..., tuple[Tensor, Tensor]], leaves: list[Tensor], grads: tuple[Tensor, Tensor]
) -> Tensor:
    return torch.autograd.grad(run(*leaves), leaves, grads)[0]


if __name__ == "__main__":
    timing.main("norm", cases)
