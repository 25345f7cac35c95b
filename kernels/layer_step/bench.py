"""Time the step of one layer: ``python -m audiomamba.kernels.layer_step.bench [--json]``.

Width 768, 1536 channels, 16 states, in bfloat16, for 1, 3 and 16 rows, on a GPU: as the tables say,
in three launches and in four, and the same by PyTorch's own operations. The floor is what must
move: weights once, states both ways. On a CPU the definition beside PyTorch.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from audiomamba.kernels import timing
from audiomamba.kernels.blocks import forced, pick_blocks
from audiomamba.kernels.layer_step import layer_step_
from audiomamba.kernels.layer_step.cases import BENCH, Case, Inputs, inputs

__all__ = ["cases"]

CPU_CASES = (Case(M=1, W=64, D=128, N=16, R=4), Case(M=3, W=64, D=128, N=16, R=4))
SPLIT = {3: 1, 4: 0}  # launches, and whether the projection to step size, B and C is split
MOST_SPLIT = 4  # rows; more would be held in more registers than there are


def cases(device: str) -> Iterator[timing.Case]:
    """All cases of a device."""
    gpu = device == "cuda"
    for case in BENCH if gpu else CPU_CASES:
        given = inputs(case).to(device, torch.bfloat16 if gpu else torch.float32)

        def contender(step: Callable[[Inputs], Tensor], given: Inputs = given) -> timing.Call:
            pools = (given.pools[0].clone(), given.pools[1].clone())
            return partial(step, replace(given, pools=pools))

        calls = {"ours": contender(_ours)}
        if gpu:
            for launches in SPLIT if case.M <= MOST_SPLIT else ():
                calls[f"{launches} launches"] = contender(partial(_in_launches, launches))
        calls["torch"] = contender(_torch)
        states = sum(pool[0].nbytes for pool in given.pools)
        moved = sum(w.nbytes for w in given.weights) + 2 * case.M * states
        bound = 2e-2 if gpu else 1e-5
        yield timing.Case(str(case), "step", calls, case.M * case.W, moved, bound)


@torch.no_grad()
def _ours(given: Inputs) -> Tensor:
    out: Tensor = given.call(layer_step_)[0]
    return out


def _in_launches(launches: int, given: Inputs) -> Tensor:
    rows, width = given.x.shape
    row = pick_blocks(
        "layer_step.enter", given.x.device, rows=rows, bytes=given.x.element_size(), inputs=width
    )
    takes = {**row.takes, "split": SPLIT[launches]}
    with forced("layer_step.enter", replace(row, takes=takes)):
        return _ours(given)


@torch.no_grad()
def _torch(given: Inputs) -> Tensor:
    """The operations of a layer one after the other, rounded where a model's own would be."""
    w, (tails, states), slots = given.weights, given.pools, given.slots
    (D, R), N = w.dt_proj.shape, w.A_log.shape[1]
    r = given.x.float() if given.residual is None else given.residual + given.x
    x = F.rms_norm(r, w.norm.shape, w.norm, 1e-5).to(given.x.dtype)
    u, z = (x @ w.in_proj.T).split(D, dim=-1)
    window = torch.cat((tails[slots], u[:, None].float()), 1)
    tails[slots] = window[:, 1:]
    u = F.silu((window * w.conv.T).sum(1) + w.conv_bias).to(x.dtype)
    low, B, C = (u @ w.x_proj.T).split([R, N, N], dim=-1)
    dt = F.softplus((low @ w.dt_proj.T).float() + w.dt_bias)[..., None]
    h = torch.exp(dt * -torch.exp(w.A_log)) * states[slots] + dt * u[..., None] * B[:, None]
    states[slots] = h
    y = (h * C[:, None]).sum(-1) + w.skip * u
    return F.linear((y * F.silu(z)).to(x.dtype), w.out_proj)


if __name__ == "__main__":
    timing.main("layer_step", cases)
