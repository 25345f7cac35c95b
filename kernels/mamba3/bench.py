"""Time Mamba-3's recurrence: ``python -m audiomamba.kernels.mamba3.bench [--json]``.

On a GPU: bfloat16, next to mamba-ssm's kernels where they are installed; then the step. Elsewhere:
float32, beside the reference.
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
from torch.nn import functional

from audiomamba.kernels import timing
from audiomamba.kernels.mamba3 import Mamba3State, mamba3, mamba3_step_
from audiomamba.kernels.mamba3.cases import Case, inputs

__all__ = ["cases"]

GPU_CASES = (
    Case(B=8, T=2048, H=24, P=64, N=128, R=32),
    Case(B=32, T=1024, H=16, P=64, N=64, R=16),
    Case(B=1, T=16384, H=24, P=64, N=128, R=32),
)
CPU_CASES = (
    Case(B=2, T=256, H=8, P=64, N=64, R=16),
    Case(B=1, T=8, H=24, P=64, N=64, R=16),
)
STEP = Case(T=1, H=24, P=64, N=128, R=32)
STEP_ROWS = {"cuda": (1, 64, 256, 1024), "cpu": (1, 8)}
BLOCKS = {"cuda": ((1, 64, 1024), (1, 4, 16)), "cpu": ((1,), (4,))}  # rows, and frames of a call
TIMED = ("x", "delta", "A", "mix", "angle", "B", "C", "z")


def cases(device: str) -> Iterator[timing.Case]:
    """All cases of a device: forward, both directions, and a frame of some streams."""
    for case in GPU_CASES if device == "cuda" else CPU_CASES:
        yield from _sequence(case, device)
    for rows in STEP_ROWS[device]:
        yield _step(rows, device)
    for rows, frames in product(*BLOCKS[device]):
        yield _frames(rows, frames, device)


def floor_bytes(case: Case, backward: bool) -> int:
    """Bytes of bfloat16 that must move: x, z and the output; B and C, which each head has."""
    samples = case.B * case.T * case.H * case.P
    weights = 4 * case.B * case.T * case.H * case.N
    forward = 6 * samples + weights
    return forward + 10 * samples + 2 * weights if backward else forward


def _sequence(case: Case, device: str) -> Iterator[timing.Case]:
    gpu = device == "cuda"
    dtype = torch.bfloat16 if gpu else torch.float32
    given = inputs(case, dtype=dtype, device=device, there=gpu)
    del given["initial_state"]
    # The part that is held to the definition.
    small = inputs(replace(case, B=1, T=70, H=2), dtype=dtype, device=device)
    runs: dict[str, Callable[..., Tensor]] = {"ours": _ours}
    if not gpu:
        runs["reference"] = partial(_ours, implementation="reference")
    elif find_spec("mamba_ssm") is not None and find_spec("mamba_ssm.ops.triton.mamba3"):
        peer = import_module("mamba_ssm.ops.triton.mamba3.mamba3_siso_combined")
        runs["mamba-ssm"] = partial(_peer, peer.mamba3_siso_combined)
    for backward in (False, True):
        run = _both if backward else _forward
        yield timing.Case(
            f"{case.B}, {case.T}, {case.H} x {case.P}, N {case.N}",
            "both" if backward else "forward",
            {who: partial(run, op, given) for who, op in runs.items()},
            case.B * case.T * case.H * case.P,
            floor_bytes(case, backward) if gpu else None,
            4e-2 if gpu else 1e-4,  # the peer rounds angles and weights to bfloat16 as well
            partial(timing.error_of, _ours, small, backward=backward),
        )


def _step(rows: int, device: str) -> timing.Case:
    gpu = device == "cuda"
    dtype = torch.bfloat16 if gpu else torch.float32
    given = inputs(replace(STEP, B=rows), dtype=dtype, device=device, there=gpu)
    given |= {name: given[name][:, 0] for name in TIMED}
    first = given.pop("initial_state")
    slots = torch.randperm(rows, device=device) + 1

    def pool() -> Mamba3State:
        return Mamba3State(*(x.new_zeros(rows + 1, *x.shape[1:]) for x in first))

    ours = partial(mamba3_step_, **given, slots=slots)
    calls: dict[str, Callable[[], Tensor]] = {"ours": partial(ours, pool=pool())}
    reference = partial(mamba3_step_, **given, pool=pool(), slots=slots, implementation="reference")
    error = None
    if not gpu:
        calls["reference"] = reference
    elif rows <= 64:  # it is a loop over the rows
        error = partial(timing.difference, partial(ours, pool=pool()), reference)
    state = STEP.P * STEP.N + STEP.N + STEP.P + STEP.R
    return timing.Case(
        f"{rows} x {STEP.H} x {STEP.P}, N {STEP.N}",
        "step",
        calls,
        rows * STEP.H * STEP.P,
        2 * 4 * rows * STEP.H * state,
        2e-2 if gpu else 1e-4,
        error,
    )


def _frames(rows: int, frames: int, device: str) -> timing.Case:
    gpu = device == "cuda"
    dtype = torch.bfloat16 if gpu else torch.float32
    given = inputs(replace(STEP, B=rows, T=frames), dtype=dtype, device=device, there=gpu)
    first = given.pop("initial_state")
    slots = torch.randperm(rows, device=device) + 1
    timed = {name: given.pop(name) for name in TIMED}

    def step_(now: Mapping[str, Any], pool: tuple[Tensor, ...]) -> Tensor:
        return mamba3_step_(**now, **given, pool=Mamba3State(*pool), slots=slots)

    heads = rows * STEP.H
    pool = tuple(x.new_zeros(rows + 1, *x.shape[1:]) for x in first)
    state = STEP.P * STEP.N + STEP.N + STEP.P + STEP.R
    moved = 2 * 4 * heads * state + heads * frames * (6 * STEP.P + 4 * STEP.N)
    name = f"{rows} x {STEP.H} x {STEP.P}, N {STEP.N}"
    return timing.several_frames(name, frames, step_, timed, pool, moved, 2e-2 if gpu else 1e-4)


def _ours(**given: Any) -> Tensor:
    return mamba3(**given)[0]


def _peer(run: Callable[..., Tensor], **given: Any) -> Tensor:
    """mamba-ssm's, which takes step sizes and decays made, B and C without their bias."""
    delta = functional.softplus(given["delta"].float() + given["delta_bias"])
    decay = delta * -functional.softplus(given["A"].float()).clamp(min=1e-4)
    heads, states = given["B"].shape[2:]
    bias = given["B"].new_zeros(heads, states)
    angle = given["angle"].float()[:, :, None].expand(-1, -1, heads, -1)
    return run(
        Q=given["C"], K=given["B"], V=given["x"], ADT=decay.mT, DT=delta.mT, Trap=given["mix"].mT,
        Q_bias=bias, K_bias=bias, Angles=angle, D=given["D"], Z=given["z"],
    )  # fmt: skip


def _forward(run: Callable[..., Tensor], given: dict[str, Any]) -> Tensor:
    with torch.no_grad():
        return run(**given)


def _both(run: Callable[..., Tensor], given: dict[str, Any]) -> Tensor:
    leaves = {
        name: x.detach().requires_grad_() for name, x in given.items() if isinstance(x, Tensor)
    }
    return torch.autograd.grad(run(**leaves), list(leaves.values()), given["x"])[0]


if __name__ == "__main__":
    timing.main("mamba3", cases)
