"""Memory, grids and block sizes for the kernels of ``turning`` and ``emitting``."""

from typing import Final

import torch
import triton
import triton.language as tl
from torch import Tensor

from audiomamba.kernels.blocks import Blocks, pick_blocks
from audiomamba.kernels.launching import launch
from audiomamba.kernels.mamba3.emitting import emit_backward_kernel, emit_kernel
from audiomamba.kernels.mamba3.turning import (
    angles_kernel,
    sums_kernel,
    turn_kernel,
    unturn_kernel,
)

__all__ = ["emit", "emit_backward", "turn", "turn_backward"]

TAKEN: Final = {
    torch.float32: tl.float32,
    torch.bfloat16: tl.bfloat16,
    torch.float16: tl.float16,
}
CHUNKS_AT_ONCE: Final = 32  # of the sums before or after a chunk that a program loads together


def turn(
    delta: Tensor,
    A: Tensor,
    mix: Tensor,
    angle: Tensor,
    B: Tensor,
    C: Tensor,
    delta_bias: Tensor | None,
    first: Tensor,
    resets: Tensor | None,
    taken: torch.dtype,
    save: bool,
) -> tuple[Tensor, ...]:
    """What the duality takes; arguments and results as ``op.mamba3_turn`` says. T >= 1."""
    rows, steps, heads, states = B.shape
    R = angle.shape[2]
    # Apart, as what an operator returns may not share memory.
    size, log, take = (_per_step(delta) for _ in range(3))
    keep = torch.float32 if save else taken
    k, q = (torch.empty(B.shape, dtype=keep, device=B.device) for _ in range(2))
    turns = B.new_empty((rows, steps, heads, R) if save else 0, dtype=torch.float32)
    last = B.new_empty((rows, heads, R), dtype=torch.float32)
    row, NH = _row("turn", B)
    C_ = triton.cdiv(steps, row["steps"])
    sums, cuts = _sums(B, C_, R, resets)
    delta, A, mix, angle, B, C, first = (
        v.contiguous() for v in (delta, A, mix, angle, B, C, first)
    )
    bias, starts = _dense(delta_bias), _bytes(resets)
    grid = (C_, heads, rows)
    if rows and heads:
        with torch.cuda.device_of(B):
            launch(
                sums_kernel, grid, delta, angle, bias, starts, sums, cuts, steps, heads, C_,
                R=R, RP=triton.next_power_of_2(R), BT=row["steps"], **row.settings,
            )  # fmt: skip
            launch(
                turn_kernel, grid, delta, A, mix, angle, B, C, bias, first, starts, sums, cuts,
                size, log, take, k, q, turns if save else None, last, steps, heads, C_,
                N=states, R=R, NH=NH, BT=row["steps"], BC=CHUNKS_AT_ONCE, TAKEN=TAKEN[taken],
                **row.settings,
            )  # fmt: skip
    return size, log, take, k, q, last, turns


def turn_backward(
    dsize: Tensor,
    dlog: Tensor,
    dtake: Tensor,
    dk: Tensor,
    dq: Tensor,
    dlast: Tensor | None,
    k: Tensor,
    q: Tensor,
    turns: Tensor,
    delta: Tensor,
    A: Tensor,
    mix: Tensor,
    angle: Tensor,
    B: Tensor,
    C: Tensor,
    delta_bias: Tensor | None,
    first: Tensor,
    resets: Tensor | None,
) -> tuple[Tensor, ...]:
    """Gradients of delta, A, mix, angle, B, C, delta_bias and first."""
    rows, steps, heads, states = B.shape
    R = angle.shape[2]
    dB, dC = (torch.empty(B.shape, dtype=v.dtype, device=v.device) for v in (B, C))
    ddt, dA, dmix, dearly = (_per_step(delta) for _ in range(4))
    dangle = torch.empty(angle.shape, dtype=torch.float32, device=angle.device)
    dturns = torch.empty_like(turns)
    dfirst = B.new_empty((rows, heads, R), dtype=torch.float32)
    row, NH = _row("unturn", B)
    C_ = triton.cdiv(steps, row["steps"])
    sums, cuts = _sums(B, C_, R, resets)
    delta, A, mix, angle = (v.contiguous() for v in (delta, A, mix, angle))
    dsize, dlog, dtake, dk, dq = (v.contiguous() for v in (dsize, dlog, dtake, dk, dq))
    bias, starts = _dense(delta_bias), _bytes(resets)
    if rows and heads:
        with torch.cuda.device_of(B):
            launch(
                unturn_kernel, (C_, heads, rows), dk, dq, dtake, dsize, k, q, turns, delta, mix,
                bias, starts, dB, dC, dturns, dearly, sums, cuts, steps, heads, C_,
                N=states, R=R, NH=NH, BT=row["steps"], **row.settings,
            )  # fmt: skip
            launch(
                angles_kernel, (C_, rows), dturns, _dense(dlast), sums, cuts, dsize, dearly, dlog,
                delta, A, mix, angle, bias, starts, ddt, dA, dmix, dangle, dfirst, steps, heads,
                C_, R=R, RP=triton.next_power_of_2(R), BT=row["steps"], BC=CHUNKS_AT_ONCE,
                **row.settings,
            )  # fmt: skip
    return (
        ddt.to(delta.dtype),
        dA.to(A.dtype),
        dmix.to(mix.dtype),
        dangle.to(angle.dtype),
        dB,
        dC,
        B.new_empty(0) if delta_bias is None else ddt.sum((0, 1)).to(delta_bias.dtype),
        dfirst.to(first.dtype),
    )


def emit(y: Tensor, x: Tensor, take: Tensor, D: Tensor | None, z: Tensor | None) -> Tensor:
    """The output; arguments as ``op.mamba3_emit`` says."""
    rows, steps, heads, width = x.shape
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    row = pick_blocks("mamba3.emit", x.device)
    if rows and heads:
        with torch.cuda.device_of(x):
            launch(
                emit_kernel, (triton.cdiv(steps, row["steps"]), heads, rows),
                y, x, take.contiguous(), _dense(D), z, out, steps, heads, *y.stride(), *x.stride(),
                *_strides(z), P=width, PP=triton.next_power_of_2(width), BT=row["steps"],
                **row.settings,
            )  # fmt: skip
    return out


def emit_backward(
    dout: Tensor, y: Tensor, x: Tensor, take: Tensor, D: Tensor | None, z: Tensor | None
) -> tuple[Tensor, ...]:
    """Gradients of y, x, take, D and z."""
    rows, steps, heads, width = x.shape
    dy, dx = (torch.empty(x.shape, dtype=v.dtype, device=v.device) for v in (y, x))
    dz = x.new_empty(0) if z is None else torch.empty(x.shape, dtype=z.dtype, device=z.device)
    dtake = x.new_empty((rows, steps, heads), dtype=torch.float32)
    row = pick_blocks("mamba3.emit", x.device)
    if rows and heads:
        with torch.cuda.device_of(x):
            launch(
                emit_backward_kernel, (triton.cdiv(steps, row["steps"]), heads, rows),
                dout, y, x, take.contiguous(), _dense(D), z, dy, dx, dtake, dz, steps, heads,
                *dout.stride(), *y.stride(), *x.stride(), *_strides(z), P=width,
                PP=triton.next_power_of_2(width), BT=row["steps"], **row.settings,
            )  # fmt: skip
    return dy, dx, dtake, x.new_empty(0) if D is None else -dtake.sum((0, 1)).to(D.dtype), dz


def _row(kernel: str, B: Tensor) -> tuple[Blocks, int]:
    """The table's row, and pairs of states padded to a power of two."""
    pairs = triton.next_power_of_2(triton.cdiv(B.shape[3], 2))
    return pick_blocks(f"mamba3.{kernel}", B.device, states=2 * pairs), pairs


def _sums(B: Tensor, chunks: int, R: int, resets: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Memory for what each chunk adds, and for whether a reset cuts it."""
    rows, _, heads, _ = B.shape
    sums = B.new_empty((rows, heads, chunks, R), dtype=torch.float64)
    cuts = None if resets is None else B.new_empty(sums.shape[:3], dtype=torch.int32)
    return sums, cuts


def _per_step(delta: Tensor) -> Tensor:
    return delta.new_empty(delta.shape, dtype=torch.float32)


def _dense(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.contiguous()


def _bytes(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.contiguous().view(torch.uint8)


def _strides(x: Tensor | None) -> tuple[int, ...]:
    return (0,) * 4 if x is None else x.stride()
