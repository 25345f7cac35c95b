"""The backward kernels of the duality, in Triton: all chunks at once.

A program owns a chunk and a share of the heads of one group. It has the state before the chunk
and the gradient of the state after it, and walks over its heads. ``heads_kernel`` makes what each
head has for itself, ``shared_kernel`` adds up in registers what they give to the gradients of B and
C. Both in one kernel would load less and hold more than there are registers.
"""

import triton
import triton.language as tl

from audiomamba.kernels.ssd.walk import (
    dot,
    load_sizes,
    pieces,
    sigmoid,
    tile,
)

__all__ = ["heads_kernel", "shared_kernel"]


@triton.jit
def _place(p_chunks, i_chunk, T, Q: tl.constexpr):
    """Row of the batch, first time and last of a chunk."""
    if p_chunks is not None:
        i_row = i_chunk * 0
        t0 = tl.load(p_chunks + i_chunk * 2)
        end = tl.load(p_chunks + i_chunk * 2 + 1)
    else:
        i_row = i_chunk // tl.cdiv(T, Q)
        t0 = (i_chunk % tl.cdiv(T, Q)).to(tl.int32) * Q
        end = tl.minimum(t0 + Q, T)
    return i_row, t0, end


@triton.jit
def _decays(coarse, fine, ok, Q: tl.constexpr):
    """Between every two steps of a piece, (Q, Q), from its start and to its end, (Q,), and over
    all of it."""
    o = tl.arange(0, Q)
    paired = (o[:, None] >= o[None, :]) & ok[:, None] & ok[None, :]
    sums_c = tl.cumsum(coarse, 0)
    sums_f = tl.cumsum(fine, 0)
    total_c = tl.sum(coarse, axis=0)
    total_f = tl.sum(fine, axis=0)
    between = (sums_c[:, None] - sums_c[None, :]) + (sums_f[:, None] - sums_f[None, :])
    between = tl.math.exp2(tl.where(paired, between, float("-inf")))
    since = tl.math.exp2(sums_c + sums_f)
    until = tl.math.exp2((total_c - sums_c) + (total_f - sums_f))
    return between, since, until, tl.math.exp2(total_c + total_f)


@triton.jit
def _gated(q_g, q_z, ok_P):
    """Gradient of what goes into the gate, float32."""
    dy = tl.load(q_g, mask=ok_P, other=0.0).to(tl.float32)
    if q_z is not None:
        z = tl.load(q_z, mask=ok_P, other=0.0).to(tl.float32)
        dy *= z * sigmoid(z)
    return dy


@triton.jit
def heads_kernel(
    p_dout, p_check, p_g, p_x, p_size, p_log, p_B, p_C, p_z, p_resets, p_chunks,
    p_slope, p_A, p_D, p_dx, p_ddt, p_dlog, p_dD, p_dz,
    T, H, per_group, per_share,
    s_gb, s_gt, s_gh, s_gp, s_xb, s_xt, s_xh, s_xp, s_zb, s_zt, s_zh, s_zp,
    s_Bb, s_Bt, s_Bg, s_Bn, s_Cb, s_Ct, s_Cg, s_Cn, s_rb, s_rt,
    s_Ah, s_Dh, s_Dp, s_dxb, s_dxt, s_dxh, s_dxp, s_dzb, s_dzt, s_dzh, s_dzp,
    P: tl.constexpr, N: tl.constexpr, BP: tl.constexpr, NP: tl.constexpr, Q: tl.constexpr,
    BY_STEP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of what each head has for itself, of a chunk and ``per_share`` heads of a group; of
    δ, and of A before its sum over time, as (B, H, T) float32."""
    i_chunk = tl.program_id(0).to(tl.int64)
    shares = tl.cdiv(per_group, per_share)
    i_g = tl.program_id(1) // shares
    first = i_g * per_group + (tl.program_id(1) % shares) * per_share
    i_row, t0, end = _place(p_chunks, i_chunk, T, Q)
    n = tl.arange(0, NP)
    o = tl.arange(0, Q)
    n_ok = n < N
    t = t0 + o
    if p_resets is not None:
        i_piece, count = pieces(p_resets + i_row * s_rb, s_rt, t, end)
    else:
        i_piece = o * 0
        count = 1
    for k in range(0, count):
        ok = (t < end) & (i_piece == k)
        ok_N = ok[:, None] & n_ok[None, :]
        q_B = tile(p_B, i_row, s_Bb, t0, s_Bt, i_g, s_Bg, o, n, s_Bn)
        q_C = tile(p_C, i_row, s_Cb, t0, s_Ct, i_g, s_Cg, o, n, s_Cn)
        b = tl.load(q_B, mask=ok_N, other=0.0).to(p_x.dtype.element_ty)
        c = tl.load(q_C, mask=ok_N, other=0.0).to(p_x.dtype.element_ty)
        for i_h in range(first, tl.minimum(first + per_share, (i_g + 1) * per_group)):
            at = (i_row * H + i_h) * T + t0
            dt, coarse, fine = load_sizes(p_size, p_log, at, o, ok)
            between, since, until, over = _decays(coarse, fine, ok, Q)
            weights = dot(c, tl.trans(b), None, PRECISION) * between
            felt = tl.zeros((Q, Q), tl.float32)
            ends = tl.zeros((Q,), tl.float32)
            starts = tl.zeros((Q,), tl.float32)
            across = 0.0
            for i_p in range(0, tl.cdiv(P, BP)):
                p = i_p * BP + tl.arange(0, BP)
                p_ok = p < P
                ok_P = ok[:, None] & p_ok[None, :]
                ok_PN = p_ok[:, None] & n_ok[None, :]
                state = (i_chunk * H + i_h) * (P * N)
                o_PN = p[:, None] * N + n[None, :]
                # A piece after a reset does not see the state before the chunk, one before a
                # reset not the gradient of the state after it.
                h = tl.load(p_check + state + o_PN, mask=ok_PN & (k == 0), other=0.0)
                g = tl.load(p_g + state + o_PN, mask=ok_PN & (k == count - 1), other=0.0)
                across += tl.sum(tl.sum(h.to(tl.float32) * g.to(tl.float32), axis=1), axis=0)
                q_x = tile(p_x, i_row, s_xb, t0, s_xt, i_h, s_xh, o, p, s_xp)
                q_g = tile(p_dout, i_row, s_gb, t0, s_gt, i_h, s_gh, o, p, s_gp)
                x = tl.load(q_x, mask=ok_P, other=0.0)
                dy = tl.load(q_g, mask=ok_P, other=0.0)
                from_state = dot(c, tl.trans(h), None, PRECISION) * since[:, None]
                if p_z is not None:
                    q_z = tile(p_z, i_row, s_zb, t0, s_zt, i_h, s_zh, o, p, s_zp)
                    z = tl.load(q_z, mask=ok_P, other=0.0).to(tl.float32)
                    gate = sigmoid(z)
                    y = dot((weights * dt[None, :]).to(x.dtype), x, from_state, PRECISION)
                    if p_D is not None:
                        q_D = p_D + i_h * s_Dh + p * s_Dp
                        y += x.to(tl.float32) * tl.load(q_D, mask=p_ok, other=0.0).to(tl.float32)
                    dz = dy.to(tl.float32) * y * gate * (1.0 + z * (1.0 - gate))
                    q_dz = tile(p_dz, i_row, s_dzb, t0, s_dzt, i_h, s_dzh, o, p, s_dzp)
                    tl.store(q_dz, dz.to(p_dz.dtype.element_ty), mask=ok_P)
                    dy = (dy.to(tl.float32) * (z * gate)).to(x.dtype)
                ends += tl.sum(dy.to(tl.float32) * from_state, axis=1)
                felt = dot(dy, tl.trans(x), felt, PRECISION)
                from_end = dot(b, tl.trans(g), None, PRECISION) * until[:, None]
                starts += tl.sum(x.to(tl.float32) * from_end, axis=1)
                dx = dot(tl.trans(weights).to(x.dtype), dy, from_end, PRECISION) * dt[:, None]
                if p_D is not None:
                    q_D = p_D + i_h * s_Dh + p * s_Dp
                    skip = tl.load(q_D, mask=p_ok, other=0.0).to(tl.float32)
                    dx += dy.to(tl.float32) * skip[None, :]
                    dskip = tl.sum(dy.to(tl.float32) * x.to(tl.float32), axis=0)
                    q_dD = p_dD + (i_chunk * H + i_h) * P + p
                    if p_resets is not None:
                        tl.debug_barrier()
                        dskip += tl.load(q_dD, mask=p_ok & (k > 0), other=0.0)
                    tl.store(q_dD, dskip, mask=p_ok)
                q_dx = tile(p_dx, i_row, s_dxb, t0, s_dxt, i_h, s_dxh, o, p, s_dxp)
                tl.store(q_dx, dx.to(p_dx.dtype.element_ty), mask=ok_P)
            felt *= weights
            direct = tl.sum(felt, axis=0) + starts
            # All that passes through step t: from s before it to t or later. Differences of sums
            # would leave rounding errors where the decay of t lets nothing through.
            passing = tl.cumsum(felt * dt[None, :], 0, reverse=True) + (starts * dt)[None, :]
            dlog = tl.sum(tl.where(o[:, None] > o[None, :], passing, 0.0), axis=1)
            dlog += tl.cumsum(ends, 0, reverse=True)
            dlog += across * over
            ddt = direct
            if not BY_STEP:
                ddt += dlog * tl.load(p_A + i_h * s_Ah).to(tl.float32)
                dlog *= dt
            slope = tl.load(p_slope + at + o, mask=ok, other=0.0)
            tl.store(p_ddt + at + o, ddt * slope, mask=ok)
            tl.store(p_dlog + at + o, dlog, mask=ok)


@triton.jit
def shared_kernel(
    p_dout, p_check, p_g, p_x, p_size, p_log, p_B, p_C, p_z, p_resets, p_chunks,
    p_dB, p_dC,
    T, H, G, per_group, per_share,
    s_gb, s_gt, s_gh, s_gp, s_xb, s_xt, s_xh, s_xp, s_zb, s_zt, s_zh, s_zp,
    s_Bb, s_Bt, s_Bg, s_Bn, s_Cb, s_Ct, s_Cg, s_Cn, s_rb, s_rt,
    s_dBs, s_dBb, s_dBt, s_dBg, s_dBn, s_dCs, s_dCb, s_dCt, s_dCg, s_dCn,
    P: tl.constexpr, N: tl.constexpr, BP: tl.constexpr, NP: tl.constexpr, Q: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of B and C, which the heads of a group share: what ``per_share`` of them add, for a
    chunk and NP of the states."""
    i_chunk = tl.program_id(0).to(tl.int64)
    i_g = tl.program_id(1) % G
    i_share = (tl.program_id(1) // G).to(tl.int64)
    first = i_g * per_group + i_share.to(tl.int32) * per_share
    i_row, t0, end = _place(p_chunks, i_chunk, T, Q)
    n = tl.program_id(2) * NP + tl.arange(0, NP)
    o = tl.arange(0, Q)
    n_ok = n < N
    t = t0 + o
    dB = tl.zeros((Q, NP), tl.float32)
    dC = tl.zeros((Q, NP), tl.float32)
    if p_resets is not None:
        i_piece, count = pieces(p_resets + i_row * s_rb, s_rt, t, end)
    else:
        i_piece = o * 0
        count = 1
    for k in range(0, count):
        ok = (t < end) & (i_piece == k)
        shared = tl.zeros((Q, Q), tl.float32)
        for i_h in range(first, tl.minimum(first + per_share, (i_g + 1) * per_group)):
            at = (i_row * H + i_h) * T + t0
            dt, coarse, fine = load_sizes(p_size, p_log, at, o, ok)
            between, since, until, _ = _decays(coarse, fine, ok, Q)
            felt = tl.zeros((Q, Q), tl.float32)
            for i_p in range(0, tl.cdiv(P, BP)):
                p = i_p * BP + tl.arange(0, BP)
                p_ok = p < P
                ok_P = ok[:, None] & p_ok[None, :]
                ok_PN = p_ok[:, None] & n_ok[None, :]
                state = (i_chunk * H + i_h) * (P * N)
                o_PN = p[:, None] * N + n[None, :]
                h = tl.load(p_check + state + o_PN, mask=ok_PN & (k == 0), other=0.0)
                g = tl.load(p_g + state + o_PN, mask=ok_PN & (k == count - 1), other=0.0)
                q_x = tile(p_x, i_row, s_xb, t0, s_xt, i_h, s_xh, o, p, s_xp)
                q_g = tile(p_dout, i_row, s_gb, t0, s_gt, i_h, s_gh, o, p, s_gp)
                q_z = None
                if p_z is not None:
                    q_z = tile(p_z, i_row, s_zb, t0, s_zt, i_h, s_zh, o, p, s_zp)
                x = tl.load(q_x, mask=ok_P, other=0.0)
                dy = _gated(q_g, q_z, ok_P)
                felt = dot(dy.to(x.dtype), tl.trans(x), felt, PRECISION)
                dC = dot((dy * since[:, None]).to(x.dtype), h, dC, PRECISION)
                weighted = (x.to(tl.float32) * (dt * until)[:, None]).to(x.dtype)
                dB = dot(weighted, g, dB, PRECISION)
            shared += felt * between * dt[None, :]
        ok_N = ok[:, None] & n_ok[None, :]
        q_B = tile(p_B, i_row, s_Bb, t0, s_Bt, i_g, s_Bg, o, n, s_Bn)
        q_C = tile(p_C, i_row, s_Cb, t0, s_Ct, i_g, s_Cg, o, n, s_Cn)
        b = tl.load(q_B, mask=ok_N, other=0.0).to(p_x.dtype.element_ty)
        c = tl.load(q_C, mask=ok_N, other=0.0).to(p_x.dtype.element_ty)
        dC = dot(shared.to(c.dtype), b, dC, PRECISION)
        dB = dot(tl.trans(shared).to(c.dtype), c, dB, PRECISION)
    ok_N = (t < end)[:, None] & n_ok[None, :]
    q_dB = tile(p_dB + i_share * s_dBs, i_row, s_dBb, t0, s_dBt, i_g, s_dBg, o, n, s_dBn)
    q_dC = tile(p_dC + i_share * s_dCs, i_row, s_dCb, t0, s_dCt, i_g, s_dCg, o, n, s_dCn)
    tl.store(q_dB, dB.to(p_dB.dtype.element_ty), mask=ok_N)
    tl.store(q_dC, dC.to(p_dC.dtype.element_ty), mask=ok_N)
