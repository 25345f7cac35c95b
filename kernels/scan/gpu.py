"""The selective scan in Triton.

A program owns one sequence and BD channels of one group, and keeps their (BD, NP) states in
registers, NP being N rounded up to a power of two. It walks time in tiles of 8 steps: a tile of
u, delta and z is one load per lane, then split in registers. Times in a tile are counted in the
order of the recurrence, so ``reverse`` costs nothing. Prefixes: p_ pointer, i_ index, s_ stride.
"""

from typing import Any, Final

import torch
import triton
import triton.language as tl
from torch import Tensor

from audiomamba.kernels.scan.op import (
    CHECKPOINT_STEPS,
    empty_checkpoints,
    empty_gradients,
    state_rows,
)

__all__ = ["backward", "forward", "step_"]

TILE: Final = 8  # steps; written out by hand below, as tl.split knows no other way
LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _sigmoid(x):
    return 1.0 / (1.0 + tl.math.exp2(-x * LOG2E))


@triton.jit
def _step_size(x, SOFTPLUS: tl.constexpr):
    if SOFTPLUS:
        # log1p(e) as log(1 + e) plus what the rounding of 1 + e lost: the step sizes of a trained
        # model are around 1e-3, where log(1 + e) alone would keep 4 digits.
        e = tl.math.exp2(x * LOG2E)
        w = 1.0 + e
        x = tl.where(x <= 20.0, tl.log(w) + (e - (w - 1.0)) / w, x)
    return x


@triton.jit
def _split(x, BD: tl.constexpr, REVERSE: tl.constexpr):
    """(BD, 8) -> 8 of (BD,), in the order of the recurrence."""
    even, odd = tl.split(tl.reshape(x, (BD, 4, 2)))
    a, b = tl.split(tl.reshape(even, (BD, 2, 2)))
    c, d = tl.split(tl.reshape(odd, (BD, 2, 2)))
    x0, x4 = tl.split(a)
    x2, x6 = tl.split(b)
    x1, x5 = tl.split(c)
    x3, x7 = tl.split(d)
    if REVERSE:
        x0, x1, x2, x3, x4, x5, x6, x7 = x7, x6, x5, x4, x3, x2, x1, x0
    return x0, x1, x2, x3, x4, x5, x6, x7


@triton.jit
def _join(x0, x1, x2, x3, x4, x5, x6, x7, BD: tl.constexpr, REVERSE: tl.constexpr):
    """The inverse of ``_split``."""
    if REVERSE:
        x0, x1, x2, x3, x4, x5, x6, x7 = x7, x6, x5, x4, x3, x2, x1, x0
    even = tl.reshape(tl.join(tl.join(x0, x4), tl.join(x2, x6)), (BD, 4))
    odd = tl.reshape(tl.join(tl.join(x1, x5), tl.join(x3, x7)), (BD, 4))
    return tl.reshape(tl.join(even, odd), (BD, 8))


@triton.jit
def _at(t0, J: tl.constexpr, REVERSE: tl.constexpr):
    """The time of step J of the tile that begins at t0."""
    if REVERSE:
        t = t0 + (7 - J)
    else:
        t = t0 + J
    return t


@triton.jit
def _load_tile(p, offset, ok, MASKED: tl.constexpr):
    if MASKED:
        x = tl.load(p + offset, mask=ok, other=0.0)
    else:
        x = tl.load(p + offset)
    return x.to(tl.float32)


@triton.jit
def _load_row(p, s_t, t, end, n_ok, WHOLE_N: tl.constexpr, WHOLE_T: tl.constexpr):
    """One time step of B or C, (NP,) float32, zero past its ends."""
    q = p + t.to(tl.int64) * s_t
    if WHOLE_N and WHOLE_T:
        x = tl.load(q)
    else:
        x = tl.load(q, mask=n_ok & (t < end), other=0.0)
    return x.to(tl.float32)


@triton.jit
def _keep(h, p_resets, s_t, t, end, WHOLE_T: tl.constexpr):
    """h, or exact zero where a sequence starts at t."""
    if p_resets is not None:
        q = p_resets + t.to(tl.int64) * s_t
        if WHOLE_T:
            reset = tl.load(q)
        else:
            reset = tl.load(q, mask=t < end, other=0)
        h = tl.where(reset != 0, 0.0, h)
    return h


@triton.jit
def _advance(h, A2, dt, x, b):
    return h * tl.math.exp2(A2 * dt[:, None]) + x[:, None] * b[None, :]


@triton.jit
def _place(i_tile, BD: tl.constexpr, per_group, tiles_per_group):
    """The group, the channels (BD,) and which of them exist, of a program."""
    i_g = i_tile // tiles_per_group
    o = (i_tile % tiles_per_group) * BD + tl.arange(0, BD)
    return i_g, i_g * per_group + o, o < per_group


@triton.jit
def _sequence(p_ends, i_row, T, CK: tl.constexpr):
    """Row of the batch, first and last time, and first checkpoint of sequence ``i_row``."""
    if p_ends is not None:
        start = tl.load(p_ends + i_row).to(tl.int32)
        end = tl.load(p_ends + i_row + 1).to(tl.int32)
        i_b = i_row * 0
        check = (start // CK + i_row).to(tl.int64)
    else:
        start = i_row * 0
        end = start + T
        i_b = i_row
        check = i_row.to(tl.int64) * tl.cdiv(T, CK)
    return i_b, start, end, check


@triton.jit
def _forward(
    p_u, p_dt, p_A, p_B, p_C, p_D, p_z, p_bias, p_h0, p_resets, p_ends, p_out, p_h, p_check,
    T, D, per_group, tiles_per_group,
    s_ub, s_ut, s_ud, s_dtb, s_dtt, s_dtd, s_zb, s_zt, s_zd, s_ob, s_ot, s_od,
    s_Bb, s_Bt, s_Bg, s_Bn, s_Cb, s_Ct, s_Cg, s_Cn, s_rb, s_rt,
    N: tl.constexpr, NP: tl.constexpr, BD: tl.constexpr, CK: tl.constexpr,
    SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr, WHOLE_D: tl.constexpr, WHOLE_T: tl.constexpr,
):  # fmt: skip
    i_g, d, d_ok = _place(tl.program_id(0), BD, per_group, tiles_per_group)
    i_row = tl.program_id(1)
    i_b, start, end, check = _sequence(p_ends, i_row, T, CK)
    i_b = i_b.to(tl.int64)
    WHOLE_N: tl.constexpr = N == NP
    MASKED: tl.constexpr = not (WHOLE_D and WHOLE_T)
    n = tl.arange(0, NP)
    n_ok = n < N
    ok_DN = d_ok[:, None] & n_ok[None, :]
    o_DN = d[:, None] * N + n[None, :]
    A2 = tl.load(p_A + o_DN, mask=ok_DN, other=0.0).to(tl.float32) * LOG2E
    if p_h0 is not None:
        h = tl.load(p_h0 + i_row.to(tl.int64) * D * N + o_DN, mask=ok_DN, other=0.0)
        h = h.to(tl.float32)
    else:
        h = tl.zeros((BD, NP), tl.float32)
    if p_D is not None:
        skip = tl.load(p_D + d, mask=d_ok, other=0.0).to(tl.float32)[:, None]
    if p_bias is not None:
        bias = tl.load(p_bias + d, mask=d_ok, other=0.0).to(tl.float32)[:, None]

    tt = tl.arange(0, 8)[None, :]
    dd = d[:, None].to(tl.int64)
    q_u = p_u + i_b * s_ub + dd * s_ud + tt * s_ut
    q_dt = p_dt + i_b * s_dtb + dd * s_dtd + tt * s_dtt
    q_out = p_out + i_b * s_ob + dd * s_od + tt * s_ot
    if p_z is not None:
        q_z = p_z + i_b * s_zb + dd * s_zd + tt * s_zt
    q_B = p_B + i_b * s_Bb + i_g * s_Bg + n * s_Bn
    q_C = p_C + i_b * s_Cb + i_g * s_Cg + n * s_Cn
    q_r = p_resets
    if p_resets is not None:
        q_r = p_resets + i_b * s_rb

    tiles = tl.cdiv(end - start, 8)
    for i in range(0, tiles):
        if p_check is not None:
            if i % (CK // 8) == 0:
                tl.store(p_check + (check + i // (CK // 8)) * D * N + o_DN, h, mask=ok_DN)
        t0 = start + ((tiles - 1 - i) if REVERSE else i) * 8
        t64 = t0.to(tl.int64)
        ok = d_ok[:, None] & (t0 + tt < end)
        dt = _load_tile(q_dt, t64 * s_dtt, ok, MASKED)
        if p_bias is not None:
            dt += bias
        dt = _step_size(dt, SOFTPLUS)
        if not WHOLE_T:
            dt = tl.where(ok, dt, 0.0)  # a step of size 0 leaves the state as it is
        u = _load_tile(q_u, t64 * s_ut, ok, MASKED)
        q0, q1, q2, q3, q4, q5, q6, q7 = _split(dt, BD, REVERSE)
        x0, x1, x2, x3, x4, x5, x6, x7 = _split(dt * u, BD, REVERSE)
        h, y0 = _emit(
            h,
            A2,
            q0,
            x0,
            q_B,
            q_C,
            q_r,
            s_Bt,
            s_Ct,
            s_rt,
            _at(t0, 0, REVERSE),
            end,
            n_ok,
            WHOLE_N,
            WHOLE_T,
        )  # noqa: E501
        h, y1 = _emit(
            h,
            A2,
            q1,
            x1,
            q_B,
            q_C,
            q_r,
            s_Bt,
            s_Ct,
            s_rt,
            _at(t0, 1, REVERSE),
            end,
            n_ok,
            WHOLE_N,
            WHOLE_T,
        )  # noqa: E501
        h, y2 = _emit(
            h,
            A2,
            q2,
            x2,
            q_B,
            q_C,
            q_r,
            s_Bt,
            s_Ct,
            s_rt,
            _at(t0, 2, REVERSE),
            end,
            n_ok,
            WHOLE_N,
            WHOLE_T,
        )  # noqa: E501
        h, y3 = _emit(
            h,
            A2,
            q3,
            x3,
            q_B,
            q_C,
            q_r,
            s_Bt,
            s_Ct,
            s_rt,
            _at(t0, 3, REVERSE),
            end,
            n_ok,
            WHOLE_N,
            WHOLE_T,
        )  # noqa: E501
        h, y4 = _emit(
            h,
            A2,
            q4,
            x4,
            q_B,
            q_C,
            q_r,
            s_Bt,
            s_Ct,
            s_rt,
            _at(t0, 4, REVERSE),
            end,
            n_ok,
            WHOLE_N,
            WHOLE_T,
        )  # noqa: E501
        h, y5 = _emit(
            h,
            A2,
            q5,
            x5,
            q_B,
            q_C,
            q_r,
            s_Bt,
            s_Ct,
            s_rt,
            _at(t0, 5, REVERSE),
            end,
            n_ok,
            WHOLE_N,
            WHOLE_T,
        )  # noqa: E501
        h, y6 = _emit(
            h,
            A2,
            q6,
            x6,
            q_B,
            q_C,
            q_r,
            s_Bt,
            s_Ct,
            s_rt,
            _at(t0, 6, REVERSE),
            end,
            n_ok,
            WHOLE_N,
            WHOLE_T,
        )  # noqa: E501
        h, y7 = _emit(
            h,
            A2,
            q7,
            x7,
            q_B,
            q_C,
            q_r,
            s_Bt,
            s_Ct,
            s_rt,
            _at(t0, 7, REVERSE),
            end,
            n_ok,
            WHOLE_N,
            WHOLE_T,
        )  # noqa: E501
        y = _join(y0, y1, y2, y3, y4, y5, y6, y7, BD, REVERSE)
        if p_D is not None:
            y += u * skip
        if p_z is not None:
            z = _load_tile(q_z, t64 * s_zt, ok, MASKED)
            y *= z * _sigmoid(z)
        if MASKED:
            tl.store(q_out + t64 * s_ot, y.to(p_out.dtype.element_ty), mask=ok)
        else:
            tl.store(q_out + t64 * s_ot, y.to(p_out.dtype.element_ty))
    tl.store(p_h + i_row.to(tl.int64) * D * N + o_DN, h, mask=ok_DN)


@triton.jit
def _emit(
    h, A2, dt, x, q_B, q_C, q_r, s_Bt, s_Ct, s_rt, t, end, n_ok,
    WHOLE_N: tl.constexpr, WHOLE_T: tl.constexpr,
):  # fmt: skip
    h = _keep(h, q_r, s_rt, t, end, WHOLE_T)
    h = _advance(h, A2, dt, x, _load_row(q_B, s_Bt, t, end, n_ok, WHOLE_N, WHOLE_T))
    c = _load_row(q_C, s_Ct, t, end, n_ok, WHOLE_N, WHOLE_T)
    return h, tl.sum(h * c[None, :], axis=1)


@triton.jit
def _again(
    h, A2, dt, x, q_B, q_r, s_Bt, s_rt, t, end, n_ok,
    WHOLE_N: tl.constexpr, WHOLE_T: tl.constexpr,
):  # fmt: skip
    """The state before step t with resets applied, and the state after it."""
    before = _keep(h, q_r, s_rt, t, end, WHOLE_T)
    return before, _advance(before, A2, dt, x, _load_row(q_B, s_Bt, t, end, n_ok, WHOLE_N, WHOLE_T))


@triton.jit
def _undo(
    g, dA, before, h, A2, dt, x, dy, q_B, q_C, q_r, p_dB, p_dC, s_Bt, s_Ct, s_rt, s_pt, t, end, n_ok,
    GATED: tl.constexpr, WHOLE_N: tl.constexpr, WHOLE_T: tl.constexpr,
):  # fmt: skip
    """One step backwards: g is the gradient of the state after step t, returned for before it."""
    b = _load_row(q_B, s_Bt, t, end, n_ok, WHOLE_N, WHOLE_T)
    c = _load_row(q_C, s_Ct, t, end, n_ok, WHOLE_N, WHOLE_T)
    g += dy[:, None] * c[None, :]
    o = t.to(tl.int64) * s_pt
    if WHOLE_N and WHOLE_T:
        tl.store(p_dC + o, tl.sum(dy[:, None] * h, axis=0))
        tl.store(p_dB + o, tl.sum(g * x[:, None], axis=0))
    else:
        tl.store(p_dC + o, tl.sum(dy[:, None] * h, axis=0), mask=n_ok & (t < end))
        tl.store(p_dB + o, tl.sum(g * x[:, None], axis=0), mask=n_ok & (t < end))
    dx = tl.sum(g * b[None, :], axis=1)
    if GATED:
        y = tl.sum(h * c[None, :], axis=1)
    else:
        y = dx
    g *= tl.math.exp2(A2 * dt[:, None])
    w = g * before
    g = _keep(g, q_r, s_rt, t, end, WHOLE_T)
    return g, dA + w * dt[:, None], dx, tl.sum(w * A2, axis=1), y


@triton.jit
def _backward(
    p_dout, p_dh, p_check, p_u, p_dt, p_A, p_B, p_C, p_D, p_z, p_bias, p_resets, p_ends,
    p_du, p_ddt, p_dz, p_dA, p_dB, p_dC, p_dD, p_dbias, p_dh0, p_scratch,
    T, D, G, per_group, tiles_per_group, num_rows,
    s_gb, s_gt, s_gd, s_ub, s_ut, s_ud, s_dtb, s_dtt, s_dtd, s_zb, s_zt, s_zd,
    s_dub, s_dut, s_dud, s_ddtb, s_ddtt, s_ddtd, s_dzb, s_dzt, s_dzd,
    s_Bb, s_Bt, s_Bg, s_Bn, s_Cb, s_Ct, s_Cg, s_Cn, s_rb, s_rt,
    N: tl.constexpr, NP: tl.constexpr, BD: tl.constexpr, CK: tl.constexpr,
    SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr, WHOLE_D: tl.constexpr, WHOLE_T: tl.constexpr,
):  # fmt: skip
    i_tile = tl.program_id(0)
    i_g, d, d_ok = _place(i_tile, BD, per_group, tiles_per_group)
    i_row = tl.program_id(1)
    i_b, start, end, check = _sequence(p_ends, i_row, T, CK)
    i_b = i_b.to(tl.int64)
    WHOLE_N: tl.constexpr = N == NP
    MASKED: tl.constexpr = not (WHOLE_D and WHOLE_T)
    GATED: tl.constexpr = p_z is not None
    NB: tl.constexpr = CK // 8
    n = tl.arange(0, NP)
    n_ok = n < N
    ok_DN = d_ok[:, None] & n_ok[None, :]
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
        dskip = tl.zeros((BD, 8), tl.float32)
    if p_bias is not None:
        bias = tl.load(p_bias + d, mask=d_ok, other=0.0).to(tl.float32)[:, None]
        dbias = tl.zeros((BD, 8), tl.float32)

    tt = tl.arange(0, 8)[None, :]
    dd = d[:, None].to(tl.int64)
    q_g = p_dout + i_b * s_gb + dd * s_gd + tt * s_gt
    q_u = p_u + i_b * s_ub + dd * s_ud + tt * s_ut
    q_dt = p_dt + i_b * s_dtb + dd * s_dtd + tt * s_dtt
    q_du = p_du + i_b * s_dub + dd * s_dud + tt * s_dut
    q_ddt = p_ddt + i_b * s_ddtb + dd * s_ddtd + tt * s_ddtt
    if GATED:
        q_z = p_z + i_b * s_zb + dd * s_zd + tt * s_zt
        q_dz = p_dz + i_b * s_dzb + dd * s_dzd + tt * s_dzt
    q_B = p_B + i_b * s_Bb + i_g * s_Bg + n * s_Bn
    q_C = p_C + i_b * s_Cb + i_g * s_Cg + n * s_Cn
    q_r = p_resets
    if p_resets is not None:
        q_r = p_resets + i_b * s_rb
    # Partial sums over this program's channels, (tiles_per_group, B, T, G, N).
    s_pt = G * N
    i_part = ((i_tile % tiles_per_group) * num_rows + i_b) * T
    q_dB = p_dB + i_part * s_pt + i_g * N + n
    q_dC = p_dC + i_part * s_pt + i_g * N + n
    i_program = i_tile.to(tl.int64) * tl.num_programs(1) + i_row
    q_s = p_scratch + i_program * NB * BD * NP + tl.arange(0, BD)[:, None] * NP + n[None, :]

    tiles = tl.cdiv(end - start, 8)
    chunks = tl.cdiv(tiles, NB)
    for i_chunk in range(0, chunks):
        i_c = chunks - 1 - i_chunk
        first = i_c * NB
        count = tl.minimum(NB, tiles - first)
        h = tl.load(p_check + (check + i_c) * D * N + o_DN, mask=ok_DN, other=0.0)
        tl.debug_barrier()
        for j in range(0, count):
            tl.store(q_s + j * BD * NP, h)
            i = first + j
            t0 = start + ((tiles - 1 - i) if REVERSE else i) * 8
            t64 = t0.to(tl.int64)
            ok = d_ok[:, None] & (t0 + tt < end)
            dt = _load_tile(q_dt, t64 * s_dtt, ok, MASKED)
            if p_bias is not None:
                dt += bias
            dt = _step_size(dt, SOFTPLUS)
            if not WHOLE_T:
                dt = tl.where(ok, dt, 0.0)
            x = dt * _load_tile(q_u, t64 * s_ut, ok, MASKED)
            q0, q1, q2, q3, q4, q5, q6, q7 = _split(dt, BD, REVERSE)
            x0, x1, x2, x3, x4, x5, x6, x7 = _split(x, BD, REVERSE)
            _h, h = _again(
                h,
                A2,
                q0,
                x0,
                q_B,
                q_r,
                s_Bt,
                s_rt,
                _at(t0, 0, REVERSE),
                end,
                n_ok,
                WHOLE_N,
                WHOLE_T,
            )  # noqa: E501
            _h, h = _again(
                h,
                A2,
                q1,
                x1,
                q_B,
                q_r,
                s_Bt,
                s_rt,
                _at(t0, 1, REVERSE),
                end,
                n_ok,
                WHOLE_N,
                WHOLE_T,
            )  # noqa: E501
            _h, h = _again(
                h,
                A2,
                q2,
                x2,
                q_B,
                q_r,
                s_Bt,
                s_rt,
                _at(t0, 2, REVERSE),
                end,
                n_ok,
                WHOLE_N,
                WHOLE_T,
            )  # noqa: E501
            _h, h = _again(
                h,
                A2,
                q3,
                x3,
                q_B,
                q_r,
                s_Bt,
                s_rt,
                _at(t0, 3, REVERSE),
                end,
                n_ok,
                WHOLE_N,
                WHOLE_T,
            )  # noqa: E501
            _h, h = _again(
                h,
                A2,
                q4,
                x4,
                q_B,
                q_r,
                s_Bt,
                s_rt,
                _at(t0, 4, REVERSE),
                end,
                n_ok,
                WHOLE_N,
                WHOLE_T,
            )  # noqa: E501
            _h, h = _again(
                h,
                A2,
                q5,
                x5,
                q_B,
                q_r,
                s_Bt,
                s_rt,
                _at(t0, 5, REVERSE),
                end,
                n_ok,
                WHOLE_N,
                WHOLE_T,
            )  # noqa: E501
            _h, h = _again(
                h,
                A2,
                q6,
                x6,
                q_B,
                q_r,
                s_Bt,
                s_rt,
                _at(t0, 6, REVERSE),
                end,
                n_ok,
                WHOLE_N,
                WHOLE_T,
            )  # noqa: E501
            _h, h = _again(
                h,
                A2,
                q7,
                x7,
                q_B,
                q_r,
                s_Bt,
                s_rt,
                _at(t0, 7, REVERSE),
                end,
                n_ok,
                WHOLE_N,
                WHOLE_T,
            )  # noqa: E501
        tl.debug_barrier()
        for j_back in range(0, count):
            j = count - 1 - j_back
            i = first + j
            t0 = start + ((tiles - 1 - i) if REVERSE else i) * 8
            t64 = t0.to(tl.int64)
            ok = d_ok[:, None] & (t0 + tt < end)
            h = tl.load(q_s + j * BD * NP)
            raw = _load_tile(q_dt, t64 * s_dtt, ok, MASKED)
            if p_bias is not None:
                raw += bias
            dt = _step_size(raw, SOFTPLUS)
            if not WHOLE_T:
                dt = tl.where(ok, dt, 0.0)
            u = _load_tile(q_u, t64 * s_ut, ok, MASKED)
            x = dt * u
            dout = _load_tile(q_g, t64 * s_gt, ok, MASKED)
            if GATED:
                z = _load_tile(q_z, t64 * s_zt, ok, MASKED)
                gate = _sigmoid(z)
                dy = dout * z * gate
            else:
                dy = dout
            q0, q1, q2, q3, q4, q5, q6, q7 = _split(dt, BD, REVERSE)
            x0, x1, x2, x3, x4, x5, x6, x7 = _split(x, BD, REVERSE)
            e0, e1, e2, e3, e4, e5, e6, e7 = _split(dy, BD, REVERSE)
            k0, h0 = _again(
                h,
                A2,
                q0,
                x0,
                q_B,
                q_r,
                s_Bt,
                s_rt,
                _at(t0, 0, REVERSE),
                end,
                n_ok,
                WHOLE_N,
                WHOLE_T,
            )  # noqa: E501
            k1, h1 = _again(
                h0,
                A2,
                q1,
                x1,
                q_B,
                q_r,
                s_Bt,
                s_rt,
                _at(t0, 1, REVERSE),
                end,
                n_ok,
                WHOLE_N,
                WHOLE_T,
            )  # noqa: E501
            k2, h2 = _again(
                h1,
                A2,
                q2,
                x2,
                q_B,
                q_r,
                s_Bt,
                s_rt,
                _at(t0, 2, REVERSE),
                end,
                n_ok,
                WHOLE_N,
                WHOLE_T,
            )  # noqa: E501
            k3, h3 = _again(
                h2,
                A2,
                q3,
                x3,
                q_B,
                q_r,
                s_Bt,
                s_rt,
                _at(t0, 3, REVERSE),
                end,
                n_ok,
                WHOLE_N,
                WHOLE_T,
            )  # noqa: E501
            k4, h4 = _again(
                h3,
                A2,
                q4,
                x4,
                q_B,
                q_r,
                s_Bt,
                s_rt,
                _at(t0, 4, REVERSE),
                end,
                n_ok,
                WHOLE_N,
                WHOLE_T,
            )  # noqa: E501
            k5, h5 = _again(
                h4,
                A2,
                q5,
                x5,
                q_B,
                q_r,
                s_Bt,
                s_rt,
                _at(t0, 5, REVERSE),
                end,
                n_ok,
                WHOLE_N,
                WHOLE_T,
            )  # noqa: E501
            k6, h6 = _again(
                h5,
                A2,
                q6,
                x6,
                q_B,
                q_r,
                s_Bt,
                s_rt,
                _at(t0, 6, REVERSE),
                end,
                n_ok,
                WHOLE_N,
                WHOLE_T,
            )  # noqa: E501
            k7, h7 = _again(
                h6,
                A2,
                q7,
                x7,
                q_B,
                q_r,
                s_Bt,
                s_rt,
                _at(t0, 7, REVERSE),
                end,
                n_ok,
                WHOLE_N,
                WHOLE_T,
            )  # noqa: E501
            g, dA, x7, a7, y7 = _undo(
                g,
                dA,
                k7,
                h7,
                A2,
                q7,
                x7,
                e7,
                q_B,
                q_C,
                q_r,
                q_dB,
                q_dC,
                s_Bt,
                s_Ct,
                s_rt,
                s_pt,
                _at(t0, 7, REVERSE),
                end,
                n_ok,
                GATED,
                WHOLE_N,
                WHOLE_T,
            )  # noqa: E501
            g, dA, x6, a6, y6 = _undo(
                g,
                dA,
                k6,
                h6,
                A2,
                q6,
                x6,
                e6,
                q_B,
                q_C,
                q_r,
                q_dB,
                q_dC,
                s_Bt,
                s_Ct,
                s_rt,
                s_pt,
                _at(t0, 6, REVERSE),
                end,
                n_ok,
                GATED,
                WHOLE_N,
                WHOLE_T,
            )  # noqa: E501
            g, dA, x5, a5, y5 = _undo(
                g,
                dA,
                k5,
                h5,
                A2,
                q5,
                x5,
                e5,
                q_B,
                q_C,
                q_r,
                q_dB,
                q_dC,
                s_Bt,
                s_Ct,
                s_rt,
                s_pt,
                _at(t0, 5, REVERSE),
                end,
                n_ok,
                GATED,
                WHOLE_N,
                WHOLE_T,
            )  # noqa: E501
            g, dA, x4, a4, y4 = _undo(
                g,
                dA,
                k4,
                h4,
                A2,
                q4,
                x4,
                e4,
                q_B,
                q_C,
                q_r,
                q_dB,
                q_dC,
                s_Bt,
                s_Ct,
                s_rt,
                s_pt,
                _at(t0, 4, REVERSE),
                end,
                n_ok,
                GATED,
                WHOLE_N,
                WHOLE_T,
            )  # noqa: E501
            g, dA, x3, a3, y3 = _undo(
                g,
                dA,
                k3,
                h3,
                A2,
                q3,
                x3,
                e3,
                q_B,
                q_C,
                q_r,
                q_dB,
                q_dC,
                s_Bt,
                s_Ct,
                s_rt,
                s_pt,
                _at(t0, 3, REVERSE),
                end,
                n_ok,
                GATED,
                WHOLE_N,
                WHOLE_T,
            )  # noqa: E501
            g, dA, x2, a2, y2 = _undo(
                g,
                dA,
                k2,
                h2,
                A2,
                q2,
                x2,
                e2,
                q_B,
                q_C,
                q_r,
                q_dB,
                q_dC,
                s_Bt,
                s_Ct,
                s_rt,
                s_pt,
                _at(t0, 2, REVERSE),
                end,
                n_ok,
                GATED,
                WHOLE_N,
                WHOLE_T,
            )  # noqa: E501
            g, dA, x1, a1, y1 = _undo(
                g,
                dA,
                k1,
                h1,
                A2,
                q1,
                x1,
                e1,
                q_B,
                q_C,
                q_r,
                q_dB,
                q_dC,
                s_Bt,
                s_Ct,
                s_rt,
                s_pt,
                _at(t0, 1, REVERSE),
                end,
                n_ok,
                GATED,
                WHOLE_N,
                WHOLE_T,
            )  # noqa: E501
            g, dA, x0, a0, y0 = _undo(
                g,
                dA,
                k0,
                h0,
                A2,
                q0,
                x0,
                e0,
                q_B,
                q_C,
                q_r,
                q_dB,
                q_dC,
                s_Bt,
                s_Ct,
                s_rt,
                s_pt,
                _at(t0, 0, REVERSE),
                end,
                n_ok,
                GATED,
                WHOLE_N,
                WHOLE_T,
            )  # noqa: E501
            dx = _join(x0, x1, x2, x3, x4, x5, x6, x7, BD, REVERSE)
            ddt = _join(a0, a1, a2, a3, a4, a5, a6, a7, BD, REVERSE) * LN2 + dx * u
            if SOFTPLUS:
                ddt *= _sigmoid(raw)
            if not WHOLE_T:
                ddt = tl.where(ok, ddt, 0.0)
            du = dx * dt
            if p_D is not None:
                du += dy * skip
                dskip += dy * u
            if p_bias is not None:
                dbias += ddt
            if GATED:
                y = _join(y0, y1, y2, y3, y4, y5, y6, y7, BD, REVERSE)
                if p_D is not None:
                    y += u * skip
                dz = dout * y * gate * (1.0 + z * (1.0 - gate))
            if MASKED:
                tl.store(q_du + t64 * s_dut, du.to(p_du.dtype.element_ty), mask=ok)
                tl.store(q_ddt + t64 * s_ddtt, ddt.to(p_ddt.dtype.element_ty), mask=ok)
                if GATED:
                    tl.store(q_dz + t64 * s_dzt, dz.to(p_dz.dtype.element_ty), mask=ok)
            else:
                tl.store(q_du + t64 * s_dut, du.to(p_du.dtype.element_ty))
                tl.store(q_ddt + t64 * s_ddtt, ddt.to(p_ddt.dtype.element_ty))
                if GATED:
                    tl.store(q_dz + t64 * s_dzt, dz.to(p_dz.dtype.element_ty))
    tl.store(p_dA + row_DN + o_DN, dA, mask=ok_DN)
    if p_dh0 is not None:
        tl.store(p_dh0 + row_DN + o_DN, g, mask=ok_DN)
    if p_D is not None:
        tl.store(p_dD + i_row.to(tl.int64) * D + d, tl.sum(dskip, axis=1), mask=d_ok)
    if p_bias is not None:
        tl.store(p_dbias + i_row.to(tl.int64) * D + d, tl.sum(dbias, axis=1), mask=d_ok)


@triton.jit
def _step(
    p_u, p_dt, p_A, p_B, p_C, p_pool, p_slots, p_D, p_z, p_bias, p_out,
    D, per_group, tiles_per_group,
    s_um, s_ud, s_dtm, s_dtd, s_zm, s_zd, s_om, s_od, s_Bm, s_Bg, s_Bn, s_Cm, s_Cg, s_Cn,
    s_pr, s_pd, s_pn, s_sm,
    N: tl.constexpr, NP: tl.constexpr, BD: tl.constexpr, SOFTPLUS: tl.constexpr,
):  # fmt: skip
    i_g, d, d_ok = _place(tl.program_id(0), BD, per_group, tiles_per_group)
    i_m = tl.program_id(1).to(tl.int64)
    slot = tl.load(p_slots + i_m * s_sm).to(tl.int64)
    n = tl.arange(0, NP)
    n_ok = n < N
    ok = d_ok[:, None] & n_ok[None, :]
    q_h = p_pool + slot * s_pr + d[:, None].to(tl.int64) * s_pd + n[None, :] * s_pn
    h = tl.load(q_h, mask=ok, other=0.0).to(tl.float32)
    A2 = tl.load(p_A + d[:, None] * N + n[None, :], mask=ok, other=0.0).to(tl.float32) * LOG2E
    dt = tl.load(p_dt + i_m * s_dtm + d * s_dtd, mask=d_ok, other=0.0).to(tl.float32)
    if p_bias is not None:
        dt += tl.load(p_bias + d, mask=d_ok, other=0.0).to(tl.float32)
    dt = _step_size(dt, SOFTPLUS)
    u = tl.load(p_u + i_m * s_um + d * s_ud, mask=d_ok, other=0.0).to(tl.float32)
    b = tl.load(p_B + i_m * s_Bm + i_g * s_Bg + n * s_Bn, mask=n_ok, other=0.0).to(tl.float32)
    c = tl.load(p_C + i_m * s_Cm + i_g * s_Cg + n * s_Cn, mask=n_ok, other=0.0).to(tl.float32)
    h = _advance(h, A2, dt, dt * u, b)
    tl.store(q_h, h.to(p_pool.dtype.element_ty), mask=ok)
    y = tl.sum(h * c[None, :], axis=1)
    if p_D is not None:
        y += u * tl.load(p_D + d, mask=d_ok, other=0.0).to(tl.float32)
    if p_z is not None:
        z = tl.load(p_z + i_m * s_zm + d * s_zd, mask=d_ok, other=0.0).to(tl.float32)
        y *= z * _sigmoid(z)
    tl.store(p_out + i_m * s_om + d * s_od, y.to(p_out.dtype.element_ty), mask=d_ok)


def forward(
    u: Tensor,
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
    reverse: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the output, the last states and the states kept for ``backward``."""
    rows, steps, channels = u.shape
    sequences = state_rows(u, cu_seqlens)
    out = torch.empty_like(u)
    state = u.new_empty((sequences, *A.shape), dtype=torch.float32)
    checkpoints = empty_checkpoints(u, A, cu_seqlens, save)
    if sequences and channels:
        grid, shape, settings = _plan(u, A, B, sequences, cu_seqlens, FORWARD)
        with torch.cuda.device_of(u):
            _forward[grid](
                u,
                delta,
                _dense(A),
                B,
                C,
                _dense(D),
                z,
                _dense(delta_bias),
                _dense(initial_state),
                _bytes(resets),
                cu_seqlens,
                out,
                state,
                checkpoints if save else None,
                steps,
                channels,
                *shape,
                *u.stride(),
                *delta.stride(),
                *_strides(z, 3),
                *out.stride(),
                *B.stride(),
                *C.stride(),
                *_strides(resets, 2),
                SOFTPLUS=softplus,
                REVERSE=reverse,
                **settings,
            )
    return out, state, checkpoints


def backward(
    dout: Tensor | None,
    dstate: Tensor | None,
    checkpoints: Tensor,
    u: Tensor,
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
    reverse: bool,
) -> tuple[Tensor, ...]:
    """Return the gradients of u, delta, A, B, C, D, z, delta_bias and initial_state.

    Sums over rows and over channels are written as partial sums and added afterwards, so that
    two runs agree bitwise.
    """
    rows, steps, channels = u.shape
    sequences = state_rows(u, cu_seqlens)
    states = A.shape[1]
    if dout is None:
        dout = torch.zeros_like(u)
    du, ddelta, dz, dh0 = empty_gradients(u, delta, z, initial_state)
    grid, shape, settings = _plan(u, A, B, sequences, cu_seqlens, BACKWARD)
    _, tiles_per_group = shape
    wide = {"dtype": torch.float32, "device": u.device}
    dB = torch.empty((tiles_per_group, *B.shape), **wide)
    dC = torch.empty_like(dB)
    dA = torch.empty((sequences, *A.shape), **wide)
    dD = torch.empty((sequences, channels), **wide)
    dbias = torch.empty_like(dD)
    state0 = torch.empty(dh0.shape if initial_state is not None else (0,), **wide)
    per_program = CHECKPOINT_STEPS // TILE * settings["BD"] * settings["NP"]
    scratch = torch.empty(grid[0] * grid[1] * per_program, **wide)
    if sequences and channels:
        with torch.cuda.device_of(u):
            _backward[grid](
                dout,
                _dense(dstate),
                checkpoints,
                u,
                delta,
                _dense(A),
                B,
                C,
                _dense(D),
                z,
                _dense(delta_bias),
                _bytes(resets),
                cu_seqlens,
                du,
                ddelta,
                dz,
                dA,
                dB,
                dC,
                dD,
                dbias,
                None if initial_state is None else state0,
                scratch,
                steps,
                channels,
                B.shape[2],
                *shape,
                rows,
                *dout.stride(),
                *u.stride(),
                *delta.stride(),
                *_strides(z, 3),
                *du.stride(),
                *ddelta.stride(),
                *_strides(dz, 3),
                *B.stride(),
                *C.stride(),
                *_strides(resets, 2),
                SOFTPLUS=softplus,
                REVERSE=reverse,
                **settings,
            )
    if initial_state is not None:
        dh0.copy_(state0)
    return (
        du,
        ddelta,
        _total(dA, A),
        _total(dB, B),
        _total(dC, C),
        _total(dD, D),
        dz,
        _total(dbias, delta_bias),
        dh0,
    )


def step_(
    u: Tensor,
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
) -> Tensor:
    """Advance rows ``slots`` of ``pool`` by one step and return the output."""
    rows, channels = u.shape
    out = torch.empty_like(u)
    if rows and channels:
        NP = triton.next_power_of_2(A.shape[1])
        per_group = channels // B.shape[1]
        BD, warps = next((bd, w) for least, bd, w in STEP if rows >= least)
        BD = max(1, min(BD, BD * 16 // NP, triton.next_power_of_2(per_group)))
        tiles_per_group = triton.cdiv(per_group, BD)
        with torch.cuda.device_of(u):
            _step[(B.shape[1] * tiles_per_group, rows)](
                u,
                delta,
                _dense(A),
                B,
                C,
                pool,
                slots,
                _dense(D),
                z,
                _dense(delta_bias),
                out,
                channels,
                per_group,
                tiles_per_group,
                *u.stride(),
                *delta.stride(),
                *_strides(z, 2),
                *out.stride(),
                *B.stride(),
                *C.stride(),
                *pool.stride(),
                *slots.stride(),
                N=A.shape[1],
                NP=NP,
                BD=BD,
                SOFTPLUS=softplus,
                num_warps=warps,
            )
    return out


# Number of (sequence, channel) pairs from which a row holds, channels a program, register cap.
# From measurements on one H200; N up to 16 and one warp, both scaled for larger N in _plan.
FORWARD: Final = ((32_768, 32, None), (0, 8, 96))
BACKWARD: Final = ((32_768, 16, None), (0, 8, 168))
# Rows from which the entry holds, channels a program, warps.
STEP: Final = ((1024, 128, 4), (2, 64, 2), (0, 32, 1))


def _plan(
    u: Tensor,
    A: Tensor,
    B: Tensor,
    sequences: int,
    cu_seqlens: Tensor | None,
    table: tuple[tuple[int, int, int | None], ...],
) -> tuple[tuple[int, int], tuple[int, int], dict[str, Any]]:
    """Return the grid, (channels per group, programs per group), and the constants."""
    _, steps, channels = u.shape
    NP = triton.next_power_of_2(A.shape[1])
    per_group = channels // B.shape[2]
    BD, cap = next((bd, cap) for least, bd, cap in table if sequences * channels >= least)
    warps = 1 if NP <= 32 else min(4, NP // 32)
    BD = max(1, min(BD, BD * 16 * warps // NP, triton.next_power_of_2(max(per_group, 1))))
    tiles_per_group = triton.cdiv(per_group, BD)
    settings: dict[str, Any] = {
        "N": A.shape[1],
        "NP": NP,
        "BD": BD,
        "CK": CHECKPOINT_STEPS,
        "WHOLE_D": per_group % BD == 0,
        "WHOLE_T": cu_seqlens is None and steps % TILE == 0,
        "num_warps": warps,
    }
    if cap is not None:
        settings["maxnreg"] = cap
    return (B.shape[2] * tiles_per_group, sequences), (per_group, tiles_per_group), settings


def _dense(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.contiguous()


def _bytes(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.view(torch.uint8)


def _strides(x: Tensor | None, axes: int) -> tuple[int, ...]:
    return (0,) * axes if x is None or x.ndim != axes else x.stride()


def _total(parts: Tensor, like: Tensor | None) -> Tensor:
    return parts.new_empty(0) if like is None else parts.sum(0).to(like.dtype)
