"""The step of a Mamba-1 layer in Triton: three or four launches.

1. ``enter_kernel``: a program has some rows of the input projection and all rows of x. It adds the
   residual, norms and multiplies; the convolution of a channel needs no other, so it follows at
   once. Where ``SPLIT``, so does the program's part of the projection to step size, B and C.
2. ``product_kernel``: that projection, unless split.
3. ``advance_kernel``: a program has some channels of one row, from the step size to the gate.
4. ``product_kernel``: the output projection. The next layer's first kernel adds what it gives.

Few rows leave a product bound by reading weights. With one to four rows it is written as
multiplications and a sum; with more, padded to 16, on tensor cores. Sums have one order, so two
runs agree bitwise. m counts rows, d channels, k inputs of a product, n states.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from audiomamba.kernels import dispatch
from audiomamba.kernels.blocks import Blocks, pick_blocks
from audiomamba.kernels.launching import launch

__all__ = ["advance_kernel", "enter_kernel", "product_kernel", "step_"]

LOG2E = tl.constexpr(1.4426950408889634)
INTERPRETED = tl.constexpr(dispatch.INTERPRETED)
LEAST_OF_TENSOR_CORES = 16  # rows and columns of a product, and terms of its sums


@triton.jit
def _sigmoid(x):
    return 1.0 / (1.0 + tl.math.exp2(-x * LOG2E))


@triton.jit
def _softplus(x):
    # log1p(e) as log(1 + e) plus what the rounding of 1 + e lost, as step sizes are small.
    e = tl.math.exp2(tl.where(x > 20.0, 20.0, x) * LOG2E)
    w = 1.0 + e
    return tl.where(x > 20.0, x, tl.log(w) + (e - (w - 1.0)) / w)


@triton.jit
def _add_products(total, x, w, DOT: tl.constexpr):
    """Of x (M, k) and w (d, k): summed (M, d) on tensor cores, else term by term (M, d, k)."""
    if DOT:
        x = x.to(w.dtype)
        if INTERPRETED:
            # The interpreter multiplies the bits of bfloat16 as if they were integers.
            x, w = x.to(tl.float32), w.to(tl.float32)
        total = tl.dot(x, tl.trans(w), total, input_precision="ieee")
    else:
        total += x[:, None, :] * w[None, :, :].to(tl.float32)
    return total


@triton.jit
def _stream(x, residual, gain, stream, m, k, sxm, writes, rows, WIDTH: tl.constexpr,
            RESIDUAL: tl.constexpr):  # fmt: skip
    """Columns k of the stream, and the same times the norm's weight; one program writes them."""
    inside = (m < rows)[:, None] & (k < WIDTH)[None, :]
    o_stream = m[:, None] * WIDTH + k[None, :]
    r = tl.load(x + m[:, None] * sxm + k[None, :], mask=inside, other=0.0).to(tl.float32)
    if RESIDUAL:
        r += tl.load(residual + o_stream, mask=inside, other=0.0)
    tl.store(stream + o_stream, r, mask=inside & writes)
    g = tl.load(gain + k, mask=k < WIDTH, other=0.0).to(tl.float32)
    return r, r * g[None, :]


@triton.jit
def _weights(weight, d, k, outputs, INPUTS: tl.constexpr):
    inside = (d < outputs)[:, None] & (k < INPUTS)[None, :]
    return tl.load(weight + d[:, None] * INPUTS + k[None, :], mask=inside, other=0.0)


@triton.jit
def enter_kernel(
    x, residual, gain, weight, taps, taps_bias, x_weight, tails, slots, stream, u, z, parts,
    rows, channels, tiles, eps, sxm, spr, spk, spd,
    WIDTH: tl.constexpr, K: tl.constexpr, KP: tl.constexpr, PROJECTED: tl.constexpr,
    PP: tl.constexpr, ROWS: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    RESIDUAL: tl.constexpr, DOT: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    """BN rows of the input projection; the first ``tiles`` programs have u, the others z."""
    pid = tl.program_id(0)
    is_u = pid < tiles
    tile = pid % tiles
    m = tl.arange(0, ROWS)
    d = tile * BN + tl.arange(0, BN)
    m_ok = m < rows
    d_ok = d < channels
    inside = m_ok[:, None] & d_ok[None, :]
    # What follows the product is loaded before it, so that all of it is on its way at once.
    slot = tl.load(slots + m, mask=m_ok, other=-1).to(tl.int64)
    named = inside & (slot >= 0)[:, None] & is_u
    p_tail = tails + slot[:, None] * spr + d[None, :] * spd
    bias = tl.load(taps_bias + d, mask=d_ok & is_u, other=0.0).to(tl.float32)
    tap = tl.load(taps + d * K + (K - 1), mask=d_ok & is_u, other=0.0).to(tl.float32)
    if K > 1:
        o_k = tl.arange(0, KP)
        past = o_k < K - 1
        p_old = p_tail[:, :, None] + o_k[None, None, :] * spk
        old = tl.load(p_old, mask=named[:, :, None] & past[None, None, :], other=0.0)
        tap_ok = (d_ok & is_u)[:, None] & past[None, :]
        of_old = tl.load(taps + d[:, None] * K + o_k[None, :], mask=tap_ok, other=0.0)
    if SPLIT:
        p = tl.arange(0, PP)
        p_ok = p < PROJECTED
        x_ok = p_ok[:, None] & (d_ok & is_u)[None, :]
        wx = tl.load(x_weight + p[:, None] * channels + d[None, :], mask=x_ok, other=0.0)
    part = weight + tl.where(is_u, 0, channels * WIDTH)
    squares = tl.zeros((ROWS, BK), tl.float32)
    # The norm's scale is one factor a row, so it waits until the products are summed.
    if DOT:
        total = tl.zeros((ROWS, BN), tl.float32)
        for k0 in range(0, WIDTH, BK):
            k = k0 + tl.arange(0, BK)
            r, scaled = _stream(
                x, residual, gain, stream, m, k, sxm, pid == 0, rows, WIDTH, RESIDUAL
            )
            squares += r * r
            total = _add_products(total, scaled, _weights(part, d, k, channels, WIDTH), DOT)
    else:
        terms = tl.zeros((ROWS, BN, BK), tl.float32)
        for k0 in tl.static_range(0, WIDTH, BK):
            k = k0 + tl.arange(0, BK)
            w = _weights(part, d, k, channels, WIDTH)
            r, scaled = _stream(
                x, residual, gain, stream, m, k, sxm, pid == 0, rows, WIDTH, RESIDUAL
            )
            squares += r * r
            terms = _add_products(terms, scaled, w, DOT)
        total = tl.sum(terms, axis=2)
    scale = tl.rsqrt(tl.sum(squares, axis=1) / WIDTH + eps)
    value = (total * scale[:, None]).to(u.dtype.element_ty)
    o_out = m[:, None] * channels + d[None, :]
    if is_u:
        newest = value.to(tails.dtype.element_ty)
        c = bias[None, :] + tap[None, :] * newest.to(tl.float32)
        if K > 1:
            c += tl.sum(of_old.to(tl.float32)[None, :, :] * old.to(tl.float32), axis=2)
            # Threads may hold one element twice: all must have read before any moves up.
            tl.debug_barrier()
            for k_tap in tl.static_range(K - 2):
                moved = tl.load(p_tail + (k_tap + 1) * spk, mask=named, other=0.0)
                tl.store(p_tail + k_tap * spk, moved, mask=named)
            tl.store(p_tail + (K - 2) * spk, newest, mask=named)
        c = tl.where(named, c * _sigmoid(c), 0.0).to(u.dtype.element_ty)
        tl.store(u + o_out, c, mask=inside)
        if SPLIT:
            of_tile = tl.sum(c.to(tl.float32)[:, None, :] * wx.to(tl.float32)[None, :, :], axis=2)
            o_part = (tile * rows + m)[:, None] * PROJECTED + p[None, :]
            tl.store(parts + o_part, of_tile, mask=m_ok[:, None] & p_ok[None, :])
    else:
        tl.store(z + o_out, value, mask=inside)


@triton.jit
def product_kernel(
    x, weight, y, rows, outputs,
    INPUTS: tl.constexpr, ROWS: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    DOT: tl.constexpr,
):  # fmt: skip
    """BN outputs of all rows; x, weight (outputs, INPUTS) and y are contiguous."""
    m = tl.arange(0, ROWS)
    d = tl.program_id(0) * BN + tl.arange(0, BN)
    if DOT:
        total = tl.zeros((ROWS, BN), tl.float32)
        for k0 in range(0, INPUTS, BK):
            k = k0 + tl.arange(0, BK)
            value = _weights(x, m, k, rows, INPUTS)
            total = _add_products(total, value, _weights(weight, d, k, outputs, INPUTS), DOT)
    else:
        terms = tl.zeros((ROWS, BN, BK), tl.float32)
        for k0 in tl.static_range(0, INPUTS, BK):
            k = k0 + tl.arange(0, BK)
            w = _weights(weight, d, k, outputs, INPUTS)
            terms = _add_products(terms, _weights(x, m, k, rows, INPUTS).to(tl.float32), w, DOT)
        total = tl.sum(terms, axis=2)
    inside = (m < rows)[:, None] & (d < outputs)[None, :]
    tl.store(y + m[:, None] * outputs + d[None, :], total.to(y.dtype.element_ty), mask=inside)


@triton.jit
def _projected(
    p, o, ok, row_step, dtype: tl.constexpr, WIDTH: tl.constexpr, TILES: tl.constexpr,
    PARTS: tl.constexpr,
):  # fmt: skip
    """WIDTH columns o of a row's projection, or the sum of its parts, rounded as a product is."""
    if TILES == 0:
        found = tl.load(p + o, mask=ok, other=0.0).to(tl.float32)
    else:
        total = tl.zeros((PARTS, WIDTH), tl.float32)
        for t0 in tl.static_range(0, TILES, PARTS):
            t = t0 + tl.arange(0, PARTS)
            inside = (t < TILES)[:, None] & ok[None, :]
            total += tl.load(p + t[:, None] * row_step + o[None, :], mask=inside, other=0.0)
        found = tl.sum(total, axis=0).to(dtype).to(tl.float32)
    return found


@triton.jit
def advance_kernel(
    projected, dt_weight, dt_bias, A_log, skip, u, z, pool, slots, y, channels, row_step,
    spr, spd, spn,
    RANK: tl.constexpr, RP: tl.constexpr, N: tl.constexpr, NP: tl.constexpr, BD: tl.constexpr,
    TILES: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """BD channels of one row: step size, states, skip and gate. No TILES: nothing was split."""
    i_m = tl.program_id(1).to(tl.int64)
    d = tl.program_id(0) * BD + tl.arange(0, BD)
    d_ok = d < channels
    n = tl.arange(0, NP)
    n_ok = n < N
    slot = tl.load(slots + i_m).to(tl.int64)
    ok = d_ok[:, None] & n_ok[None, :] & (slot >= 0)
    p_h = pool + slot * spr + d[:, None].to(tl.int64) * spd + n[None, :] * spn
    h = tl.load(p_h, mask=ok, other=0.0).to(tl.float32)
    A = tl.load(A_log + d[:, None] * N + n[None, :], mask=ok, other=0.0).to(tl.float32)
    bias = tl.load(dt_bias + d, mask=d_ok, other=0.0).to(tl.float32)
    direct = tl.load(skip + d, mask=d_ok, other=0.0).to(tl.float32)
    o_out = i_m * channels + d
    x = tl.load(u + o_out, mask=d_ok, other=0.0).to(tl.float32)
    gate = tl.load(z + o_out, mask=d_ok, other=0.0).to(tl.float32)
    j = tl.arange(0, RP)
    w_ok = d_ok[:, None] & (j < RANK)[None, :]
    w = tl.load(dt_weight + d[:, None] * RANK + j[None, :], mask=w_ok, other=0.0).to(tl.float32)
    p = projected + i_m * (RANK + 2 * N)
    dtype: tl.constexpr = u.dtype.element_ty
    low = _projected(p, j, j < RANK, row_step, dtype, RP, TILES, PARTS)
    b = _projected(p, n + RANK, n_ok, row_step, dtype, NP, TILES, PARTS)
    c = _projected(p, n + (RANK + N), n_ok, row_step, dtype, NP, TILES, PARTS)
    dt = tl.sum(w * low[None, :], axis=1)
    dt = _softplus(dt + bias)
    A = -tl.math.exp2(A * LOG2E) * LOG2E
    h = tl.math.exp2(dt[:, None] * A) * h + (dt * x)[:, None] * b[None, :]
    out = tl.sum(h * c[None, :], axis=1)
    out += x * direct
    out = tl.where(slot >= 0, out * gate * _sigmoid(gate), 0.0)
    tl.store(y + o_out, out.to(dtype), mask=d_ok)
    # Threads may hold one state twice: all must have read before one is written.
    tl.debug_barrier()
    tl.store(p_h, h.to(pool.dtype.element_ty), mask=ok)


def step_(
    x: Tensor,
    residual: Tensor | None,
    norm: Tensor,
    in_proj: Tensor,
    conv: Tensor,
    conv_bias: Tensor,
    x_proj: Tensor,
    dt_proj: Tensor,
    dt_bias: Tensor,
    A_log: Tensor,
    skip: Tensor,
    out_proj: Tensor,
    conv_pool: Tensor,
    pool: Tensor,
    slots: Tensor,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """Return what the layer adds, and the stream with x; rows ``slots`` of the pools advance."""
    rows, width = x.shape
    (channels, taps), (projected, _) = conv.shape, x_proj.shape
    rank, states = dt_proj.shape[1], A_log.shape[1]
    stream = torch.empty(x.shape, dtype=torch.float32, device=x.device)
    if rows == 0:
        return torch.empty_like(x), stream
    u, z, y = (x.new_empty((rows, channels)) for _ in range(3))
    x, slots = x if x.stride(1) == 1 else x.contiguous(), slots.contiguous()
    row = pick_blocks("layer_step.enter", x.device, rows=rows, bytes=x.element_size(), inputs=width)
    is_split = bool(row["split"])
    shape = _product(row, rows, channels, width)
    tiles = triton.cdiv(channels, shape["BN"])
    if is_split:
        low = torch.empty((tiles, rows, projected), dtype=torch.float32, device=x.device)
    else:
        low = x.new_empty((rows, projected))
    with torch.cuda.device_of(x):
        launch(
            enter_kernel,
            (2 * tiles,),
            x, x if residual is None else residual.contiguous(), norm.contiguous(),
            in_proj.contiguous(), conv.contiguous(), conv_bias.contiguous(), x_proj.contiguous(),
            conv_pool, slots, stream, u, z, low if is_split else stream,
            rows, channels, tiles, eps, x.stride(0), *conv_pool.stride(),
            WIDTH=width, K=taps, KP=triton.next_power_of_2(max(1, taps - 1)),
            PROJECTED=projected, PP=triton.next_power_of_2(projected),
            RESIDUAL=residual is not None, SPLIT=is_split, **shape, **row.settings,
        )  # fmt: skip
        if not is_split:
            _multiply(u, x_proj, low)
        row = pick_blocks("layer_step.advance", x.device, rows=rows)
        NP = triton.next_power_of_2(states)
        most = max(1, row["channels"] * 16 // max(16, NP))
        BD = min(most, triton.next_power_of_2(channels))
        launch(
            advance_kernel,
            (triton.cdiv(channels, BD), rows),
            low, dt_proj.contiguous(), dt_bias.contiguous(), A_log.contiguous(), skip.contiguous(),
            u, z, pool, slots, y, channels, rows * projected, *pool.stride(),
            RANK=rank, RP=triton.next_power_of_2(rank), N=states, NP=NP, BD=BD,
            TILES=tiles if is_split else 0, PARTS=row["parts"], **row.settings,
        )  # fmt: skip
        out = torch.empty((rows, width), dtype=x.dtype, device=x.device)
        _multiply(y, out_proj, out)
    return out, stream


def _multiply(x: Tensor, weight: Tensor, y: Tensor) -> None:
    """Write x times the transposed weight to y."""
    (rows, inputs), outputs = x.shape, weight.shape[0]
    row = pick_blocks("layer_step.product", x.device, rows=rows, outputs=outputs)
    shape = _product(row, rows, outputs, inputs)
    grid = (triton.cdiv(outputs, shape["BN"]),)
    launch(
        product_kernel, grid, x, weight.contiguous(), y, rows, outputs, INPUTS=inputs, **shape,
        **row.settings,
    )  # fmt: skip


def _product(row: Blocks, rows: int, outputs: int, inputs: int) -> dict[str, Any]:
    """The constants of a product: rows padded, and a program's share of outputs and inputs."""
    dot = bool(row["dot"])
    least = LEAST_OF_TENSOR_CORES if dot else 1
    return {
        "ROWS": max(least, triton.next_power_of_2(rows)),
        "BN": max(least, min(row["outputs"], triton.next_power_of_2(outputs))),
        "BK": max(least, min(row["inputs"], triton.next_power_of_2(inputs))),
        "DOT": dot,
    }
