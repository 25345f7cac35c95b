"""Kernels of the duality that take all chunks at once, in Triton: the backward, and the outputs
where states are kept for it.

``outputs_kernel`` and ``heads_kernel``, a program for a chunk and a head, make what the head has
for itself: the former what follows from its output, before the gradients of the states are known,
the latter the rest, and it keeps what the head gives to the gradients of B and C between two steps
of the chunk. ``shared_kernel``, a program for a chunk and a share of the heads of a group, adds
that up in registers. In fewer kernels they would load less and hold more than there are registers.

Loads stand before the products that do not wait for them, as the compiler moves none past one.
"""

import triton
import triton.language as tl

from audiomamba.kernels.ssd.walk import dot, load_sizes, pieces, sigmoid, tile

__all__ = ["emit_kernel", "heads_kernel", "outputs_kernel", "shared_kernel"]


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
def _ways(coarse, fine):
    """Decays of a piece from its start to each step, and from each step to its end, (Q,)."""
    sums_c = tl.cumsum(coarse, 0)
    sums_f = tl.cumsum(fine, 0)
    left = (tl.sum(coarse, axis=0) - sums_c) + (tl.sum(fine, axis=0) - sums_f)
    return tl.math.exp2(sums_c + sums_f), tl.math.exp2(left)


@triton.jit
def _decayed(pairs, coarse, fine, TURNED: tl.constexpr, Q: tl.constexpr):
    """``pairs``, (Q, Q), times the decay between both steps of a piece, the earlier along rows, or
    TURNED; 0 for those in the wrong order."""
    o = tl.arange(0, Q)
    sums_c = tl.cumsum(coarse, 0)
    sums_f = tl.cumsum(fine, 0)
    # That it begins with the pairs is for the compiler, which then works out the decays where the
    # product left the pairs, instead of moving either through shared memory.
    if TURNED:
        ordered = (pairs == pairs) & (o[:, None] >= o[None, :])
        between = tl.where(ordered, 0.0, float("-inf")) + sums_c[:, None] - sums_c[None, :]
        between = between + sums_f[:, None] - sums_f[None, :]
    else:
        ordered = (pairs == pairs) & (o[:, None] <= o[None, :])
        between = tl.where(ordered, 0.0, float("-inf")) + sums_c[None, :] - sums_c[:, None]
        between = between + sums_f[None, :] - sums_f[:, None]
    return pairs * tl.math.exp2(between)


@triton.jit
def _weights(c, b, dt, coarse, fine, Q: tl.constexpr, PRECISION: tl.constexpr):
    """W of equation (5), (Q, Q), a step of the output a row."""
    weights = dot(c, tl.trans(b), None, PRECISION)
    return (_decayed(weights, coarse, fine, True, Q) * dt[None, :]).to(c.dtype)


@triton.jit
def _sums_from(pairs, Q: tl.constexpr, PRECISION: tl.constexpr):
    """Sums along rows from each place on, (Q, Q): products with ones, as a scan would move the
    pairs through shared memory and back. In 16 bits both halves of a float32 are added."""
    o = tl.arange(0, Q)
    ones = (o[:, None] >= o[None, :]).to(tl.float32)
    if PRECISION == "ieee":
        return dot(pairs, ones, None, PRECISION)
    high = pairs.to(tl.bfloat16)
    low = (pairs - high.to(tl.float32)).to(tl.bfloat16)
    ones = ones.to(tl.bfloat16)
    return dot(low, ones, dot(high, ones, None, PRECISION), PRECISION)


@triton.jit
def _two_steps(p, i_chunk, H, i_h, o, Q: tl.constexpr):
    """Pointers to a number of a head for every two steps of a chunk, earlier by later ones."""
    return p + (i_chunk * H + i_h) * (Q * Q) + (o[:, None] * Q + o[None, :])


@triton.jit
def emit_kernel(
    p_check, p_x, p_size, p_log, p_B, p_C, p_D, p_z, p_resets, p_chunks, p_out,
    T, H, per_group,
    s_xb, s_xt, s_xh, s_xp, s_zb, s_zt, s_zh, s_zp, s_ob, s_ot, s_oh, s_op,
    s_Bb, s_Bt, s_Bg, s_Bn, s_Cb, s_Ct, s_Cg, s_Cn, s_rb, s_rt, s_Dh, s_Dp,
    P: tl.constexpr, N: tl.constexpr, BP: tl.constexpr, NP: tl.constexpr, Q: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Output of a head in a chunk, from the state before it."""
    i_h = tl.program_id(0)
    i_chunk = tl.program_id(1).to(tl.int64)
    i_g = i_h // per_group
    i_row, t0, end = _place(p_chunks, i_chunk, T, Q)
    n = tl.arange(0, NP)
    o = tl.arange(0, Q)
    n_ok = n < N
    t = t0 + o
    i_piece, count = pieces(p_resets, i_row, s_rb, s_rt, t, end)
    for k in range(0, count):
        ok = (t < end) & (i_piece == k)
        ok_N = ok[:, None] & n_ok[None, :]
        q_C = tile(p_C, i_row, s_Cb, t0, s_Ct, i_g, s_Cg, o, n, s_Cn)
        c = tl.load(q_C, mask=ok_N, other=0.0).to(p_x.dtype.element_ty)
        dt, coarse, fine = load_sizes(p_size, p_log, (i_row * H + i_h) * T + t0, o, ok)
        since, _ = _ways(coarse, fine)
        q_B = tile(p_B, i_row, s_Bb, t0, s_Bt, i_g, s_Bg, o, n, s_Bn)
        b = tl.load(q_B, mask=ok_N, other=0.0).to(p_x.dtype.element_ty)
        weights = _weights(c, b, dt, coarse, fine, Q, PRECISION)
        for i_p in range(0, tl.cdiv(P, BP)):
            p = i_p * BP + tl.arange(0, BP)
            p_ok = p < P
            ok_P = ok[:, None] & p_ok[None, :]
            # A piece after a reset does not see the state before the chunk.
            seen = p_ok[:, None] & n_ok[None, :] & (k == 0)
            q_h = p_check + (i_chunk * H + i_h) * (P * N) + (p[:, None] * N + n[None, :])
            h = tl.load(q_h, mask=seen, other=0.0)
            q_x = tile(p_x, i_row, s_xb, t0, s_xt, i_h, s_xh, o, p, s_xp)
            x = tl.load(q_x, mask=ok_P, other=0.0)
            if p_z is not None:
                q_z = tile(p_z, i_row, s_zb, t0, s_zt, i_h, s_zh, o, p, s_zp)
                z = tl.load(q_z, mask=ok_P, other=0.0)
            y = dot(c, tl.trans(h), None, PRECISION) * since[:, None]
            y = dot(weights, x, y, PRECISION)
            if p_D is not None:
                q_D = p_D + i_h * s_Dh + p * s_Dp
                y += x.to(tl.float32) * tl.load(q_D, mask=p_ok, other=0.0).to(tl.float32)
            if p_z is not None:
                z = z.to(tl.float32)
                y *= z * sigmoid(z)
            q_out = tile(p_out, i_row, s_ob, t0, s_ot, i_h, s_oh, o, p, s_op)
            tl.store(q_out, y.to(p_out.dtype.element_ty), mask=ok_P)


@triton.jit
def outputs_kernel(
    p_dout, p_check, p_x, p_size, p_log, p_B, p_C, p_z, p_resets, p_chunks, p_D,
    p_dy, p_dz, p_ends,
    T, H, per_group,
    s_gb, s_gt, s_gh, s_gp, s_xb, s_xt, s_xh, s_xp, s_zb, s_zt, s_zh, s_zp,
    s_Bb, s_Bt, s_Bg, s_Bn, s_Cb, s_Ct, s_Cg, s_Cn, s_rb, s_rt,
    s_Dh, s_Dp, s_yb, s_yt, s_yh, s_yp, s_dzb, s_dzt, s_dzh, s_dzp,
    P: tl.constexpr, N: tl.constexpr, BP: tl.constexpr, NP: tl.constexpr, Q: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """What the output of a head in a chunk says: the gradient of y, which z gates, of z, and the
    second sum of equation (10) before it is one over time, as (B, H, T) float32."""
    i_h = tl.program_id(0)
    i_chunk = tl.program_id(1).to(tl.int64)
    i_g = i_h // per_group
    i_row, t0, end = _place(p_chunks, i_chunk, T, Q)
    n = tl.arange(0, NP)
    o = tl.arange(0, Q)
    n_ok = n < N
    t = t0 + o
    at = (i_row * H + i_h) * T + t0
    i_piece, count = pieces(p_resets, i_row, s_rb, s_rt, t, end)
    for k in range(0, count):
        ok = (t < end) & (i_piece == k)
        ok_N = ok[:, None] & n_ok[None, :]
        q_C = tile(p_C, i_row, s_Cb, t0, s_Ct, i_g, s_Cg, o, n, s_Cn)
        c = tl.load(q_C, mask=ok_N, other=0.0).to(p_x.dtype.element_ty)
        dt, coarse, fine = load_sizes(p_size, p_log, at, o, ok)
        since, _ = _ways(coarse, fine)
        if p_z is not None:
            q_B = tile(p_B, i_row, s_Bb, t0, s_Bt, i_g, s_Bg, o, n, s_Bn)
            b = tl.load(q_B, mask=ok_N, other=0.0).to(p_x.dtype.element_ty)
            weights = _weights(c, b, dt, coarse, fine, Q, PRECISION)
        ends = tl.zeros((Q,), tl.float32)
        for i_p in range(0, tl.cdiv(P, BP)):
            p = i_p * BP + tl.arange(0, BP)
            p_ok = p < P
            ok_P = ok[:, None] & p_ok[None, :]
            # A piece after a reset does not see the state before the chunk.
            seen = p_ok[:, None] & n_ok[None, :] & (k == 0)
            q_h = p_check + (i_chunk * H + i_h) * (P * N) + (p[:, None] * N + n[None, :])
            h = tl.load(q_h, mask=seen, other=0.0)
            q_g = tile(p_dout, i_row, s_gb, t0, s_gt, i_h, s_gh, o, p, s_gp)
            dout = tl.load(q_g, mask=ok_P, other=0.0)
            if p_z is not None:
                q_x = tile(p_x, i_row, s_xb, t0, s_xt, i_h, s_xh, o, p, s_xp)
                x = tl.load(q_x, mask=ok_P, other=0.0)
                q_z = tile(p_z, i_row, s_zb, t0, s_zt, i_h, s_zh, o, p, s_zp)
                z = tl.load(q_z, mask=ok_P, other=0.0)
            from_state = dot(c, tl.trans(h), None, PRECISION) * since[:, None]
            dy = dout.to(tl.float32)
            if p_z is not None:
                y = dot(weights, x, from_state, PRECISION)
                if p_D is not None:
                    q_D = p_D + i_h * s_Dh + p * s_Dp
                    y += x.to(tl.float32) * tl.load(q_D, mask=p_ok, other=0.0).to(tl.float32)
                z = z.to(tl.float32)
                gate = sigmoid(z)
                dz = dy * y * gate * (1.0 + z * (1.0 - gate))
                q_dz = tile(p_dz, i_row, s_dzb, t0, s_dzt, i_h, s_dzh, o, p, s_dzp)
                tl.store(q_dz, dz.to(p_dz.dtype.element_ty), mask=ok_P)
                dy *= z * gate
                q_dy = tile(p_dy, i_row, s_yb, t0, s_yt, i_h, s_yh, o, p, s_yp)
                tl.store(q_dy, dy.to(p_dy.dtype.element_ty), mask=ok_P)
            ends += tl.sum(dy * from_state, axis=1)
        tl.store(p_ends + at + o, ends, mask=ok)


@triton.jit
def heads_kernel(
    p_dy, p_check, p_g, p_x, p_size, p_log, p_B, p_C, p_resets, p_chunks, p_pairs,
    p_slope, p_A, p_D, p_dx, p_ddt, p_dlog, p_dD,
    T, H, per_group,
    s_yb, s_yt, s_yh, s_yp, s_xb, s_xt, s_xh, s_xp, s_Bb, s_Bt, s_Bg, s_Bn,
    s_Cb, s_Ct, s_Cg, s_Cn, s_rb, s_rt, s_Ah, s_Dh, s_Dp, s_dxb, s_dxt, s_dxh, s_dxp,
    P: tl.constexpr, N: tl.constexpr, BP: tl.constexpr, NP: tl.constexpr, Q: tl.constexpr,
    BY_STEP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of what a head has for itself in a chunk; of δ, and of A before its sum over time,
    as (B, H, T) float32, the latter in the place of what ``outputs_kernel`` left there; and V of
    equation (8), as (chunks, H, Q, Q)."""
    i_h = tl.program_id(0)
    i_chunk = tl.program_id(1).to(tl.int64)
    i_g = i_h // per_group
    i_row, t0, end = _place(p_chunks, i_chunk, T, Q)
    n = tl.arange(0, NP)
    o = tl.arange(0, Q)
    n_ok = n < N
    t = t0 + o
    at = (i_row * H + i_h) * T + t0
    i_piece, count = pieces(p_resets, i_row, s_rb, s_rt, t, end)
    for k in range(0, count):
        ok = (t < end) & (i_piece == k)
        ok_N = ok[:, None] & n_ok[None, :]
        q_B = tile(p_B, i_row, s_Bb, t0, s_Bt, i_g, s_Bg, o, n, s_Bn)
        b = tl.load(q_B, mask=ok_N, other=0.0).to(p_x.dtype.element_ty)
        dt, coarse, fine = load_sizes(p_size, p_log, at, o, ok)
        _, until = _ways(coarse, fine)
        q_C = tile(p_C, i_row, s_Cb, t0, s_Ct, i_g, s_Cg, o, n, s_Cn)
        c = tl.load(q_C, mask=ok_N, other=0.0).to(p_x.dtype.element_ty)
        weights = dot(b, tl.trans(c), None, PRECISION)
        weights = _decayed(weights, coarse, fine, False, Q)
        weights = weights.to(p_x.dtype.element_ty)
        felt = tl.zeros((Q, Q), tl.float32)
        starts = tl.zeros((Q,), tl.float32)
        across = 0.0
        for i_p in range(0, tl.cdiv(P, BP)):
            p = i_p * BP + tl.arange(0, BP)
            p_ok = p < P
            ok_P = ok[:, None] & p_ok[None, :]
            ok_PN = p_ok[:, None] & n_ok[None, :]
            o_PN = (i_chunk * H + i_h) * (P * N) + (p[:, None] * N + n[None, :])
            # A piece after a reset does not see the state before the chunk, one before a
            # reset not the gradient of the state after it.
            h = tl.load(p_check + o_PN, mask=ok_PN & (k == 0), other=0.0)
            g = tl.load(p_g + o_PN, mask=ok_PN & (k == count - 1), other=0.0)
            q_x = tile(p_x, i_row, s_xb, t0, s_xt, i_h, s_xh, o, p, s_xp)
            q_y = tile(p_dy, i_row, s_yb, t0, s_yt, i_h, s_yh, o, p, s_yp)
            x = tl.load(q_x, mask=ok_P, other=0.0)
            dy = tl.load(q_y, mask=ok_P, other=0.0)
            from_end = dot(b, tl.trans(g), None, PRECISION) * until[:, None]
            starts += tl.sum(x.to(tl.float32) * from_end, axis=1)
            across += tl.sum(tl.sum(h.to(tl.float32) * g.to(tl.float32), axis=1), axis=0)
            dx = dot(weights, dy, from_end, PRECISION) * dt[:, None]
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
            # Last, as what is held from one product to the next takes registers.
            felt = dot(x, tl.trans(dy), felt, PRECISION)
        # Worked out again, as it is not to be held meanwhile.
        dt, coarse, fine = load_sizes(p_size, p_log, at, o, ok)
        felt = _decayed(felt, coarse, fine, False, Q)
        given = (felt * dt[:, None]).to(p_pairs.dtype.element_ty)
        q_pairs = _two_steps(p_pairs, i_chunk, H, i_h, o, Q)
        if p_resets is None:  # a mask would part it into single values
            tl.store(q_pairs, given)
        else:
            tl.store(q_pairs, given, mask=ok[:, None] & ok[None, :])
        felt *= dot(b, tl.trans(c), None, PRECISION)
        ddt = tl.sum(felt, axis=1) + starts
        # All that passes through step t: from s before it to t or later. Differences of sums
        # would leave rounding errors where the decay of t lets nothing through.
        passing = _sums_from(felt * dt[:, None], Q, PRECISION) + (starts * dt)[:, None]
        dlog = tl.sum(tl.where(o[:, None] < o[None, :], passing, 0.0), axis=0)
        ends = tl.load(p_dlog + at + o, mask=ok, other=0.0)
        dlog += tl.cumsum(ends, 0, reverse=True)
        dlog += across * tl.math.exp2(tl.sum(coarse, axis=0) + tl.sum(fine, axis=0))
        if not BY_STEP:
            ddt += dlog * tl.load(p_A + i_h * s_Ah).to(tl.float32)
            dlog *= dt
        slope = tl.load(p_slope + at + o, mask=ok, other=0.0)
        tl.store(p_ddt + at + o, ddt * slope, mask=ok)
        tl.debug_barrier()  # all have read what was left there
        tl.store(p_dlog + at + o, dlog, mask=ok)


@triton.jit
def shared_kernel(
    p_dy, p_check, p_g, p_x, p_size, p_log, p_B, p_C, p_resets, p_chunks, p_pairs,
    p_out,
    T, H, G, per_group, per_share,
    s_yb, s_yt, s_yh, s_yp, s_xb, s_xt, s_xh, s_xp,
    s_Bb, s_Bt, s_Bg, s_Bn, s_Cb, s_Ct, s_Cg, s_Cn, s_rb, s_rt,
    s_os, s_ob, s_ot, s_og, s_on,
    P: tl.constexpr, N: tl.constexpr, BP: tl.constexpr, NP: tl.constexpr, Q: tl.constexpr,
    OF_B: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradient of B, or else of C, which the heads of a group share: what ``per_share`` of them
    add, for a chunk and NP of the states."""
    i_chunk = tl.program_id(0).to(tl.int64)
    i_g = tl.program_id(1) % G
    i_share = (tl.program_id(1) // G).to(tl.int64)
    first = i_g * per_group + i_share.to(tl.int32) * per_share
    i_row, t0, end = _place(p_chunks, i_chunk, T, Q)
    n = tl.program_id(2) * NP + tl.arange(0, NP)
    o = tl.arange(0, Q)
    n_ok = n < N
    t = t0 + o
    sum = tl.zeros((Q, NP), tl.float32)
    i_piece, count = pieces(p_resets, i_row, s_rb, s_rt, t, end)
    for k in range(0, count):
        ok = (t < end) & (i_piece == k)
        pairs = tl.zeros((Q, Q), tl.float32)
        for i_h in range(first, tl.minimum(first + per_share, (i_g + 1) * per_group)):
            dt, coarse, fine = load_sizes(p_size, p_log, (i_row * H + i_h) * T + t0, o, ok)
            since, until = _ways(coarse, fine)
            for i_p in range(0, tl.cdiv(P, BP)):
                p = i_p * BP + tl.arange(0, BP)
                p_ok = p < P
                ok_P = ok[:, None] & p_ok[None, :]
                ok_PN = p_ok[:, None] & n_ok[None, :]
                o_PN = (i_chunk * H + i_h) * (P * N) + (p[:, None] * N + n[None, :])
                if OF_B:
                    state = tl.load(p_g + o_PN, mask=ok_PN & (k == count - 1), other=0.0)
                    q_x = tile(p_x, i_row, s_xb, t0, s_xt, i_h, s_xh, o, p, s_xp)
                    wide = tl.load(q_x, mask=ok_P, other=0.0).to(tl.float32) * (dt * until)[:, None]
                else:
                    state = tl.load(p_check + o_PN, mask=ok_PN & (k == 0), other=0.0)
                    q_y = tile(p_dy, i_row, s_yb, t0, s_yt, i_h, s_yh, o, p, s_yp)
                    wide = tl.load(q_y, mask=ok_P, other=0.0).to(tl.float32) * since[:, None]
                sum = dot(wide.to(state.dtype), state, sum, PRECISION)
            q_pairs = _two_steps(p_pairs, i_chunk, H, i_h, o, Q)
            if p_resets is None:
                pairs += tl.load(q_pairs).to(tl.float32)
            else:
                given = tl.load(q_pairs, mask=ok[:, None] & ok[None, :], other=0.0)
                pairs += given.to(tl.float32)
        ok_N = ok[:, None] & n_ok[None, :]
        narrow = pairs.to(p_pairs.dtype.element_ty)
        if OF_B:
            q_C = tile(p_C, i_row, s_Cb, t0, s_Ct, i_g, s_Cg, o, n, s_Cn)
            c = tl.load(q_C, mask=ok_N, other=0.0).to(narrow.dtype)
            sum = dot(narrow, c, sum, PRECISION)
        else:
            q_B = tile(p_B, i_row, s_Bb, t0, s_Bt, i_g, s_Bg, o, n, s_Bn)
            b = tl.load(q_B, mask=ok_N, other=0.0).to(narrow.dtype)
            sum = dot(tl.trans(narrow), b, sum, PRECISION)
    ok_N = (t < end)[:, None] & n_ok[None, :]
    q_out = tile(p_out + i_share * s_os, i_row, s_ob, t0, s_ot, i_g, s_og, o, n, s_on)
    tl.store(q_out, sum.to(p_out.dtype.element_ty), mask=ok_N)
