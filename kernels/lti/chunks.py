"""Calls of ``chunk_kernels``: when, how they are cut, and what is launched."""

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from audiomamba.kernels.blocks import ANY, Blocks, architecture, multiprocessors, pick_blocks
from audiomamba.kernels.launching import launch
from audiomamba.kernels.lti.chunk_kernels import (
    backward_kernel,
    forward_kernel,
    parameters_kernel,
    powers_kernel,
)
from audiomamba.kernels.lti.op import empty_like_layout

__all__ = ["LEAST_FRAMES", "MOST_STATES", "backward", "blocks_of", "forward", "supports"]

MOST_STATES = 32  # complex, a channel; a program of 64 has 108 KiB, more than some GPUs give one
LEAST_ARCHITECTURE = 80  # of NVIDIA's, from which on tensor cores take bfloat16
LEAST_FRAMES = 32  # fewer are a few steps of the recurrence


class _Plan(NamedTuple):
    """How a call is cut: L frames a chunk, CB chunks a block, BB rows a program and turn."""

    L: int
    CB: int
    BB: int
    NP: int
    blocks: int
    groups: int  # of BB rows, which a program goes through
    splits: int  # of all rows, a program each
    row: Blocks


def supports(u: Tensor, states: int, resets: Tensor | None) -> bool:
    """Whether a call can go this way."""
    if u.dtype != torch.bfloat16 or resets is not None or states > MOST_STATES:
        return False
    name = architecture(u.device)
    return not u.is_cuda or (name != ANY and int(name.removeprefix("sm_")) >= LEAST_ARCHITECTURE)


def blocks_of(T: int, device: torch.device) -> int:
    """Blocks of a call of T frames, whose first states are kept for the backward."""
    row = pick_blocks("lti.chunks", device)
    return -(-T // (row["frames"] * _chunks(T, row)))


def _chunks(T: int, row: Blocks) -> int:
    chunks = -(-T // row["frames"])
    return min(row["rows"], 1 << (chunks - 1).bit_length())


def _plan(u: Tensor, N: int) -> _Plan:
    B, T, D = u.shape
    row = pick_blocks("lti.chunks", u.device)
    CB = _chunks(T, row)
    BB = max(min(row["rows"] // CB, triton.next_power_of_2(B)), 16 // CB)
    of_rows = triton.cdiv(B, BB)
    # As many programs as fill the GPU: each makes the tables of its channel.
    wanted = triton.cdiv(row["programs"] * multiprocessors(u.device), D)
    groups = triton.cdiv(of_rows, min(of_rows, wanted))
    return _Plan(
        row["frames"], CB, BB, max(16, triton.next_power_of_2(N)), blocks_of(T, u.device),
        groups, triton.cdiv(of_rows, groups), row,
    )  # fmt: skip


def _powers(
    plan: _Plan, T: int, a: Tensor, b: Tensor, c: Tensor, skip: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Powers of Ā, ``(D, 2, L, NP)``; to the L and to the rest, ``(D, 4, NP)``; ``(D, L)`` taps."""
    D, N = a.shape[:2]
    table = torch.empty((D, 2, plan.L, plan.NP), dtype=torch.float32, device=a.device)
    ends = torch.empty((D, 4, plan.NP), dtype=torch.float32, device=a.device)
    taps = torch.empty((D, plan.L), dtype=torch.float32, device=a.device)
    rest = T - (triton.cdiv(T, plan.L) - 1) * plan.L
    launch(
        powers_kernel, (D,), a, b, c, b if skip is None else skip, table, ends, taps, D, N, rest,
        L=plan.L, BITS=plan.L.bit_length() - 1, NP=plan.NP, SKIP=skip is not None, num_warps=4,
    )  # fmt: skip
    return table, ends, taps


def forward(
    u: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor | None, initial_state: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs, last states, and states before every block but the first."""
    B, T, D = u.shape
    N = a.shape[1]
    plan = _plan(u, N)
    a, b, c = a.contiguous(), b.contiguous(), c.contiguous()
    table, ends, taps = _powers(plan, T, a, b, c, skip)
    y = empty_like_layout(u)
    last = torch.empty((B, D, N, 2), dtype=torch.float32, device=u.device)
    starts = torch.empty((B, D, plan.blocks - 1, N, 2), dtype=torch.float32, device=u.device)
    first = last if initial_state is None else initial_state.contiguous()
    launch(
        forward_kernel, (D * plan.splits,), u, table, ends, taps, a, b, c, first, y, last, starts,
        B, T, D, N, plan.groups, plan.blocks, *u.stride(), *y.stride(), L=plan.L, NP=plan.NP,
        BB=plan.BB, CB=plan.CB, FIRST=initial_state is not None, **plan.row.settings,
    )  # fmt: skip
    return y, last, starts


def backward(
    dy: Tensor,
    u: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    skip: Tensor | None,
    initial_state: Tensor | None,
    starts: Tensor,
) -> tuple[Tensor, ...]:
    """Gradients of u, Ā, B̄, C, D and the first state; none of the last state comes in."""
    B, T, D = u.shape
    N = a.shape[1]
    plan = _plan(u, N)
    dy = dy.to(u.dtype)
    a, b, c = a.contiguous(), b.contiguous(), c.contiguous()
    table, ends, taps = _powers(plan, T, a, b, c, skip)
    du = empty_like_layout(u)
    dfirst = torch.empty((B, D, N, 2), dtype=torch.float32, device=u.device)
    S, L, NP = plan.splits, plan.L, plan.NP
    pairs = torch.empty((S, D, L, L), dtype=torch.float32, device=u.device)
    outers = torch.empty((S, D, 4, L, NP), dtype=torch.float32, device=u.device)
    turns = torch.empty((S, D, 2, NP), dtype=torch.float32, device=u.device)
    first = dfirst if initial_state is None else initial_state.contiguous()
    launch(
        backward_kernel, (D * S,), dy, u, table, ends, taps, a, b, c, first,
        starts, du, dfirst, pairs, outers, turns, B, T, D, N, plan.groups, plan.blocks,
        *dy.stride(), *u.stride(), *du.stride(), L=L, NP=NP, BB=plan.BB, CB=plan.CB,
        FIRST=initial_state is not None,
        **{**plan.row.settings, "num_warps": plan.row["backward_warps"]},
    )  # fmt: skip
    da, db, dc = torch.empty_like(a), torch.empty_like(b), torch.empty_like(c)
    dskip = b.new_empty(D)
    launch(
        parameters_kernel, (D,), pairs, outers, turns, table, a, b, c, da, db, dc, dskip, D, N, S,
        L=L, NP=NP, num_warps=4,
    )  # fmt: skip
    return du, da, db, dc, dskip, dfirst
