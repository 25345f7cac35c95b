"""``norm`` in Triton: one pass forward, one pass backward.

A program holds ROWS rows of one group in registers. The backward's programs walk over the rows
with a stride and keep their part of the weight's gradient, so that the sum is always the same.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from audiomamba.kernels.blocks import Blocks, multiprocessors, pick_blocks
from audiomamba.kernels.launching import launch
from audiomamba.kernels.norm.op import register

__all__ = ["backward_kernel", "forward_kernel", "norm"]


@triton.jit
def _sigmoid(z):
    return 1.0 / (1.0 + tl.exp(-z))


@triton.jit
def forward_kernel(
    x, residual, gate, weight, y, r, rows, width, groups, eps,
    sxr, sxd, srr, srd, sgr, sgd,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, RESIDUAL: tl.constexpr, GATE: tl.constexpr,
    BEFORE: tl.constexpr,
):  # fmt: skip
    """Norm ROWS rows of one group of ``width`` channels; y and r are contiguous."""
    pid = tl.program_id(0)
    i_g = pid % groups
    o_r = ((pid // groups) * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
    o_c = tl.arange(0, BLOCK)[None, :]
    d = i_g * width + o_c
    inside = (o_r < rows) & (o_c < width)
    value = tl.load(x + o_r * sxr + d * sxd, mask=inside, other=0.0).to(tl.float32)
    if RESIDUAL:
        value += tl.load(residual + o_r * srr + d * srd, mask=inside, other=0.0)
    o_out = o_r * (width * groups) + d
    tl.store(r + o_out, value, mask=inside)
    if GATE:
        z = tl.load(gate + o_r * sgr + d * sgd, mask=inside, other=0.0).to(tl.float32)
        z *= _sigmoid(z)
        if not BEFORE:
            value *= z
    scale = tl.rsqrt(tl.sum(value * value, axis=1) / width + eps)
    w = tl.load(weight + d, mask=o_c < width, other=0.0).to(tl.float32)
    out = value * scale[:, None] * w
    if GATE and BEFORE:
        out *= z
    tl.store(y + o_out, out.to(y.dtype.element_ty), mask=inside)


@triton.jit
def backward_kernel(
    dy, dr, r, gate, weight, dx, dresidual, dgate, dweight, rows, width, groups, partials, eps,
    syr, syd, srr, srd, sgr, sgd,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, STREAM: tl.constexpr, RESIDUAL: tl.constexpr,
    GATE: tl.constexpr, BEFORE: tl.constexpr,
):  # fmt: skip
    """Gradients of every ``partials``-th block of rows of one group; r and outputs contiguous."""
    pid = tl.program_id(0)
    i_g = pid % groups
    i_p = pid // groups
    o_c = tl.arange(0, BLOCK)[None, :]
    d = i_g * width + o_c
    w = tl.load(weight + d, mask=o_c < width, other=0.0).to(tl.float32)
    total = tl.zeros((ROWS, BLOCK), tl.float32)
    for i_r in range(i_p, tl.cdiv(rows, ROWS), partials):
        o_r = (i_r * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
        inside = (o_r < rows) & (o_c < width)
        o_out = o_r * (width * groups) + d
        stream = tl.load(r + o_out, mask=inside, other=0.0)
        g = tl.load(dy + o_r * syr + d * syd, mask=inside, other=0.0).to(tl.float32)
        value = stream
        if GATE:
            z = tl.load(gate + o_r * sgr + d * sgd, mask=inside, other=0.0).to(tl.float32)
            s = _sigmoid(z)
            factor = z * s
            slope = s * (1.0 + z * (1.0 - s))
            if not BEFORE:
                value = stream * factor
        scale = tl.rsqrt(tl.sum(value * value, axis=1) / width + eps)[:, None]
        normed = value * scale
        dscaled = g
        if GATE and BEFORE:
            dscaled = g * factor
        total += dscaled * normed
        dnormed = dscaled * w
        mean = (tl.sum(dnormed * normed, axis=1) / width)[:, None]
        out = (dnormed - normed * mean) * scale
        if GATE:
            if BEFORE:
                dfactor = g * normed * w
            else:
                dfactor = out * stream
                out *= factor
            tl.store(dgate + o_out, (dfactor * slope).to(dgate.dtype.element_ty), mask=inside)
        if STREAM:
            out += tl.load(dr + o_r * srr + d * srd, mask=inside, other=0.0)
        tl.store(dx + o_out, out.to(dx.dtype.element_ty), mask=inside)
        if RESIDUAL:
            tl.store(dresidual + o_out, out, mask=inside)
    o_w = i_p.to(tl.int64) * (width * groups) + i_g * width + tl.arange(0, BLOCK)
    tl.store(dweight + o_w, tl.sum(total, axis=0), mask=tl.arange(0, BLOCK) < width)


def _tile(kernel: str, x: Tensor, width: int) -> tuple[Blocks, dict[str, Any]]:
    """The table's row, and the constants of a program for groups of ``width``."""
    block = triton.next_power_of_2(width)
    row = pick_blocks(f"norm.{kernel}", x.device, width=block)
    rows = max(1, min(row["rows"], row["values"] // block))
    return row, {"ROWS": rows, "BLOCK": block, **row.settings}


def _rows(x: Tensor) -> Tensor:
    """View as ``(rows, D)``; copies only where strides leave no choice."""
    return x.reshape(-1, x.shape[-1])


def _forward(
    x: Tensor,
    weight: Tensor,
    residual: Tensor | None,
    gate: Tensor | None,
    eps: float,
    norm_before_gate: bool,
    group: int,
) -> tuple[Tensor, Tensor]:
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    r = torch.empty(x.shape, dtype=torch.float32, device=x.device)
    if x.numel() == 0:
        return y, r
    _, tile = _tile("forward", x, group)
    x = _rows(x)
    stream = x if residual is None else _rows(residual)
    z = x if gate is None else _rows(gate)
    groups = x.shape[1] // group
    launch(
        forward_kernel,
        (triton.cdiv(x.shape[0], tile["ROWS"]) * groups,),
        x, stream, z, weight.contiguous(), y, r, x.shape[0], group, groups, eps,
        *x.stride(), *stream.stride(), *z.stride(),
        **tile, RESIDUAL=residual is not None, GATE=gate is not None,
        BEFORE=norm_before_gate,
    )  # fmt: skip
    return y, r


def _backward(
    grad_y: Tensor,
    grad_r: Tensor | None,
    r: Tensor,
    weight: Tensor,
    gate: Tensor | None,
    eps: float,
    norm_before_gate: bool,
    group: int,
    dtype: torch.dtype,
    residual: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dx = torch.empty(r.shape, dtype=dtype, device=r.device)
    dresidual = torch.empty(r.shape if residual else 0, dtype=torch.float32, device=r.device)
    dgate = (
        r.new_empty(0)
        if gate is None
        else torch.empty(gate.shape, dtype=gate.dtype, device=gate.device)
    )
    if r.numel() == 0:
        return dx, torch.zeros_like(weight), dresidual, dgate
    row, tile = _tile("backward", r, group)
    dy, stream = _rows(grad_y), _rows(r if grad_r is None else grad_r)
    z = dy if gate is None else _rows(gate)
    num_rows, D = dy.shape
    groups = D // group
    most = row["programs"] * multiprocessors(r.device)
    partials = min(triton.cdiv(num_rows, tile["ROWS"]), most)
    dweight = torch.empty((partials, D), dtype=torch.float32, device=r.device)
    launch(
        backward_kernel,
        (partials * groups,),
        dy, stream, r, z, weight.contiguous(), dx, dresidual, dgate, dweight, num_rows, group,
        groups, partials, eps, *dy.stride(), *stream.stride(), *z.stride(),
        **tile, STREAM=grad_r is not None, RESIDUAL=residual,
        GATE=gate is not None, BEFORE=norm_before_gate,
    )  # fmt: skip
    return dx, dweight.sum(0).to(weight.dtype), dresidual, dgate


norm = register("gpu", _forward, _backward)
