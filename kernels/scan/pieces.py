"""Kernels that find what each piece of a long row begins with, in Triton.

Prefixes as in ``registers``, whose walk through time this is.
"""

import triton
import triton.language as tl

from audiomamba.kernels.approximate import sigmoid
from audiomamba.kernels.scan.registers import (
    LOG2E,
    advance,
    decay_of,
    load_row,
    load_tile,
    place_of,
    row_of,
    sequence_of,
    split_tile,
    step_sizes,
    tile_at,
    tiles_of,
)

__all__ = ["carry_kernel", "ends_kernel"]


@triton.jit
def ends_kernel(
    p_x, p_dt, p_A, p_B, p_z, p_bias, p_h, p_total, T, piece, D, G, per_group,
    tiles_per_group,
    s_xb, s_xt, s_xd, s_dtb, s_dtt, s_dtd, s_zb, s_zt, s_zd,
    N: tl.constexpr, NP: tl.constexpr, BD: tl.constexpr, TILE: tl.constexpr, CK: tl.constexpr,
    SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr, WHOLE_D: tl.constexpr, WHOLE_T: tl.constexpr,
    FAST: tl.constexpr, ADJOINT: tl.constexpr,
):  # fmt: skip
    """The state that a piece alone leaves, from zero, and the sum of its step sizes.

    ``ADJOINT``: the gradient of the state before the piece that its outputs alone leave; x is
    theirs, B is C, and time runs the other way.
    """
    i_g, d, d_ok = place_of(tl.program_id(0), BD, per_group, tiles_per_group)
    i_row = tl.program_id(1)
    i_b, start, end, check = sequence_of(None, i_row, T, piece, CK)
    WHOLE: tl.constexpr = N == NP and WHOLE_T
    MASKED: tl.constexpr = not (WHOLE_D and WHOLE_T)
    EXACT: tl.constexpr = p_x.dtype.element_ty == tl.float32
    n = tl.arange(0, NP)
    ok_DN = d_ok[:, None] & (n < N)[None, :]
    o_DN = d[:, None] * N + n[None, :]
    A2 = tl.load(p_A + o_DN, mask=ok_DN, other=0.0).to(tl.float32) * LOG2E
    bias = p_bias
    if p_bias is not None:
        bias = tl.load(p_bias + d, mask=d_ok, other=0.0).to(tl.float32)[:, None]
    tt = tl.arange(0, TILE)[None, :]
    dd = d[:, None].to(tl.int64)
    q_x = p_x + i_b * s_xb + dd * s_xd + tt * s_xt
    q_dt = p_dt + i_b * s_dtb + dd * s_dtd + tt * s_dtt
    if p_z is not None:
        q_z = p_z + i_b * s_zb + dd * s_zd + tt * s_zt
    row_B = row_of(p_B, i_b * G + i_g, T, end, n, N, TILE, REVERSE, WHOLE)
    h = tl.zeros((BD, NP), tl.float32)
    total = tl.zeros((BD, TILE), tl.float32)
    tiles = tiles_of(start, end, TILE, REVERSE)
    for i in range(0, tiles):
        t0 = tile_at(i, start, end, tiles, TILE, REVERSE)
        ok = d_ok[:, None] & (t0 + tt < end)
        raw, dt = step_sizes(
            load_tile(q_dt, t0, s_dtt, ok, MASKED), bias, ok, SOFTPLUS, FAST, MASKED
        )
        x = load_tile(q_x, t0, s_xt, ok, MASKED)
        if p_z is not None:
            z = load_tile(q_z, t0, s_zt, ok, MASKED)
            x *= z * sigmoid(z, FAST)
        total += dt
        if not ADJOINT:
            x *= dt
        dts = split_tile(dt, BD, TILE, REVERSE)
        xs = split_tile(x, BD, TILE, REVERSE)
        for j in tl.static_range(TILE):
            b = load_row(row_B, t0, j)
            if ADJOINT:
                h += xs[j][:, None] * b[None, :]
                h *= decay_of(A2 * dts[j][:, None], EXACT)
            else:
                h = advance(h, A2, dts[j], xs[j], b, EXACT)
    tl.store(p_h + i_row.to(tl.int64) * D * N + o_DN, h, mask=ok_DN)
    tl.store(p_total + i_row.to(tl.int64) * D + d, tl.sum(total, axis=1), mask=d_ok)


@triton.jit
def carry_kernel(
    p_h, p_total, p_A, p_first, p_start, pieces, D,
    N: tl.constexpr, NP: tl.constexpr, BD: tl.constexpr, REVERSE: tl.constexpr,
):  # fmt: skip
    """The state that each piece of a row begins with, from what the pieces leave alone."""
    i_b = tl.program_id(1).to(tl.int64)
    d = tl.program_id(0) * BD + tl.arange(0, BD)
    n = tl.arange(0, NP)
    ok = (d < D)[:, None] & (n < N)[None, :]
    o_DN = d[:, None] * N + n[None, :]
    A2 = tl.load(p_A + o_DN, mask=ok, other=0.0).to(tl.float32) * LOG2E
    h = tl.zeros((BD, NP), tl.float32)
    if p_first is not None:
        h += tl.load(p_first + i_b * D * N + o_DN, mask=ok, other=0.0).to(tl.float32)
    for i in range(0, pieces):
        at = i_b * pieces + (pieces - 1 - i if REVERSE else i)
        tl.store(p_start + at * D * N + o_DN, h, mask=ok)
        total = tl.load(p_total + at * D + d, mask=d < D, other=0.0)
        left = tl.load(p_h + at * D * N + o_DN, mask=ok, other=0.0)
        h = h * decay_of(A2 * total[:, None], True) + left
