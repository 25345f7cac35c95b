"""Time the convolution: ``python -m audiomamba.kernels.conv.bench [--json]``.

On a GPU: bfloat16, beside PyTorch's depthwise convolution, in the first case also under
``torch.compile``, and causal-conv1d where it is installed. Elsewhere: float32, beside PyTorch and
the reference.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from audiomamba.kernels import timing
from audiomamba.kernels.conv import conv, conv_step_
from audiomamba.kernels.conv.cases import Case, arguments

__all__ = ["cases"]

GPU_CASES = (
    Case(64, 400, 640, 4, "silu", state=False),
    Case(8, 2048, 1536, 4, "silu", state=False),
    Case(32, 1024, 1024, 4, "silu", state=False),
    Case(8, 2048, 1536, 15, state=False),
)
CPU_CASES = (
    Case(4, 512, 512, 4, "silu", state=False),
    Case(4, 512, 512, 15, "silu", state=False),
    Case(1, 16, 768, 4, "silu", state=False),
    Case(8, 16, 768, 4, "silu", state=False),
    Case(8, 1024, 1536, 4, "silu", state=False),  # new memory: 48 MiB a tensor
)
# Rows, and frames of a call of the step.
BLOCKS = {"cuda": ((1, 64, 1024), (1, 4, 16)), "cpu": ((1,), (4,))}
WIDTH, TAPS = 1536, 4
# Bytes a bfloat16 sample: read and written; the backward reads input and gradient, and writes one.
FORWARD_BYTES, BOTH_BYTES = 4, 10


def cases(device: str) -> Iterator[timing.Case]:
    """All cases of a device: forward, both directions, and several frames of a stream."""
    gpu = device == "cuda"
    for case in GPU_CASES if gpu else CPU_CASES:
        given = arguments(case)
        dtype = torch.bfloat16 if gpu else torch.float32
        x, weight, bias, dy = (_to(t, device, dtype) for t in (given.x, *given[1:3], given.dy))
        runs = _contenders(case, gpu)
        values = case.B * case.T * case.D
        shape = f"{case.B}, {case.T}, {case.D}, K {case.K}"
        bound = 1e-2 if gpu else 1e-4
        forward = {name: partial(run, x, weight, bias) for name, run in runs.items()}
        yield timing.Case(shape, "forward", forward, values, FORWARD_BYTES * values, bound)
        leaves = [t.detach().requires_grad_() for t in (x, weight, bias)]
        both = {name: partial(_both, run, leaves, dy) for name, run in runs.items()}
        yield timing.Case(shape, "both", both, values, BOTH_BYTES * values, bound)
    for rows, frames in product(*BLOCKS[device]):
        yield _frames(rows, frames, device)


def _frames(rows: int, frames: int, device: str) -> timing.Case:
    gpu = device == "cuda"
    given = arguments(Case(rows, frames, WIDTH, TAPS, layout="channels"))
    x = given.x.to(device, torch.bfloat16 if gpu else torch.float32)
    weight, bias = (_to(t, device, torch.float32) for t in given[1:3])
    slots = torch.randperm(rows, device=device) + 1

    def step_(now: Mapping[str, Any], pool: tuple[Tensor, ...]) -> Tensor:
        return conv_step_(**now, weight=weight, bias=bias, pool=pool[0], slots=slots)

    pool = (torch.randn(rows + 1, TAPS - 1, WIDTH, device=device),)
    name = f"{rows}, {WIDTH}, K {TAPS}"
    moved = 2 * 4 * rows * (TAPS - 1) * WIDTH + FORWARD_BYTES * rows * frames * WIDTH
    bound = 1e-2 if gpu else 1e-4
    return timing.several_frames(name, frames, step_, {"x": x}, pool, moved, bound)


def _contenders(case: Case, gpu: bool) -> dict[str, Callable[..., Tensor]]:
    ours = partial(_ours, activation=case.activation)
    torchs = partial(_torch, silu=case.activation == "silu")
    if not gpu:
        # The reference is a loop over time; of the longer cases it would measure only patience.
        slow = {"reference": partial(ours, implementation="reference")} if case.T <= 64 else {}
        return {"ours": ours, "torch": torchs, **slow}
    runs: dict[str, Callable[..., Tensor]] = {"ours": ours, "torch": torchs}
    if case is GPU_CASES[0]:  # each takes the compiler some seconds
        runs["compiled"] = torch.compile(torchs, dynamic=False)
    if find_spec("causal_conv1d") is not None and case.K <= 4:  # it has kernels for 2 to 4 taps
        peer = import_module("causal_conv1d").causal_conv1d_fn
        runs["causal-conv1d"] = partial(_peer, peer, case.activation)
    return runs


def _ours(x: Tensor, weight: Tensor, bias: Tensor, **options: Any) -> Tensor:
    return conv(x, weight, bias, **options)[0]


def _torch(x: Tensor, weight: Tensor, bias: Tensor, *, silu: bool) -> Tensor:
    D, K = weight.shape
    y = F.conv1d(F.pad(x.transpose(1, 2), (K - 1, 0)), weight[:, None], bias, groups=D)
    return (F.silu(y) if silu else y).transpose(1, 2)


def _peer(
    run: Callable[..., Tensor], activation: str | None, x: Tensor, weight: Tensor, bias: Tensor
) -> Tensor:
    return run(x.transpose(1, 2), weight, bias, activation=activation).transpose(1, 2)


def _both(run: Callable[..., Tensor], leaves: list[Tensor], dy: Tensor) -> Tensor:
    return torch.autograd.grad(run(*leaves), leaves, dy)[0]


def _to(tensor: Tensor | None, device: str, dtype: torch.dtype) -> Tensor:
    assert tensor is not None, "the cases have a bias"
    return tensor.to(device, dtype)  # strides stay: time contiguous


if __name__ == "__main__":
    timing.main("conv", cases)
