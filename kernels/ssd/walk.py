"""Kernels of the duality that carry a state along time, in Triton.

A program owns one head, BP of its P channels and a span of a sequence, and keeps a (BP, NP) state
in registers, NP being N rounded up to a power of two. Chunks of Q steps are matrix products; the
program walks from chunk to chunk. ``gradient_kernel`` is the same walk backwards with the gradient
of the state. Resets cut a chunk into pieces: each is loaded and computed by itself, the rest of
the chunk masked to zero, so that nothing passes a reset, not even NaN.

Prefixes: p_ pointer to a tensor, q_ pointer to this program's part of it, i_ index, s_ stride.
"""

import triton
import triton.language as tl

from audiomamba.kernels import dispatch

__all__ = ["forward_kernel", "gradient_kernel", "sizes_kernel", "step_kernel"]

LOG2E = tl.constexpr(1.4426950408889634)
INTERPRETED = tl.constexpr(dispatch.INTERPRETED)


@triton.jit
def dot(a, b, sum, PRECISION: tl.constexpr):
    """a b + sum in float32."""
    if INTERPRETED:
        # The interpreter multiplies the bits of bfloat16 as if they were integers.
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, sum, input_precision=PRECISION)


@triton.jit
def sigmoid(x):
    return 1.0 / (1.0 + tl.math.exp2(-x * LOG2E))


@triton.jit
def step_size(x, low, high, SOFTPLUS: tl.constexpr):
    if SOFTPLUS:
        # log1p(e) as log(1 + e) plus what the rounding of 1 + e lost.
        e = tl.math.exp2(tl.where(x > 20.0, 20.0, x) * LOG2E)
        w = 1.0 + e
        x = tl.where(x > 20.0, x, tl.log(w) + (e - (w - 1.0)) / w)
    # By selects, as a minimum would drop NaN.
    x = tl.where(x < low, low, x)
    return tl.where(x > high, high, x)


@triton.jit
def sizes_kernel(
    p_dt, p_A, p_bias, p_size, p_log, p_slope, T, H, low, high,
    s_db, s_dt, s_dh, s_Ab, s_At, s_Ah,
    BT: tl.constexpr, BH: tl.constexpr, SOFTPLUS: tl.constexpr, BY_STEP: tl.constexpr,
):  # fmt: skip
    """Step sizes, log2 of the decays, and the slope of the sizes, each (B, H, T) float32.

    Made once, as the other kernels want them along rows, along columns and along both tiles of a
    product: the compiler would work them out again for each.
    """
    i_row = tl.program_id(2).to(tl.int64)
    t = tl.program_id(0) * BT + tl.arange(0, BT)[:, None]
    h = tl.program_id(1) * BH + tl.arange(0, BH)[None, :]
    ok = (t < T) & (h < H)
    tt = t.to(tl.int64)
    raw = tl.load(p_dt + i_row * s_db + tt * s_dt + h * s_dh, mask=ok, other=0.0).to(tl.float32)
    if p_bias is not None:
        raw += tl.load(p_bias + h, mask=h < H, other=0.0).to(tl.float32)
    size = step_size(raw, low, high, SOFTPLUS)
    if BY_STEP:
        rate = tl.load(p_A + i_row * s_Ab + tt * s_At + h * s_Ah, mask=ok, other=0.0)
        log = rate.to(tl.float32) * LOG2E
    else:
        log = size * (tl.load(p_A + h * s_Ah, mask=h < H, other=0.0).to(tl.float32) * LOG2E)
    o = (i_row * H + h) * T + t
    tl.store(p_size + o, size, mask=ok)
    tl.store(p_log + o, log, mask=ok)
    if p_slope is not None:
        slope = tl.full((BT, BH), 1.0, tl.float32)
        free = raw
        if SOFTPLUS:
            slope = sigmoid(raw)
            free = tl.where(raw > 20.0, raw, tl.log(1.0 + tl.math.exp2(raw * LOG2E)))
        slope = tl.where((free >= low) & (free <= high), slope, 0.0)
        tl.store(p_slope + o, slope, mask=ok)


@triton.jit
def load_sizes(p_size, p_log, at, o, ok):
    """Step sizes and both parts of log2 of the decays of a chunk that begins ``at``; 0, which
    changes nothing, where not ok."""
    dt = tl.load(p_size + at + o, mask=ok, other=0.0)
    coarse, fine = two_parts(tl.load(p_log + at + o, mask=ok, other=0.0))
    return dt, coarse, fine


@triton.jit
def tile(p, i_row, s_b, t0, s_t, i_h, s_h, o, m, s_m):
    """Pointers to a chunk of one head or group, steps o by channels or states m.

    Only where it begins needs 64 bits, and no vector of them: registers are short here. The host
    sees to it that the strides are no greater.
    """
    first = p + i_row * s_b + t0.to(tl.int64) * s_t + i_h * s_h
    return first + (o[:, None] * s_t + m[None, :] * s_m)


@triton.jit
def two_parts(log):
    """log2 of the decays of a chunk in two parts whose sums over time lose nothing.

    The first is a multiple of 1/256, so that its sums and their differences are exact; the second
    is small. Less than -160 is 0 as a float32 factor in any case.
    """
    log = tl.where(log < -160.0, -160.0, log)
    coarse = tl.floor(log * 256.0 + 0.5) * 0.00390625
    return coarse, log - coarse


@triton.jit
def place_of_span(p_spans, i_span, T, splits, SPAN, Q: tl.constexpr):
    """Row of the batch, sequence, first and last time, first and last span of the sequence, and
    first chunk of a span."""
    if p_spans is not None:
        i_row = i_span * 0
        i_seq = tl.load(p_spans + i_span * 6)
        start = tl.load(p_spans + i_span * 6 + 1)
        end = tl.load(p_spans + i_span * 6 + 2)
        first = tl.load(p_spans + i_span * 6 + 3)
        last = tl.load(p_spans + i_span * 6 + 4)
        i_chunk = tl.load(p_spans + i_span * 6 + 5)
    else:
        i_row = i_span // splits
        i_seq = i_row
        start = (i_span % splits) * (SPAN * Q)
        end = tl.minimum(start + SPAN * Q, T)
        first = i_row * splits
        last = first + splits - 1
        i_chunk = i_row * tl.cdiv(T, Q) + (i_span % splits) * SPAN
    return i_row.to(tl.int64), i_seq.to(tl.int64), start, end, first, last, i_chunk.to(tl.int64)


@triton.jit
def pieces(p_resets, i_row, s_b, s_t, t, stop):
    """Number of the piece that each step of a chunk lies in, and how many there are."""
    if p_resets is None:
        i_piece = t * 0
        count = 1
    else:
        q_resets = p_resets + i_row * s_b
        started = tl.load(q_resets + t.to(tl.int64) * s_t, mask=t < stop, other=0)
        i_piece = tl.cumsum((started != 0).to(tl.int32), 0)
        count = tl.max(i_piece, axis=0) + 1
    return i_piece, count


@triton.jit
def _passed(h, log):
    """The state after decays whose logarithms add up to ``log``; exact zero after a reset."""
    return tl.where(log == float("-inf"), 0.0, h * tl.math.exp2(log))


@triton.jit
def _advance(h, x, b, dt, coarse, fine, SPLIT: tl.constexpr, PRECISION: tl.constexpr):
    """The state after a piece of a chunk."""
    sums_c = tl.cumsum(coarse, 0)
    sums_f = tl.cumsum(fine, 0)
    total_c = tl.sum(coarse, axis=0)
    total_f = tl.sum(fine, axis=0)
    until = tl.math.exp2((total_c - sums_c) + (total_f - sums_f))
    drive = x.to(tl.float32) * (dt * until)[:, None]
    high = drive.to(x.dtype)
    h = h * tl.math.exp2(total_c + total_f)
    h = dot(tl.trans(high), b, h, PRECISION)
    if SPLIT:
        # What rounding to 16 bits lost, so that the state is one of float32.
        low = (drive - high.to(tl.float32)).to(x.dtype)
        h = dot(tl.trans(low), b, h, PRECISION)
    return h


@triton.jit
def _emit(h, x, b, c, dt, coarse, fine, Q: tl.constexpr, PRECISION: tl.constexpr):
    """What comes out of a piece of a chunk before skip and gate, (Q, BP)."""
    sums_c = tl.cumsum(coarse, 0)
    sums_f = tl.cumsum(fine, 0)
    o = tl.arange(0, Q)
    between = (sums_c[:, None] - sums_c[None, :]) + (sums_f[:, None] - sums_f[None, :])
    between = tl.where(o[:, None] >= o[None, :], between, float("-inf"))
    weights = dot(c, tl.trans(b), None, PRECISION)
    weights *= tl.math.exp2(between) * dt[None, :]
    y = dot(c, tl.trans(h.to(c.dtype)), None, PRECISION)
    y *= tl.math.exp2(sums_c + sums_f)[:, None]
    return dot(weights.to(x.dtype), x, y, PRECISION)


@triton.jit
def forward_kernel(
    p_x, p_size, p_log, p_B, p_C, p_D, p_z, p_h0, p_resets, p_spans,
    p_out, p_h, p_check, p_part, p_decay,
    T, H, per_group, splits, SPAN,
    s_xb, s_xt, s_xh, s_xp, s_zb, s_zt, s_zh, s_zp, s_ob, s_ot, s_oh, s_op,
    s_Bb, s_Bt, s_Bg, s_Bn, s_Cb, s_Ct, s_Cg, s_Cn, s_Dh, s_Dp, s_rb, s_rt,
    P: tl.constexpr, N: tl.constexpr, BP: tl.constexpr, NP: tl.constexpr, Q: tl.constexpr,
    OUTPUT: tl.constexpr, EMIT: tl.constexpr, SPLIT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Output and last state of a span; without OUTPUT its end from a zero state, and its decay.
    Without EMIT the output is left to ``emit_kernel``."""
    i_h = tl.program_id(0) // tl.cdiv(P, BP)
    i_span = tl.program_id(1)
    i_row, i_seq, start, end, first, last, i_chunk = place_of_span(
        p_spans, i_span, T, splits, SPAN, Q
    )
    if not OUTPUT:
        end = tl.where(i_span == last, start, end)  # nobody asks how the last span ends
    i_g = i_h // per_group
    p = (tl.program_id(0) % tl.cdiv(P, BP)) * BP + tl.arange(0, BP)
    n = tl.arange(0, NP)
    o = tl.arange(0, Q)
    p_ok = p < P
    n_ok = n < N
    ok_PN = p_ok[:, None] & n_ok[None, :]
    o_PN = p[:, None] * N + n[None, :]
    if p_D is not None:
        skip = tl.load(p_D + i_h * s_Dh + p * s_Dp, mask=p_ok, other=0.0).to(tl.float32)
    h = tl.zeros((BP, NP), tl.float32)
    log = tl.zeros((1,), tl.float32)
    if OUTPUT:
        if p_h0 is not None:
            q_h0 = p_h0 + (i_seq * H + i_h) * (P * N) + o_PN
            h = tl.load(q_h0, mask=ok_PN, other=0.0).to(tl.float32)
        if p_part is not None:
            for j in range(0, i_span - first):
                at = (first + j).to(tl.int64) * H + i_h
                part = tl.load(p_part + at * (P * N) + o_PN, mask=ok_PN, other=0.0)
                h = _passed(h, tl.load(p_decay + at)) + part
    for i in range(0, tl.cdiv(end - start, Q)):
        t0 = start + i * Q
        t = t0 + o
        if OUTPUT:
            if p_check is not None:
                q_check = (p_check + ((i_chunk + i) * H + i_h) * (P * N)) + o_PN
                tl.store(q_check, h.to(p_check.dtype.element_ty), mask=ok_PN)
        i_piece, count = pieces(p_resets, i_row, s_rb, s_rt, t, end)
        for k in range(0, count):
            ok = (t < end) & (i_piece == k)
            if p_resets is not None:
                h = tl.where(k > 0, 0.0, h)
                log = tl.where(k > 0, float("-inf"), log)
            ok_P = ok[:, None] & p_ok[None, :]
            ok_N = ok[:, None] & n_ok[None, :]
            q_x = tile(p_x, i_row, s_xb, t0, s_xt, i_h, s_xh, o, p, s_xp)
            x = tl.load(q_x, mask=ok_P, other=0.0)
            q_B = tile(p_B, i_row, s_Bb, t0, s_Bt, i_g, s_Bg, o, n, s_Bn)
            b = tl.load(q_B, mask=ok_N, other=0.0).to(x.dtype)
            dt, coarse, fine = load_sizes(p_size, p_log, (i_row * H + i_h) * T + t0, o, ok)
            if EMIT:
                q_C = tile(p_C, i_row, s_Cb, t0, s_Ct, i_g, s_Cg, o, n, s_Cn)
                c = tl.load(q_C, mask=ok_N, other=0.0).to(x.dtype)
                y = _emit(h, x, b, c, dt, coarse, fine, Q, PRECISION)
                if p_D is not None:
                    y += x.to(tl.float32) * skip[None, :]
                if p_z is not None:
                    q_z = tile(p_z, i_row, s_zb, t0, s_zt, i_h, s_zh, o, p, s_zp)
                    z = tl.load(q_z, mask=ok_P, other=0.0).to(tl.float32)
                    y *= z * sigmoid(z)
                q_out = tile(p_out, i_row, s_ob, t0, s_ot, i_h, s_oh, o, p, s_op)
                tl.store(q_out, y.to(p_out.dtype.element_ty), mask=ok_P)
            if not OUTPUT:
                log += tl.sum(coarse, axis=0) + tl.sum(fine, axis=0)
            h = _advance(h, x, b, dt, coarse, fine, SPLIT, PRECISION)
    if OUTPUT:
        q_h = p_h + (i_seq * H + i_h) * (P * N) + o_PN
        tl.store(q_h, h, mask=ok_PN & (i_span == last))
    else:
        at = i_span.to(tl.int64) * H + i_h
        tl.store(p_part + at * (P * N) + o_PN, h, mask=ok_PN)
        tl.store(p_decay + at + tl.arange(0, 1), log)


@triton.jit
def gradient_kernel(
    p_dy, p_dh, p_size, p_log, p_C, p_resets, p_spans,
    p_g, p_dh0, p_part, p_decay,
    T, H, per_group, splits, SPAN,
    s_yb, s_yt, s_yh, s_yp, s_Cb, s_Ct, s_Cg, s_Cn, s_rb, s_rt,
    P: tl.constexpr, N: tl.constexpr, BP: tl.constexpr, NP: tl.constexpr, Q: tl.constexpr,
    OUTPUT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of the states after each chunk of a span, and of the first state of a sequence;
    without OUTPUT what the span's outputs add to the gradient of its first state, and its decay."""
    i_h = tl.program_id(0) // tl.cdiv(P, BP)
    i_span = tl.program_id(1)
    i_row, i_seq, start, end, first, last, i_chunk = place_of_span(
        p_spans, i_span, T, splits, SPAN, Q
    )
    if not OUTPUT:
        end = tl.where(i_span == first, start, end)
    i_g = i_h // per_group
    p = (tl.program_id(0) % tl.cdiv(P, BP)) * BP + tl.arange(0, BP)
    n = tl.arange(0, NP)
    o = tl.arange(0, Q)
    p_ok = p < P
    n_ok = n < N
    ok_PN = p_ok[:, None] & n_ok[None, :]
    o_PN = p[:, None] * N + n[None, :]
    g = tl.zeros((BP, NP), tl.float32)
    log = tl.zeros((1,), tl.float32)
    if OUTPUT:
        if p_dh is not None:
            q_dh = p_dh + (i_seq * H + i_h) * (P * N) + o_PN
            g = tl.load(q_dh, mask=ok_PN, other=0.0).to(tl.float32)
        if p_part is not None:
            for j in range(0, last - i_span):
                at = (last - j).to(tl.int64) * H + i_h
                part = tl.load(p_part + at * (P * N) + o_PN, mask=ok_PN, other=0.0)
                g = _passed(g, tl.load(p_decay + at)) + part
    chunks = tl.cdiv(end - start, Q)
    for i in range(0, chunks):
        i_c = chunks - 1 - i
        t0 = start + i_c * Q
        t = t0 + o
        if OUTPUT:
            q_g = (p_g + ((i_chunk + i_c) * H + i_h) * (P * N)) + o_PN
            tl.store(q_g, g.to(p_g.dtype.element_ty), mask=ok_PN)
        i_piece, count = pieces(p_resets, i_row, s_rb, s_rt, t, end)
        for k in range(0, count):
            ok = (t < end) & (i_piece == count - 1 - k)
            ok_P = ok[:, None] & p_ok[None, :]
            q_dy = tile(p_dy, i_row, s_yb, t0, s_yt, i_h, s_yh, o, p, s_yp)
            dy = tl.load(q_dy, mask=ok_P, other=0.0)
            q_C = tile(p_C, i_row, s_Cb, t0, s_Ct, i_g, s_Cg, o, n, s_Cn)
            c = tl.load(q_C, mask=ok[:, None] & n_ok[None, :], other=0.0).to(dy.dtype)
            _, coarse, fine = load_sizes(p_size, p_log, (i_row * H + i_h) * T + t0, o, ok)
            since = tl.math.exp2(tl.cumsum(coarse, 0) + tl.cumsum(fine, 0))
            wide = dy.to(tl.float32) * since[:, None]
            total = tl.sum(coarse, axis=0) + tl.sum(fine, axis=0)
            g = g * tl.math.exp2(total)
            g = dot(tl.trans(wide.to(dy.dtype)), c, g, PRECISION)
            log += total
            if p_resets is not None:
                g = tl.where(k < count - 1, 0.0, g)
                log = tl.where(k < count - 1, float("-inf"), log)
    if OUTPUT:
        if p_dh0 is not None:
            q_dh0 = p_dh0 + (i_seq * H + i_h) * (P * N) + o_PN
            tl.store(q_dh0, g, mask=ok_PN & (i_span == first))
    else:
        at = i_span.to(tl.int64) * H + i_h
        tl.store(p_part + at * (P * N) + o_PN, g, mask=ok_PN)
        tl.store(p_decay + at + tl.arange(0, 1), log)


@triton.jit
def _frame(q_dt, q_x, q_B, q_C, q_A, p_ok, n_ok, more):
    """Load what the recurrence takes of one frame."""
    dt = tl.load(q_dt, mask=more, other=0.0).to(tl.float32)
    x = tl.load(q_x, mask=p_ok & more, other=0.0).to(tl.float32)
    b = tl.load(q_B, mask=n_ok & more, other=0.0).to(tl.float32)
    c = tl.load(q_C, mask=n_ok & more, other=0.0).to(tl.float32)
    return dt, x, b, c, tl.load(q_A, mask=more, other=0.0).to(tl.float32) * LOG2E


@triton.jit
def step_kernel(
    p_x, p_dt, p_A, p_B, p_C, p_pool, p_slots, p_D, p_z, p_bias, p_out,
    T, per_group, low, high,
    s_xm, s_xt, s_xh, s_xp, s_dm, s_dt, s_dh, s_zm, s_zt, s_zh, s_zp, s_om, s_ot, s_oh, s_op,
    s_Am, s_At, s_Ah, s_Bm, s_Bt, s_Bg, s_Bn, s_Cm, s_Ct, s_Cg, s_Cn, s_Dh, s_Dp,
    s_Sr, s_Sh, s_Sp, s_Sn, s_sm,
    P: tl.constexpr, N: tl.constexpr, BP: tl.constexpr, NP: tl.constexpr, SOFTPLUS: tl.constexpr,
    BY_STEP: tl.constexpr, MANY: tl.constexpr,
):  # fmt: skip
    """T frames of some channels of one head; the state is read before the first and written after
    the last."""
    i_h = tl.program_id(0) // tl.cdiv(P, BP)
    i_m = tl.program_id(1).to(tl.int64)
    i_g = i_h // per_group
    slot = tl.load(p_slots + i_m * s_sm).to(tl.int64)
    p = (tl.program_id(0) % tl.cdiv(P, BP)) * BP + tl.arange(0, BP)
    n = tl.arange(0, NP)
    p_ok = p < P
    n_ok = n < N
    ok = p_ok[:, None] & n_ok[None, :] & (slot >= 0)
    q_h = p_pool + slot * s_Sr + i_h * s_Sh + p[:, None] * s_Sp + n[None, :] * s_Sn
    h = tl.load(q_h, mask=ok, other=0.0).to(tl.float32)
    q_dt = p_dt + i_m * s_dm + i_h * s_dh
    q_x = p_x + i_m * s_xm + i_h * s_xh + p * s_xp
    q_B = p_B + i_m * s_Bm + i_g * s_Bg + n * s_Bn
    q_C = p_C + i_m * s_Cm + i_g * s_Cg + n * s_Cn
    q_A = p_A + i_m * s_Am + i_h * s_Ah
    q_o = p_out + i_m * s_om + i_h * s_oh + p * s_op
    if p_z is not None:
        q_z = p_z + i_m * s_zm + i_h * s_zh + p * s_zp
    dt, x, b, c, log = _frame(q_dt, q_x, q_B, q_C, q_A, p_ok, n_ok, True)
    for t in range(0, T):
        if MANY:  # the next frame is on its way while this one is computed
            q_dt += s_dt
            q_x += s_xt
            q_B += s_Bt
            q_C += s_Ct
            q_A += s_At
            next_dt, next_x, next_b, next_c, next_log = _frame(
                q_dt, q_x, q_B, q_C, q_A, p_ok, n_ok, t + 1 < T
            )
        if p_bias is not None:
            dt += tl.load(p_bias + i_h).to(tl.float32)
        dt = step_size(dt, low, high, SOFTPLUS)
        if not BY_STEP:
            log *= dt
        h *= tl.math.exp2(log)
        h += (dt * x)[:, None] * b[None, :]
        if not MANY:  # at once, so that it does not wait for the output
            tl.store(q_h, h.to(p_pool.dtype.element_ty), mask=ok)
        y = tl.sum(h * c[None, :], axis=1)
        if p_D is not None:
            y += x * tl.load(p_D + i_h * s_Dh + p * s_Dp, mask=p_ok, other=0.0).to(tl.float32)
        if p_z is not None:
            z = tl.load(q_z, mask=p_ok, other=0.0).to(tl.float32)
            y *= z * sigmoid(z)
        y = tl.where(slot >= 0, y, 0.0)
        tl.store(q_o, y.to(p_out.dtype.element_ty), mask=p_ok)
        if MANY:
            q_o += s_ot
            if p_z is not None:
                q_z += s_zt
            dt = next_dt
            x = next_x
            b = next_b
            c = next_c
            log = next_log
    if MANY:
        tl.store(q_h, h.to(p_pool.dtype.element_ty), mask=ok)
