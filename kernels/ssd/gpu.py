"""State-space duality on a GPU: memory, grid and block sizes for the kernels of ``walk`` and
``pairs``."""

import torch
import triton
from torch import Tensor

from audiomamba.kernels.blocks import multiprocessors, pick_blocks
from audiomamba.kernels.launching import launch
from audiomamba.kernels.ssd.op import empty_checkpoints, empty_gradients, empty_state, num_chunks
from audiomamba.kernels.ssd.pairs import emit_kernel, heads_kernel, outputs_kernel, shared_kernel
from audiomamba.kernels.ssd.plan import PROGRAMS, Plan, plan_of, share_of
from audiomamba.kernels.ssd.walk import forward_kernel, gradient_kernel, sizes_kernel, step_kernel

__all__ = ["backward", "forward", "step_"]


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
    plan = plan_of(x, B, cu_seqlens)
    if not (plan.sequences and heads):
        return out, state, checkpoints
    sizes = _sizes(delta, A, delta_bias, softplus, low, high, slopes=False)
    parts = _parts(plan, x, B)
    blocks, constants = share_of("forward", x, B)
    # The states that are kept let all chunks make their outputs at once.
    apart = save and plan.steps < x.shape[1]
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
                EMIT=output and not apart,
                SPLIT=x.dtype != torch.float32,
            )
        if apart:
            launch(
                emit_kernel,
                (heads, checkpoints.shape[0]),
                checkpoints,
                x,
                *sizes[:2],
                B,
                C,
                D,
                z,
                _bytes(resets),
                plan.chunks,
                out,
                x.shape[1],
                heads,
                heads // B.shape[2],
                *x.stride(),
                *_strides(z, 4),
                *out.stride(),
                *B.stride(),
                *C.stride(),
                *_strides(resets, 2),
                *_strides(D, 2),
                **share_of("outputs", x, B)[1],
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
    plan = plan_of(x, B, cu_seqlens)
    gradients = torch.empty_like(checkpoints)  # of the states after the chunks
    first = x.new_empty((plan.sequences, *x.shape[2:], B.shape[3]), dtype=torch.float32)
    parts = _parts(plan, x, B)
    ddt, dlog = x.new_empty((2, rows, heads, steps), dtype=torch.float32)
    count = num_chunks(x, B, cu_seqlens)
    dD = x.new_empty((count, *x.shape[2:]), dtype=torch.float32)
    pairs = x.new_empty((count, heads, plan.steps, plan.steps))  # what heads give to dB and dC
    full = PROGRAMS * multiprocessors(x.device)
    shares = max(1, min(heads // groups, round(full / max(1, count * groups))))
    per_share = triton.cdiv(heads // groups, shares)
    shares = triton.cdiv(heads // groups, max(1, per_share))
    dBs, dCs = dB.unsqueeze(0), dC.unsqueeze(0)
    if shares != 1:
        dBs, dCs = x.new_empty((2, shares, *B.shape), dtype=torch.float32)
    dy = dout if z is None else x.new_empty(x.shape)  # before the gate
    if plan.sequences and heads:
        size, log, slope = _sizes(delta, A, delta_bias, softplus, low, high, slopes=True)
        masks = _bytes(resets), plan.chunks
        with torch.cuda.device_of(x):
            launch(
                outputs_kernel,
                (heads, count),
                dout,
                checkpoints,
                x,
                size,
                log,
                B,
                C,
                z,
                *masks,
                D,
                dy,
                dz,
                dlog,
                steps,
                heads,
                heads // groups,
                *dout.stride(),
                *x.stride(),
                *_strides(z, 4),
                *B.stride(),
                *C.stride(),
                *_strides(resets, 2),
                *_strides(D, 2),
                *dy.stride(),
                *_strides(dz, 4),
                **share_of("outputs", x, B)[1],
            )
            blocks, constants = share_of("gradient", x, B)
            for output in (False, True) if plan.split else (True,):
                launch(
                    gradient_kernel,
                    (heads * blocks, plan.num_spans),
                    dy,
                    _dense(dstate),
                    size,
                    log,
                    C,
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
                    *dy.stride(),
                    *C.stride(),
                    *_strides(resets, 2),
                    **constants,
                    OUTPUT=output,
                )
            given = dy, checkpoints, gradients, x, size, log
            strides = *dy.stride(), *x.stride()
            launch(
                heads_kernel,
                (heads, count),
                *given,
                B,
                C,
                *masks,
                pairs,
                slope,
                A,
                D,
                dx,
                ddt,
                dlog,
                dD,
                steps,
                heads,
                heads // groups,
                *strides,
                *B.stride(),
                *C.stride(),
                *_strides(resets, 2),
                A.stride(-1),
                *_strides(D, 2),
                *dx.stride(),
                **share_of("heads", x, B)[1],
                BY_STEP=A.ndim == 3,
            )
            constants = share_of("shared", x, B)[1]
            for sums, of_b in ((dBs, True), (dCs, False)):
                launch(
                    shared_kernel,
                    (count, groups * shares, triton.cdiv(B.shape[3], constants["NP"])),
                    *given,
                    B,
                    C,
                    *masks,
                    pairs,
                    sums,
                    steps,
                    heads,
                    groups,
                    heads // groups,
                    per_share,
                    *strides,
                    *B.stride(),
                    *C.stride(),
                    *_strides(resets, 2),
                    *sums.stride(),
                    **constants,
                    OF_B=of_b,
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


def _parts(plan: Plan, x: Tensor, B: Tensor) -> tuple[Tensor | None, Tensor | None]:
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
