"""The backward of the selective scan, with the states in registers as in ``registers``, in Triton.

From the last chunk of CK steps to the first: states are recomputed from the checkpoint before the
chunk, then its tiles are walked in reverse with the gradient of the state. Prefixes as there.
"""

import triton
import triton.language as tl

from audiomamba.kernels.approximate import sigmoid
from audiomamba.kernels.scan.registers import (
    LN2,
    LOG2E,
    advance,
    decay_of,
    join_tile,
    keep,
    load_row,
    load_tile,
    place_of,
    row_of,
    sequence_of,
    split_tile,
    step_sizes,
    store_tile,
    tile_at,
    tiles_of,
)

__all__ = ["backward_kernel"]


@triton.jit
def _needs(
    q_u, q_dt, q_g, q_z, t0, s_ut, s_dtt, s_gt, s_zt, bias, ok,
    SOFTPLUS: tl.constexpr, FAST: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """What the backward's steps need of their channel, (BD, TILE) each: step sizes, inputs times
    them, and gradients of outputs before the gate."""
    _, dt = step_sizes(load_tile(q_dt, t0, s_dtt, ok, MASKED), bias, ok, SOFTPLUS, FAST, MASKED)
    dy = load_tile(q_g, t0, s_gt, ok, MASKED)
    if q_z is not None:
        z = load_tile(q_z, t0, s_zt, ok, MASKED)
        dy *= z * sigmoid(z, FAST)
    return dt, dt * load_tile(q_u, t0, s_ut, ok, MASKED), dy


@triton.jit
def backward_kernel(
    p_dout, p_dh, p_check, p_u, p_dt, p_A, p_B, p_C, p_D, p_z, p_bias, p_resets, p_ends,
    p_du, p_ddt, p_dz, p_dA, p_dB, p_dC, p_dD, p_dbias, p_dh0, p_scratch,
    T, piece, D, G, per_group, tiles_per_group, num_rows,
    s_gb, s_gt, s_gd, s_ub, s_ut, s_ud, s_dtb, s_dtt, s_dtd, s_zb, s_zt, s_zd,
    s_dub, s_dut, s_dud, s_ddtb, s_ddtt, s_ddtd, s_dzb, s_dzt, s_dzd,
    s_rb, s_rt,
    N: tl.constexpr, NP: tl.constexpr, BD: tl.constexpr, TILE: tl.constexpr, CK: tl.constexpr,
    SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr, WHOLE_D: tl.constexpr, WHOLE_T: tl.constexpr,
    FAST: tl.constexpr, KEEP: tl.constexpr,
):  # fmt: skip
    i_tile = tl.program_id(0)
    i_g, d, d_ok = place_of(i_tile, BD, per_group, tiles_per_group)
    i_row = tl.program_id(1)
    i_b, start, end, check = sequence_of(p_ends, i_row, T, piece, CK)
    WHOLE: tl.constexpr = N == NP and WHOLE_T
    MASKED: tl.constexpr = not (WHOLE_D and WHOLE_T)
    EXACT: tl.constexpr = p_u.dtype.element_ty == tl.float32
    NB: tl.constexpr = CK // TILE
    n = tl.arange(0, NP)
    ok_DN = d_ok[:, None] & (n < N)[None, :]
    o_DN = d[:, None] * N + n[None, :]
    row_DN = i_row.to(tl.int64) * D * N
    A2 = tl.load(p_A + o_DN, mask=ok_DN, other=0.0).to(tl.float32) * LOG2E
    if p_dh is not None:
        g = tl.load(p_dh + row_DN + o_DN, mask=ok_DN, other=0.0).to(tl.float32)
    else:
        g = tl.zeros((BD, NP), tl.float32)
    dA = tl.zeros((BD, NP), tl.float32)
    if p_D is not None:
        skip = tl.load(p_D + d, mask=d_ok, other=0.0).to(tl.float32)[:, None]
        dskip = tl.zeros((BD, TILE), tl.float32)
    bias = p_bias
    if p_bias is not None:
        bias = tl.load(p_bias + d, mask=d_ok, other=0.0).to(tl.float32)[:, None]
        dbias = tl.zeros((BD, TILE), tl.float32)

    tt = tl.arange(0, TILE)[None, :]
    dd = d[:, None].to(tl.int64)
    q_g = p_dout + i_b * s_gb + dd * s_gd + tt * s_gt
    q_u = p_u + i_b * s_ub + dd * s_ud + tt * s_ut
    q_dt = p_dt + i_b * s_dtb + dd * s_dtd + tt * s_dtt
    q_du = p_du + i_b * s_dub + dd * s_dud + tt * s_dut
    q_ddt = p_ddt + i_b * s_ddtb + dd * s_ddtd + tt * s_ddtt
    q_z = p_z
    if p_z is not None:
        q_z = p_z + i_b * s_zb + dd * s_zd + tt * s_zt
        q_dz = p_dz + i_b * s_dzb + dd * s_dzd + tt * s_dzt
    i_bg = i_b * G + i_g
    row_B = row_of(p_B, i_bg, T, end, n, N, TILE, REVERSE, WHOLE)
    row_C = row_of(p_C, i_bg, T, end, n, N, TILE, REVERSE, WHOLE)
    reset = (p_resets, s_rt, end, TILE, REVERSE)
    if p_resets is not None:
        reset = (p_resets + i_b * s_rb, s_rt, end, TILE, REVERSE)
    # Sums over this program's channels, (tiles_per_group, B, G, T, N), added up by the caller.
    i_part = (i_tile % tiles_per_group) * num_rows * G + i_bg
    q_dB = p_dB + i_part * T * N + n[:, None] + tt * N
    q_dC = p_dC + i_part * T * N + n[:, None] + tt * N
    # Of the tiles of a chunk of CK steps: states before each, recomputed from the checkpoint before
    # the chunk. A step wants its inputs in another layout than they are read in. Where lanes would
    # hold copies of them then, ``KEEP``, the compiler would work them out for each: they are kept.
    i_program = i_tile.to(tl.int64) * tl.num_programs(1) + i_row
    q_s = p_scratch + i_program * NB * BD * (NP + (3 * TILE if KEEP else 0))
    o_BT = tl.arange(0, BD)[:, None] * TILE + tt
    q_dts = q_s + NB * BD * NP + o_BT
    q_xs = q_dts + NB * BD * TILE
    q_dys = q_xs + NB * BD * TILE
    q_s += tl.arange(0, BD)[:, None] * NP + n[None, :]

    tiles = tiles_of(start, end, TILE, REVERSE)
    chunks = tl.cdiv(tiles, NB)
    for i_chunk in range(0, chunks):
        i_c = chunks - 1 - i_chunk
        first = i_c * NB
        count = tl.minimum(NB, tiles - first)
        h = tl.load(p_check + (check + i_c) * D * N + o_DN, mask=ok_DN, other=0.0)
        tl.debug_barrier()
        if KEEP:
            for i in range(0, count):
                t0 = tile_at(first + i, start, end, tiles, TILE, REVERSE)
                ok = d_ok[:, None] & (t0 + tt < end)
                dt, x, dy = _needs(
                    q_u, q_dt, q_g, q_z, t0, s_ut, s_dtt, s_gt, s_zt, bias, ok,
                    SOFTPLUS, FAST, MASKED,
                )  # fmt: skip
                tl.store(q_dts + i * BD * TILE, dt)
                tl.store(q_xs + i * BD * TILE, x)
                tl.store(q_dys + i * BD * TILE, dy)
            tl.debug_barrier()
        for i in range(0, count - 1):
            tl.store(q_s + i * BD * NP, h)
            t0 = tile_at(first + i, start, end, tiles, TILE, REVERSE)
            if KEEP:
                dt = tl.load(q_dts + i * BD * TILE)
                x = tl.load(q_xs + i * BD * TILE)
            else:
                ok = d_ok[:, None] & (t0 + tt < end)
                dt, x, _ = _needs(
                    q_u, q_dt, q_g, q_z, t0, s_ut, s_dtt, s_gt, s_zt, bias, ok,
                    SOFTPLUS, FAST, MASKED,
                )  # fmt: skip
            dts = split_tile(dt, BD, TILE, REVERSE)
            xs = split_tile(x, BD, TILE, REVERSE)
            for j in tl.static_range(TILE):
                h = keep(h, reset, t0, j)
                h = advance(h, A2, dts[j], xs[j], load_row(row_B, t0, j), EXACT)
        tl.store(q_s + (count - 1) * BD * NP, h)
        tl.debug_barrier()
        for i_back in range(0, count):
            i_s = count - 1 - i_back
            t0 = tile_at(first + i_s, start, end, tiles, TILE, REVERSE)
            ok = d_ok[:, None] & (t0 + tt < end)
            h = tl.load(q_s + i_s * BD * NP)
            if KEEP:
                dt = tl.load(q_dts + i_s * BD * TILE)
                x = tl.load(q_xs + i_s * BD * TILE)
                dy = tl.load(q_dys + i_s * BD * TILE)
            else:
                dt, x, dy = _needs(
                    q_u, q_dt, q_g, q_z, t0, s_ut, s_dtt, s_gt, s_zt, bias, ok,
                    SOFTPLUS, FAST, MASKED,
                )  # fmt: skip
            dts = split_tile(dt, BD, TILE, REVERSE)
            xs = split_tile(x, BD, TILE, REVERSE)
            dys = split_tile(dy, BD, TILE, REVERSE)
            befores = ()
            hs = ()
            for j in tl.static_range(TILE):
                h = keep(h, reset, t0, j)
                befores = befores + (h,)
                h = advance(h, A2, dts[j], xs[j], load_row(row_B, t0, j), EXACT)
                hs = hs + (h,)
            # One step back each: g becomes the gradient of the state before step t.
            ys = ()
            dxs = ()
            das = ()
            dBs = ()
            dCs = ()
            for k in tl.static_range(TILE):
                dt1 = dts[TILE - 1 - k][:, None]
                dy1 = dys[TILE - 1 - k][:, None]
                h1 = hs[TILE - 1 - k]
                b = load_row(row_B, t0, TILE - 1 - k)[None, :]
                c = load_row(row_C, t0, TILE - 1 - k)[None, :]
                g += dy1 * c
                dCs = (tl.sum(dy1 * h1, axis=0),) + dCs
                dBs = (tl.sum(g * xs[TILE - 1 - k][:, None], axis=0),) + dBs
                dxs = (tl.sum(g * b, axis=1),) + dxs
                if p_z is not None:
                    ys = (tl.sum(h1 * c, axis=1),) + ys
                g *= decay_of(A2 * dt1, EXACT)
                w = g * befores[TILE - 1 - k]
                dA += w * dt1
                das = (tl.sum(w * A2, axis=1),) + das
                g = keep(g, reset, t0, TILE - 1 - k)
            ok_NT = (n < N)[:, None] & (t0 + tt < end)
            store_tile(q_dB, t0, N, join_tile(dBs, NP, TILE, REVERSE), ok_NT, not WHOLE)
            store_tile(q_dC, t0, N, join_tile(dCs, NP, TILE, REVERSE), ok_NT, not WHOLE)
            if KEEP:
                dt = tl.load(q_dts + i_s * BD * TILE)
            u = load_tile(q_u, t0, s_ut, ok, MASKED)
            dout = load_tile(q_g, t0, s_gt, ok, MASKED)
            dy = dout
            if p_z is not None:
                z = load_tile(q_z, t0, s_zt, ok, MASKED)
                gate = sigmoid(z, FAST)
                dy *= z * gate
            dx = join_tile(dxs, BD, TILE, REVERSE)
            ddt = join_tile(das, BD, TILE, REVERSE) * LN2 + dx * u
            if SOFTPLUS:
                raw = load_tile(q_dt, t0, s_dtt, ok, MASKED)
                if p_bias is not None:
                    raw += bias
                ddt *= sigmoid(raw, FAST)
            if MASKED:
                ddt = tl.where(ok, ddt, 0.0)
            du = dx * dt
            if p_D is not None:
                du += dy * skip
                dskip += dy * u
            if p_bias is not None:
                dbias += ddt
            store_tile(q_du, t0, s_dut, du, ok, MASKED)
            store_tile(q_ddt, t0, s_ddtt, ddt, ok, MASKED)
            if p_z is not None:
                y = join_tile(ys, BD, TILE, REVERSE)
                if p_D is not None:
                    y += u * skip
                dz = dout * y * gate * (1.0 + z * (1.0 - gate))
                store_tile(q_dz, t0, s_dzt, dz, ok, MASKED)
    tl.store(p_dA + row_DN + o_DN, dA, mask=ok_DN)
    if p_dh0 is not None:
        tl.store(p_dh0 + row_DN + o_DN, g, mask=ok_DN)
    if p_D is not None:
        tl.store(p_dD + i_row.to(tl.int64) * D + d, tl.sum(dskip, axis=1), mask=d_ok)
    if p_bias is not None:
        tl.store(p_dbias + i_row.to(tl.int64) * D + d, tl.sum(dbias, axis=1), mask=d_ok)
