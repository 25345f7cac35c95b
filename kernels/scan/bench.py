"""Time the scan: ``python -m audiomamba.kernels.scan.bench [--json]``.

On a GPU: bfloat16 beside float32 weights, the shapes of ``cases.SPEED`` with time contiguous and
the first also with channels contiguous, next to mamba-ssm where it is installed; then the step.
Elsewhere: float32, beside the reference.
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
from audiomamba.kernels.scan import scan, scan_step_
from audiomamba.kernels.scan.cases import SPEED, Case, Speed, inputs

__all__ = ["cases"]

CPU_CASES = (
    Case(B=4, T=512, D=512, N=16),
    Case(B=1, T=8, D=768, N=16),
    Case(B=8, T=8, D=768, N=16),
)
STEP_ROWS = {"cuda": (1, 64, 256, 1024, 4096), "cpu": (1, 8)}
STEP_WIDTH, STATES = {"cuda": 1536, "cpu": 768}, 16
BLOCKS = {"cuda": ((1, 64, 1024), (1, 4, 16)), "cpu": ((1,), (4,))}  # rows, and frames of a call
TIMED = ("u", "delta", "B", "C", "z")


def cases(device: str) -> Iterator[timing.Case]:
    """All cases of a device: forward, both directions, and a frame of some streams."""
    if device == "cuda":
        for speed in SPEED:
            case = Case(B=speed.B, T=speed.T, D=speed.D, N=speed.N, time_contiguous=True)
            yield from _sequence(case, speed, device)
        first = SPEED[0]
        yield from _sequence(Case(B=first.B, T=first.T, D=first.D, N=first.N), first, device)
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
    # The part that is held to the definition.
    small = inputs(replace(case, B=1, T=70, D=40), dtype=dtype, device=device)
    runs: dict[str, Callable[..., Tensor]] = {"ours": _ours}
    if not gpu:
        runs["reference"] = partial(_ours, implementation="reference")
    elif find_spec("mamba_ssm") is not None:
        peer = import_module("mamba_ssm.ops.selective_scan_interface").selective_scan_fn
        runs["mamba-ssm"] = partial(_peer, peer)
    layout = "" if case.time_contiguous or not gpu else ", ch."
    name = f"{case.B}, {case.T}, {case.D}, N {case.N}{layout}"
    values = case.B * case.T * case.D * (1 if gpu else case.N)
    bound = 2e-2 if gpu else 1e-4
    for backward in (False, True):
        run = _both if backward else _forward
        yield timing.Case(
            name,
            "both" if backward else "forward",
            {who: partial(run, op, given) for who, op in runs.items()},
            values,
            speed.floor_bytes(backward) if speed else None,
            bound,
            partial(timing.error_of, _ours, small, backward=backward),
        )


def _step(rows: int, pool_dtype: torch.dtype, device: str) -> timing.Case:
    gpu = device == "cuda"
    width = STEP_WIDTH[device]
    dtype = torch.bfloat16 if gpu else torch.float32
    given = inputs(Case(B=rows, T=1, D=width, N=STATES), dtype=dtype, device=device, there=gpu)
    del given["initial_state"], given["reverse"]
    given |= {name: given[name][:, 0] for name in TIMED}
    slots = torch.randperm(rows, device=device) + 1
    calls: dict[str, Callable[[], Tensor]] = {}
    for name in (None, "reference") if rows <= 64 else (None,):
        pool = torch.zeros(rows + 1, width, STATES, device=device, dtype=pool_dtype)
        calls[name or "ours"] = partial(
            scan_step_, **given, pool=pool, slots=slots, implementation=name
        )
    error = None
    if gpu:
        # The reference is a loop over rows on the host: it judges, and is not timed. What it judges
        # has a pool of its own, as the contenders must all be at the same frame.
        reference = calls.pop("reference", None)
        if reference is not None:
            own = torch.zeros_like(pool)
            judged = partial(scan_step_, **given, pool=own, slots=slots)
            error = partial(timing.difference, judged, reference)
        if find_spec("mamba_ssm") is not None:
            calls["mamba-ssm"] = _peer_step(given, rows, width, pool_dtype, slots)
    moved = 2 * rows * width * STATES * (2 if pool_dtype == torch.bfloat16 else 4)
    return timing.Case(
        f"{rows} x {width}, N {STATES}, {str(pool_dtype).removeprefix('torch.')}",
        "step",
        calls,
        rows * width,
        moved + 8 * rows * width,
        2e-2 if gpu else 1e-4,
        error,
    )


def _frames(rows: int, frames: int, device: str) -> timing.Case:
    gpu, width = device == "cuda", STEP_WIDTH[device]
    dtype = torch.bfloat16 if gpu else torch.float32
    case = Case(B=rows, T=frames, D=width, N=STATES)
    given = inputs(case, dtype=dtype, device=device, there=gpu)
    del given["initial_state"], given["reverse"]
    slots = torch.randperm(rows, device=device) + 1

    timed = {name: given.pop(name) for name in TIMED}

    def step_(now: Mapping[str, Any], pool: tuple[Tensor, ...]) -> Tensor:
        return scan_step_(**now, **given, pool=pool[0], slots=slots)

    moved = 2 * 4 * rows * width * STATES + 8 * rows * frames * width
    pool = (torch.randn(rows + 1, width, STATES, device=device),)
    name = f"{rows} x {width}, N {STATES}"
    return timing.several_frames(name, frames, step_, timed, pool, moved, 2e-2 if gpu else 1e-4)


def _ours(**given: Any) -> Tensor:
    return scan(**given)[0]


def _peer(run: Callable[..., Tensor], **given: Any) -> Tensor:
    B, C = (given[name].permute(0, 2, 3, 1) for name in ("B", "C"))
    out = run(
        given["u"].mT, given["delta"].mT, given["A"], B, C, given["D"], z=given["z"].mT,
        delta_bias=given["delta_bias"], delta_softplus=True,
    )  # fmt: skip
    return out.mT


def _peer_step(
    given: dict[str, Any], rows: int, width: int, dtype: torch.dtype, slots: Tensor
) -> Callable[[], Tensor]:
    update = import_module("mamba_ssm.ops.triton.selective_state_update").selective_state_update
    pool = torch.zeros(rows + 1, width, STATES, device="cuda", dtype=dtype)
    return partial(
        update, pool, given["u"], given["delta"], given["A"], given["B"][:, 0], given["C"][:, 0],
        given["D"], given["z"], given["delta_bias"], dt_softplus=True,
        state_batch_indices=slots.int(),
    )  # fmt: skip


def _forward(run: Callable[..., Tensor], given: dict[str, Any]) -> Tensor:
    given = {name: x for name, x in given.items() if name != "initial_state"}
    with torch.no_grad():
        return run(**given)


def _both(run: Callable[..., Tensor], given: dict[str, Any]) -> Tensor:
    leaves = {
        name: x.detach().requires_grad_()
        for name, x in given.items()
        if isinstance(x, Tensor) and name != "initial_state"
    }
    rest = {name: x for name, x in given.items() if not isinstance(x, Tensor)}
    out = run(**leaves, **rest)
    return torch.autograd.grad(out, list(leaves.values()), given["u"])[0]


if __name__ == "__main__":
    timing.main("scan", cases)
