"""State-space duality on a GPU: memory, grid and block sizes for the kernels of ``walk`` and
``pairs``."""

from dataclasses import dataclass
from typing import Any, Final

import torch
import triton
from torch import Tensor

from audiomamba.kernels.blocks import multiprocessors, pick_blocks
from audiomamba.kernels.launching import launch
from audiomamba.kernels.ssd.op import (
    chunk_steps,
    empty_checkpoints,
    empty_gradients,
    empty_state,
    num_chunks,
    state_rows,
)
from audiomamba.kernels.ssd.pairs import heads_kernel, shared_kernel
from audiomamba.kernels.ssd.walk import (
    forward_kernel,
    gradient_kernel,
    sizes_kernel,
    step_kernel,
)

__all__ = ["backward", "forward", "step_"]

PROGRAMS: Final = 2  # a multiprocessor; below, time is cut into spans
MIN_SPAN: Final = 4  # chunks; shorter spans would be all first pass
MIN_DOT: Final = 16  # least side of a product on tensor cores


@dataclass(frozen=True, slots=True)
class _Plan:
    """How a call is cut up."""

    sequences: int
    steps: int  # of a chunk
    span: int  # chunks
    splits: int  # spans of a sequence, where none are packed
    num_spans: int
    spans: Tensor | None  # (num_spans, 6) int32: see place_of_span; None where it is arithmetic
    chunks: Tensor | None  # (num_chunks, 2) int32: first and last time; likewise

    @property
    def split(self) -> bool:
        return self.splits > 1


def _share(kernel: str, x: Tensor, B: Tensor) -> tuple[int, dict[str, Any]]:
    """Programs that share a head, and the constants of a program."""
    width = x.shape[3]
    NP = max(MIN_DOT, triton.next_power_of_2(B.shape[3]))
    row = pick_blocks(f"ssd.{kernel}", x.device, bytes=x.element_size(), states=NP)
    BP = max(MIN_DOT, min(row["channels"], triton.next_power_of_2(width)))
    constants = {
        "P": width,
        "N": B.shape[3],
        "BP": BP,
        "NP": min(NP, row["states"]),
        "Q": chunk_steps(x, B),
        "PRECISION": "ieee" if x.dtype == torch.float32 else "tf32",
        **row.settings,
    }
    return triton.cdiv(width, BP), constants


def _plan(x: Tensor, B: Tensor, cu_seqlens: Tensor | None) -> _Plan:
    _, steps, heads, _ = x.shape
    Q = chunk_steps(x, B)
    sequences = state_rows(x, cu_seqlens)
    programs = heads * _share("forward", x, B)[0]
    if cu_seqlens is None:  # packed ones count as one
        programs *= sequences
    chunks = triton.cdiv(steps, Q)  # of a row
    full = PROGRAMS * multiprocessors(x.device)
    wanted = triton.cdiv(full, max(programs, 1)) if programs <= full // 2 else 1
    splits = max(1, min(wanted, chunks // MIN_SPAN))
    span = max(1, triton.cdiv(chunks, splits))
    splits = max(1, triton.cdiv(chunks, span))
    if cu_seqlens is None:
        return _Plan(sequences, Q, span, splits, sequences * splits, None, None)
    num_spans = steps // (span * Q) + sequences
    spans, table = _packed(cu_seqlens, Q, span, num_spans, num_chunks(x, B, cu_seqlens))
    return _Plan(sequences, Q, span, splits, num_spans, spans, table)


def _packed(
    cu_seqlens: Tensor, Q: int, span: int, num_spans: int, num_chunks: int
) -> tuple[Tensor, Tensor]:
    """Tables of the spans and chunks of packed sequences, made without waiting for the device.

    A sequence without a step has one span, which hands its state on. Spans and chunks past those
    in use have no steps, and are nobody's last.
    """
    ends = cu_seqlens.long()
    start, end = ends[:-1], ends[1:]
    counts = ((end - start + span * Q - 1) // (span * Q)).clamp(min=1)
    past = counts.cumsum(0)  # number of the first span after each sequence
    i = torch.arange(num_spans, device=ends.device)
    found = torch.searchsorted(past, i, right=True)
    used = found < start.shape[0]
    seq = found.clamp(max=start.shape[0] - 1)
    first = (past - counts)[seq]
    begin = torch.minimum(start[seq] + (i - first) * span * Q, end[seq])
    stop = torch.where(used, torch.minimum(begin + span * Q, end[seq]), begin)
    last = torch.where(used, past[seq] - 1, -1)
    first_chunk = start // Q + torch.arange(start.shape[0], device=ends.device)
    i_chunk = first_chunk[seq] + (i - first) * span
    spans = torch.stack((seq, begin, stop, torch.where(used, first, i), last, i_chunk), 1).int()

    j = torch.arange(num_chunks, device=ends.device)
    owner = torch.searchsorted(first_chunk, j, right=True) - 1
    begin = start[owner] + (j - first_chunk[owner]) * Q
    chunks = torch.stack((begin, torch.minimum(begin + Q, end[owner])), 1).int()
    return spans, chunks.contiguous()


def forward(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    resets: Tensor | None,
    cu_seqlens: Tensor | None,
    softplus: bool,
    low: float,
    high: float,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the output, the last states and the states kept for ``backward``."""
    heads = x.shape[2]
    out = torch.empty_like(x)
    state = empty_state(x, B, cu_seqlens)
    checkpoints = empty_checkpoints(x, B, cu_seqlens, save, "gpu")
    plan = _plan(x, B, cu_seqlens)
    if not (plan.sequences and heads):
        return out, state, checkpoints
    sizes = _sizes(delta, A, delta_bias, softplus, low, high, slopes=False)
    parts = _parts(plan, x, B)
    blocks, constants = _share("forward", x, B)
    with torch.cuda.device_of(x):
        for output in (False, True) if plan.split else (True,):
            launch(
                forward_kernel,
                (heads * blocks, plan.num_spans),
                x,
                *sizes[:2],
                B,
                C,
                D,
                z,
                _dense(initial_state),
                _bytes(resets),
                plan.spans,
                out,
                state,
                checkpoints if save else None,
                *parts,
                x.shape[1],
                heads,
                heads // B.shape[2],
                plan.splits,
                plan.span,
                *x.stride(),
                *_strides(z, 4),
                *out.stride(),
                *B.stride(),
                *C.stride(),
                *_strides(D, 2),
                *_strides(resets, 2),
                **constants,
                OUTPUT=output,
                SPLIT=x.dtype != torch.float32,
            )
    return out, state, checkpoints


def backward(
    dout: Tensor | None,
    dstate: Tensor | None,
    checkpoints: Tensor,
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    resets: Tensor | None,
    cu_seqlens: Tensor | None,
    softplus: bool,
    low: float,
    high: float,
) -> tuple[Tensor, ...]:
    """Return the gradients of x, delta, A, B, C, D, z, delta_bias and initial_state.

    Sums over chunks and over shares of the heads are written as partial sums and added afterwards,
    so that two runs agree bitwise.
    """
    rows, steps, heads, _ = x.shape
    groups = B.shape[2]
    dout = torch.zeros_like(x) if dout is None else dout
    dx, ddelta, dA, dB, dC, dz, dh0 = empty_gradients(x, delta, A, B, C, z, initial_state)
    plan = _plan(x, B, cu_seqlens)
    gradients = torch.empty_like(checkpoints)  # of the states after the chunks
    first = x.new_empty((plan.sequences, *x.shape[2:], B.shape[3]), dtype=torch.float32)
    parts = _parts(plan, x, B)
    ddt, dlog = x.new_empty((2, rows, heads, steps), dtype=torch.float32)
    count = num_chunks(x, B, cu_seqlens)
    dD = x.new_empty((count, *x.shape[2:]), dtype=torch.float32)
    full = PROGRAMS * multiprocessors(x.device)
    shares = min(heads // groups, triton.cdiv(full, max(1, count * groups)))
    per_share = triton.cdiv(heads // groups, max(1, shares))
    shares = triton.cdiv(heads // groups, max(1, per_share))
    dBs, dCs = dB.unsqueeze(0), dC.unsqueeze(0)
    if shares != 1:
        dBs, dCs = x.new_empty((2, shares, *B.shape), dtype=torch.float32)
    if plan.sequences and heads:
        size, log, slope = _sizes(delta, A, delta_bias, softplus, low, high, slopes=True)
        blocks, constants = _share("gradient", x, B)
        with torch.cuda.device_of(x):
            for output in (False, True) if plan.split else (True,):
                launch(
                    gradient_kernel,
                    (heads * blocks, plan.num_spans),
                    dout,
                    _dense(dstate),
                    size,
                    log,
                    C,
                    z,
                    _bytes(resets),
                    plan.spans,
                    gradients,
                    None if initial_state is None else first,
                    *parts,
                    steps,
                    heads,
                    heads // groups,
                    plan.splits,
                    plan.span,
                    *dout.stride(),
                    *_strides(z, 4),
                    *C.stride(),
                    *_strides(resets, 2),
                    **constants,
                    OUTPUT=output,
                )
            # What the two kernels of the chunks take alike.
            given = (
                dout,
                checkpoints,
                gradients,
                x,
                size,
                log,
                B,
                C,
                z,
                _bytes(resets),
                plan.chunks,
            )
            strides = (
                *dout.stride(),
                *x.stride(),
                *_strides(z, 4),
                *B.stride(),
                *C.stride(),
                *_strides(resets, 2),
            )
            launch(
                heads_kernel,
                (count, groups * shares),
                *given,
                slope,
                A,
                D,
                dx,
                ddt,
                dlog,
                dD,
                dz,
                steps,
                heads,
                heads // groups,
                per_share,
                *strides,
                A.stride(-1),
                *_strides(D, 2),
                *dx.stride(),
                *_strides(dz, 4),
                **_share("heads", x, B)[1],
                BY_STEP=A.ndim == 3,
            )
            constants = _share("shared", x, B)[1]
            launch(
                shared_kernel,
                (count, groups * shares, triton.cdiv(B.shape[3], constants["NP"])),
                *given,
                dBs,
                dCs,
                steps,
                heads,
                groups,
                heads // groups,
                per_share,
                *strides,
                *dBs.stride(),
                *dCs.stride(),
                **constants,
            )
    ddt, dlog = ddt.mT, dlog.mT
    if initial_state is not None:
        dh0.copy_(first)
    return (
        dx,
        ddelta.copy_(ddt),
        dA.copy_(dlog if A.ndim == 3 else dlog.sum((0, 1))),
        dB if shares == 1 else dB.copy_(dBs.sum(0)),
        dC if shares == 1 else dC.copy_(dCs.sum(0)),
        x.new_empty(0) if D is None else dD.sum(0).to(D.dtype),
        dz,
        x.new_empty(0) if delta_bias is None else ddt.sum((0, 1)).to(delta_bias.dtype),
        dh0,
    )


def step_(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    pool: Tensor,
    slots: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    softplus: bool,
    low: float,
    high: float,
) -> Tensor:
    """Advance rows ``slots`` of ``pool`` by one frame, or T, and return the output."""
    rows, heads, width = x.shape[0], *x.shape[-2:]
    frames = x.shape[1] if x.ndim == 4 else 1
    out = torch.empty_like(x)
    if rows and heads and frames:
        NP = triton.next_power_of_2(B.shape[-1])
        row = pick_blocks("ssd.step", x.device, rows=rows)
        BP = max(1, min(triton.next_power_of_2(width), row["values"] // NP))
        with torch.cuda.device_of(x):
            launch(
                step_kernel,
                (heads * triton.cdiv(width, BP), rows),
                x,
                delta,
                A,
                B,
                C,
                pool,
                slots,
                D,
                z,
                _dense(delta_bias),
                out,
                frames,
                heads // B.shape[-2],
                low,
                high,
                *_framed(x, 4),
                *_framed(delta, 3),
                *_framed(z, 4),
                *_framed(out, 4),
                *(_framed(A, 3) if A.ndim > 1 else (0, 0, *A.stride())),
                *_framed(B, 4),
                *_framed(C, 4),
                *_strides(D, 2),
                *pool.stride(),
                *slots.stride(),
                P=width,
                N=B.shape[-1],
                BP=BP,
                NP=NP,
                SOFTPLUS=softplus,
                BY_STEP=A.ndim > 1,
                MANY=frames > 1,
                **row.settings,
            )
    return out


def _framed(x: Tensor | None, axes: int) -> tuple[int, ...]:
    """Strides of a block of frames; a single one has no axis of time."""
    if x is None:
        return (0,) * axes
    row, *rest = x.stride()
    return (row, *rest) if x.ndim == axes else (row, 0, *rest)


def _parts(plan: _Plan, x: Tensor, B: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Memory for what the first pass over the spans leaves to the second."""
    if not plan.split:
        return None, None
    shape = (plan.num_spans, *x.shape[2:], B.shape[3])
    return (
        x.new_empty(shape, dtype=torch.float32),
        x.new_empty(shape[:2], dtype=torch.float32),
    )


def _sizes(
    delta: Tensor,
    A: Tensor,
    bias: Tensor | None,
    softplus: bool,
    low: float,
    high: float,
    *,
    slopes: bool,
) -> Tensor:
    """Step sizes, log2 of decays and, with ``slopes``, those of the sizes: (2 or 3, B, H, T)."""
    rows, steps, heads = delta.shape
    found = delta.new_empty((2 + slopes, rows, heads, steps), dtype=torch.float32)
    row = pick_blocks("ssd.sizes", delta.device)
    BH = min(row["heads"], triton.next_power_of_2(heads))
    grid = (triton.cdiv(steps, row["steps"]), triton.cdiv(heads, BH), rows)
    if found.numel():
        with torch.cuda.device_of(delta):
            launch(
                sizes_kernel,
                grid,
                delta,
                A,
                _dense(bias),
                found[0],
                found[1],
                found[2] if slopes else None,
                steps,
                heads,
                low,
                high,
                *delta.stride(),
                *(A.stride() if A.ndim == 3 else (0, 0, *A.stride())),
                BT=row["steps"],
                BH=BH,
                SOFTPLUS=softplus,
                BY_STEP=A.ndim == 3,
                **row.settings,
            )
    return found


def _dense(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.contiguous()


def _bytes(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.view(torch.uint8)


def _strides(x: Tensor | None, axes: int) -> tuple[int, ...]:
    return (0,) * axes if x is None or x.ndim != axes else x.stride()
