"""The backward kernel of the duality, in Triton: all chunks at once.

A program owns a chunk and a share of the heads of one group. It has the state before the chunk
and the gradient of the state after it, walks over its heads, and adds up in registers what they
give to the gradients of B and C, which they share.
"""

import triton
import triton.language as tl

from audiomamba.kernels.ssd.walk import (
    LOG2E,
    dot,
    load_logs,
    load_sizes,
    pieces,
    sigmoid,
    two_parts,
)

__all__ = ["backward_kernel"]


@triton.jit
def backward_kernel(
    p_dout, p_check, p_g, p_x, p_dt, p_A, p_B, p_C, p_D, p_z, p_bias, p_resets, p_chunks,
    p_dx, p_ddt, p_dlog, p_dB, p_dC, p_dD, p_dz,
    T, H, G, per_group, per_share, low, high,
    s_gb, s_gt, s_gh, s_gp, s_xb, s_xt, s_xh, s_xp, s_db, s_dt, s_dh, s_zb, s_zt, s_zh, s_zp,
    s_dxb, s_dxt, s_dxh, s_dxp, s_dzb, s_dzt, s_dzh, s_dzp,
    s_Ab, s_At, s_Ah, s_Bb, s_Bt, s_Bg, s_Bn, s_Cb, s_Ct, s_Cg, s_Cn, s_Dh, s_Dp, s_rb, s_rt,
    s_dBs, s_dBb, s_dBt, s_dBg, s_dBn, s_dCs, s_dCb, s_dCt, s_dCg, s_dCn,
    P: tl.constexpr, N: tl.constexpr, BP: tl.constexpr, NP: tl.constexpr, Q: tl.constexpr,
    SOFTPLUS: tl.constexpr, BY_STEP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of a chunk; of δ, and of A before its sum over time, as (B, T, H) float32."""
    i_chunk = tl.program_id(0).to(tl.int64)
    i_g = tl.program_id(1) % G
    i_share = (tl.program_id(1) // G).to(tl.int64)
    if p_chunks is not None:
        i_row = i_chunk * 0
        t0 = tl.load(p_chunks + i_chunk * 2)
        end = tl.load(p_chunks + i_chunk * 2 + 1)
    else:
        i_row = i_chunk // tl.cdiv(T, Q)
        t0 = (i_chunk % tl.cdiv(T, Q)).to(tl.int32) * Q
        end = tl.minimum(t0 + Q, T)
    n = tl.arange(0, NP)
    o = tl.arange(0, Q)
    n_ok = n < N
    t = t0 + o
    tt = t.to(tl.int64)[:, None]
    q_B = p_B + i_row * s_Bb + i_g * s_Bg + n[None, :] * s_Bn + tt * s_Bt
    q_C = p_C + i_row * s_Cb + i_g * s_Cg + n[None, :] * s_Cn + tt * s_Ct
    dB = tl.zeros((Q, NP), tl.float32)
    dC = tl.zeros((Q, NP), tl.float32)
    if p_resets is not None:
        i_piece, count = pieces(p_resets + i_row * s_rb, s_rt, t, end)
    else:
        i_piece = o * 0
        count = 1
    for k in range(0, count):
        ok = (t < end) & (i_piece == k)
        paired = (o[:, None] >= o[None, :]) & ok[:, None] & ok[None, :]
        before = o[:, None] > o[None, :]
        ok_N = ok[:, None] & n_ok[None, :]
        b = tl.load(q_B, mask=ok_N, other=0.0).to(p_x.dtype.element_ty)
        c = tl.load(q_C, mask=ok_N, other=0.0).to(p_x.dtype.element_ty)
        similar = dot(c, tl.trans(b), None, PRECISION)
        shared = tl.zeros((Q, Q), tl.float32)
        first = i_g * per_group + i_share.to(tl.int32) * per_share
        for i_h in range(first, tl.minimum(first + per_share, (i_g + 1) * per_group)):
            bias = 0.0
            if p_bias is not None:
                bias = tl.load(p_bias + i_h).to(tl.float32)
            q_dt = p_dt + i_row * s_db + i_h * s_dh + t.to(tl.int64) * s_dt
            raw, dt = load_sizes(q_dt, bias, low, high, ok, SOFTPLUS)
            logs = load_logs(p_A, i_row, i_h, t, ok, s_Ab, s_At, s_Ah, dt, BY_STEP)
            coarse, fine = two_parts(logs)
            sums_c = tl.cumsum(coarse, 0)
            sums_f = tl.cumsum(fine, 0)
            total_c = tl.sum(coarse, axis=0)
            total_f = tl.sum(fine, axis=0)
            since = tl.math.exp2(sums_c + sums_f)
            until = tl.math.exp2((total_c - sums_c) + (total_f - sums_f))
            between = (sums_c[:, None] - sums_c[None, :]) + (sums_f[:, None] - sums_f[None, :])
            decay = tl.math.exp2(tl.where(paired, between, float("-inf")))
            weights = similar * decay
            felt = tl.zeros((Q, Q), tl.float32)
            ends = tl.zeros((Q,), tl.float32)
            starts = tl.zeros((Q,), tl.float32)
            across = tl.zeros((BP,), tl.float32)
            for i_p in range(0, tl.cdiv(P, BP)):
                p = i_p * BP + tl.arange(0, BP)
                p_ok = p < P
                ok_P = ok[:, None] & p_ok[None, :]
                ok_PN = p_ok[:, None] & n_ok[None, :]
                o_PN = (i_chunk * H + i_h) * (P * N) + p[:, None] * N + n[None, :]
                # A piece after a reset does not see the state before the chunk, one before a
                # reset not the gradient of the state after it.
                h = tl.load(p_check + o_PN, mask=ok_PN & (k == 0), other=0.0)
                g = tl.load(p_g + o_PN, mask=ok_PN & (k == count - 1), other=0.0)
                q_x = p_x + i_row * s_xb + i_h * s_xh + p[None, :] * s_xp + tt * s_xt
                q_g = p_dout + i_row * s_gb + i_h * s_gh + p[None, :] * s_gp + tt * s_gt
                x = tl.load(q_x, mask=ok_P, other=0.0)
                dy = tl.load(q_g, mask=ok_P, other=0.0)
                wide_x = x.to(tl.float32)
                wide_dy = dy.to(tl.float32)
                from_state = dot(c, tl.trans(h), None, PRECISION) * since[:, None]
                from_end = dot(b, tl.trans(g), None, PRECISION) * until[:, None]
                if p_D is not None:
                    skip = tl.load(p_D + i_h * s_Dh + p * s_Dp, mask=p_ok, other=0.0)
                    skip = skip.to(tl.float32)
                if p_z is not None:
                    q_z = p_z + i_row * s_zb + i_h * s_zh + p[None, :] * s_zp + tt * s_zt
                    z = tl.load(q_z, mask=ok_P, other=0.0).to(tl.float32)
                    gate = sigmoid(z)
                    y = (weights * dt[None, :]).to(x.dtype)
                    y = dot(y, x, from_state, PRECISION)
                    if p_D is not None:
                        y += wide_x * skip[None, :]
                    dz = wide_dy * y * gate * (1.0 + z * (1.0 - gate))
                    q_dz = p_dz + i_row * s_dzb + i_h * s_dzh + p[None, :] * s_dzp + tt * s_dzt
                    tl.store(q_dz, dz.to(p_dz.dtype.element_ty), mask=ok_P)
                    wide_dy *= z * gate
                    dy = wide_dy.to(x.dtype)
                felt = dot(dy, tl.trans(x), felt, PRECISION)
                dC = dot((wide_dy * since[:, None]).to(x.dtype), h, dC, PRECISION)
                weighted = (wide_x * (dt * until)[:, None]).to(x.dtype)
                dB = dot(weighted, g, dB, PRECISION)
                ends += tl.sum(wide_dy * from_state, axis=1)
                starts += tl.sum(wide_x * from_end, axis=1)
                across += tl.sum(h.to(tl.float32) * g.to(tl.float32), axis=1)
                ddrive = dot(tl.trans(weights).to(x.dtype), dy, from_end, PRECISION)
                dx = ddrive * dt[:, None]
                if p_D is not None:
                    dx += wide_dy * skip[None, :]
                    dskip = tl.sum(wide_dy * wide_x, axis=0)
                    q_dD = p_dD + (i_chunk * H + i_h) * P + p
                    if p_resets is not None:
                        tl.debug_barrier()
                        dskip += tl.load(q_dD, mask=p_ok & (k > 0), other=0.0)
                    tl.store(q_dD, dskip, mask=p_ok)
                q_dx = p_dx + i_row * s_dxb + i_h * s_dxh + p[None, :] * s_dxp + tt * s_dxt
                tl.store(q_dx, dx.to(p_dx.dtype.element_ty), mask=ok_P)
            felt *= decay
            shared += felt * dt[None, :]
            felt *= similar
            direct = tl.sum(felt, axis=0) + starts
            # All that passes through step t: from s before it to t or later. Differences of sums
            # would leave rounding errors where the decay of t lets nothing through.
            passing = tl.cumsum(felt * dt[None, :], 0, reverse=True) + (starts * dt)[None, :]
            dlog = tl.sum(tl.where(before, passing, 0.0), axis=1)
            dlog += tl.cumsum(ends, 0, reverse=True)
            dlog += tl.sum(across, axis=0) * tl.math.exp2(total_c + total_f)
            ddt = direct
            if not BY_STEP:
                ddt += dlog * tl.load(p_A + i_h * s_Ah).to(tl.float32)
            if SOFTPLUS:
                size = tl.where(raw > 20.0, raw, tl.log(1.0 + tl.math.exp2(raw * LOG2E)))
                ddt *= sigmoid(raw)
            else:
                size = raw
            ddt = tl.where((size >= low) & (size <= high), ddt, 0.0)
            q_h = (i_row * T + t) * H + i_h
            tl.store(p_ddt + q_h, ddt, mask=ok)
            if not BY_STEP:
                dlog *= dt
            tl.store(p_dlog + q_h, dlog, mask=ok)
        dC = dot(shared.to(c.dtype), b, dC, PRECISION)
        dB = dot(tl.trans(shared).to(c.dtype), c, dB, PRECISION)
    ok_N = (t < end)[:, None] & n_ok[None, :]
    q_dB = p_dB + i_share * s_dBs + i_row * s_dBb + i_g * s_dBg + n[None, :] * s_dBn + tt * s_dBt
    q_dC = p_dC + i_share * s_dCs + i_row * s_dCb + i_g * s_dCg + n[None, :] * s_dCn + tt * s_dCt
    tl.store(q_dB, dB.to(p_dB.dtype.element_ty), mask=ok_N)
    tl.store(q_dC, dC.to(p_dC.dtype.element_ty), mask=ok_N)
