"""Time the duality: ``python -m audiomamba.kernels.ssd.bench [--json]``.

On a GPU: bfloat16, the shapes of ``cases.SPEED``, next to mamba-ssm where it is installed; then
the step with pools of two dtypes. Elsewhere: float32, beside the reference.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from typing import Any

import torch
from torch import Tensor

from audiomamba.kernels import timing
from audiomamba.kernels.ssd import ssd, ssd_step_
from audiomamba.kernels.ssd.cases import SPEED, Case, Speed, inputs
from audiomamba.kernels.ssd.op import chunk_steps

__all__ = ["cases"]

CPU_CASES = (
    Case(B=2, T=512, H=8, P=64, N=128),
    Case(B=1, T=8, H=24, P=64, N=128),
    Case(B=8, T=1, H=24, P=64, N=128),
)
STEP = Case(T=1, H=24, P=64, N=128)
STEP_ROWS = {"cuda": (1, 64, 256, 1024), "cpu": (1, 8)}
BLOCKS = {"cuda": ((1, 64, 1024), (1, 4, 16)), "cpu": ((1,), (4,))}  # rows, and frames of a call
TIMED = ("x", "delta", "B", "C", "z")


def cases(device: str) -> Iterator[timing.Case]:
    """All cases of a device: forward, both directions, and a frame of some streams."""
    if device == "cuda":
        for speed in SPEED:
            case = Case(B=speed.B, T=speed.T, H=speed.H, P=speed.P, N=speed.N)
            yield from _sequence(case, speed, device)
    else:
        for case in CPU_CASES:
            yield from _sequence(case, None, device)
    for rows in STEP_ROWS[device]:
        yield _step(rows, torch.float32, device)
        if device == "cuda" and rows > 1:
            yield _step(rows, torch.bfloat16, device)
    for rows, frames in product(*BLOCKS[device]):
        yield _frames(rows, frames, device)


def _sequence(case: Case, speed: Speed | None, device: str) -> Iterator[timing.Case]:
    gpu = device == "cuda"
    dtype = torch.bfloat16 if gpu else torch.float32
    given = inputs(case, dtype=dtype, device=device, there=gpu)
    del given["initial_state"]
    # The part that is held to the definition.
    small = inputs(replace(case, B=1, T=70, H=2), dtype=dtype, device=device)
    runs: dict[str, Callable[..., Tensor]] = {"ours": _ours}
    if not gpu:
        runs["reference"] = partial(_ours, implementation="reference")
    elif find_spec("mamba_ssm") is not None:
        peer = import_module("mamba_ssm.ops.triton.ssd_combined").mamba_chunk_scan_combined
        runs["mamba-ssm"] = partial(_peer, peer)
    for backward in (False, True):
        run = _both if backward else _forward
        products = speed.flops(chunk_steps(given["x"], given["B"]), backward) if speed else 0
        yield timing.Case(
            f"{case.B}, {case.T}, {case.H} x {case.P}, N {case.N}",
            "both" if backward else "forward",
            {who: partial(run, op, given) for who, op in runs.items()},
            case.B * case.T * case.H * case.P,
            speed.floor_bytes(backward) if speed else None,
            2e-2 if gpu else 1e-4,
            partial(timing.error_of, _ours, small, backward=backward),
            products,
        )


def _step(rows: int, pool_dtype: torch.dtype, device: str) -> timing.Case:
    gpu = device == "cuda"
    dtype = torch.bfloat16 if gpu else torch.float32
    given = inputs(replace(STEP, B=rows), dtype=dtype, device=device, there=gpu)
    del given["initial_state"]
    given |= {name: given[name][:, 0] for name in TIMED}
    slots = torch.randperm(rows, device=device) + 1

    def pool() -> Tensor:
        shape = (rows + 1, STEP.H, STEP.P, STEP.N)
        return torch.zeros(shape, device=device, dtype=pool_dtype)

    calls: dict[str, Callable[[], Tensor]] = {
        "ours": partial(ssd_step_, **given, pool=pool(), slots=slots)
    }
    reference = partial(
        ssd_step_, **given, pool=pool(), slots=slots, implementation="reference"
    )  # a loop over the rows: where there are few it judges
    error = None
    if not gpu:
        calls["reference"] = reference
    elif rows <= 64:
        # With a pool of its own, as the contenders must all be at the same frame.
        judged = partial(ssd_step_, **given, pool=pool(), slots=slots)
        error = partial(timing.difference, judged, reference)
    if gpu and find_spec("mamba_ssm") is not None:
        calls["mamba-ssm"] = _peer_step(given, pool(), slots)
    moved = 2 * rows * STEP.H * STEP.P * STEP.N * (2 if pool_dtype == torch.bfloat16 else 4)
    return timing.Case(
        f"{rows} x {STEP.H} x {STEP.P}, N {STEP.N}, {str(pool_dtype).removeprefix('torch.')}",
        "step",
        calls,
        rows * STEP.H * STEP.P,
        moved,
        2e-2 if gpu else 1e-4,
        error,
    )


def _frames(rows: int, frames: int, device: str) -> timing.Case:
    gpu = device == "cuda"
    dtype = torch.bfloat16 if gpu else torch.float32
    given = inputs(replace(STEP, B=rows, T=frames), dtype=dtype, device=device, there=gpu)
    del given["initial_state"]
    slots = torch.randperm(rows, device=device) + 1

    timed = {name: given.pop(name) for name in TIMED}

    def step_(now: Mapping[str, Any], pool: tuple[Tensor, ...]) -> Tensor:
        return ssd_step_(**now, **given, pool=pool[0], slots=slots)

    channels = rows * STEP.H * STEP.P
    pool = (torch.randn(rows + 1, STEP.H, STEP.P, STEP.N, device=device),)
    name = f"{rows} x {STEP.H} x {STEP.P}, N {STEP.N}"
    moved = 2 * 4 * channels * STEP.N + 6 * channels * frames
    return timing.several_frames(name, frames, step_, timed, pool, moved, 2e-2 if gpu else 1e-4)


def _ours(**given: Any) -> Tensor:
    return ssd(**given)[0]


def _peer(run: Callable[..., Tensor], **given: Any) -> Tensor:
    return run(
        given["x"], given["delta"], given["A"], given["B"], given["C"], 256, given["D"],
        given["z"], given["delta_bias"], dt_softplus=True,
    )  # fmt: skip


def _peer_step(given: dict[str, Any], pool: Tensor, slots: Tensor) -> Callable[[], Tensor]:
    update = import_module("mamba_ssm.ops.triton.selective_state_update").selective_state_update
    H, P, N = STEP.H, STEP.P, STEP.N
    delta, D, bias = (given[name][..., None] for name in ("delta", "D", "delta_bias"))
    return partial(
        update, pool, given["x"], delta.expand(-1, H, P), given["A"][:, None, None].expand(H, P, N),
        given["B"], given["C"], D.expand(H, P), given["z"], bias.expand(H, P), dt_softplus=True,
        state_batch_indices=slots.int(),
    )  # fmt: skip


def _forward(run: Callable[..., Tensor], given: dict[str, Any]) -> Tensor:
    with torch.no_grad():
        return run(**given)


def _both(run: Callable[..., Tensor], given: dict[str, Any]) -> Tensor:
    leaves = {
        name: x.detach().requires_grad_() for name, x in given.items() if isinstance(x, Tensor)
    }
    rest = {name: x for name, x in given.items() if not isinstance(x, Tensor)}
    out = run(**leaves, **rest)
    return torch.autograd.grad(out, list(leaves.values()), given["x"])[0]


if __name__ == "__main__":
    timing.main("ssd", cases)
