"""Kernels that make of Mamba-3's inputs what the duality takes, and the way back, in Triton.

Time is cut into chunks. Running angles are sums over time, so each chunk first sums its own steps
(``sums_kernel``), and each program then adds up the chunks before its own: nothing waits for
anything, and the order of the sums is fixed. They are float64: of a float32 sum of thousands of
turns the fraction, which alone counts, would keep few digits.

Pairs of states are turned together, so the even and the odd ones are apart: *_e and *_o. All
tensors are contiguous. Prefixes: p_ pointer, i_ index, o_ offsets.
"""

import triton
import triton.language as tl

from audiomamba.kernels.mamba3.elementary import half_tanh, sigmoid, sin_cos, softplus

__all__ = ["angles_kernel", "sums_kernel", "turn_kernel", "unturn_kernel"]

LOG2E = tl.constexpr(1.4426950408889634)
TWO_PI = tl.constexpr(6.283185307179586)


@triton.jit
def _sizes(p_dt, p_bias, i_b, t, i_h, T, H):
    """Step sizes of one head before and after the softplus, 0 past the end."""
    raw = tl.load(p_dt + (i_b * T + t) * H + i_h, mask=t < T, other=0.0).to(tl.float32)
    if p_bias is not None:
        raw += tl.load(p_bias + i_h).to(tl.float32)
    return raw, tl.where(t < T, softplus(raw), 0.0)


@triton.jit
def _mixes(p_mix, i_b, t, i_h, T, H):
    """Weights of this sample and of the last: of a step size, (BT,) each."""
    mix = tl.load(p_mix + (i_b * T + t) * H + i_h, mask=t < T, other=0.0).to(tl.float32)
    return sigmoid(mix), sigmoid(-mix)


@triton.jit
def _speeds(p_angle, i_b, t, o, T, R: tl.constexpr):
    """Turns a step and unit of step size, (BT, o)."""
    at = (i_b * T + t)[:, None] * R + o[None, :]
    ok = (t < T)[:, None] & (o < R)[None, :]
    return half_tanh(tl.load(p_angle + at, mask=ok, other=0.0).to(tl.float32))


@triton.jit
def _resets(p_resets, i_b, t, T):
    """1 where a sequence starts, (BT,) int32; 0 past the ends."""
    found = tl.load(p_resets + i_b * T + t, mask=(t >= 0) & (t < T), other=0)
    return (found != 0).to(tl.int32)


@triton.jit
def _joined(s1, f1, s2, f2):
    """Sums that begin anew at a flag. By a select, as a product would let NaN pass."""
    return tl.where(f2 != 0, s2, s1 + s2), f1 | f2


@triton.jit
def _from_others(
    p_sums,
    p_cuts,
    p_ends,
    i_first,
    i_last,
    at,
    C,
    o,
    R: tl.constexpr,
    BC: tl.constexpr,
    LATER: tl.constexpr,
):
    """What chunks i_first … i_last - 1 hand to their neighbour, from the nearest cut on, and what
    is at the end of time where there is none; (o,) float64. LATER: they lie after it."""
    j = tl.arange(0, BC)
    near = i_first - 1
    if LATER:
        near = i_last
    if p_cuts is not None:
        for j0 in range(i_first, i_last, BC):
            cut = tl.load(p_cuts + at * C + j0 + j, mask=j0 + j < i_last, other=0)
            if LATER:
                near = tl.minimum(near, tl.min(tl.where(cut != 0, j0 + j, i_last), axis=0))
            else:
                near = tl.maximum(near, tl.max(tl.where(cut != 0, j0 + j, i_first - 1), axis=0))
    uncut = near == i_first - 1
    if LATER:
        uncut = near == i_last
    total = tl.zeros(o.shape, tl.float64)
    if p_ends is not None:
        total += tl.load(p_ends + at * R + o, mask=(o < R) & uncut, other=0.0).to(tl.float64)
    for j0 in range(i_first, i_last, BC):
        c = j0 + j
        counts = (c < i_last) & (c >= near)
        if LATER:
            counts = (c < i_last) & (c <= near)
        q = p_sums + (at * C + c)[:, None] * R + o[None, :]
        total += tl.sum(tl.load(q, mask=counts[:, None] & (o < R)[None, :], other=0.0), axis=0)
    return total


@triton.jit
def sums_kernel(
    p_dt, p_angle, p_bias, p_resets, p_sums, p_cuts, T, H, C,
    R: tl.constexpr, RP: tl.constexpr, BT: tl.constexpr,
):  # fmt: skip
    """Turns that a chunk of a head adds, from its last reset on, and whether it has one."""
    i_c = tl.program_id(0)
    i_h = tl.program_id(1)
    i_b = tl.program_id(2).to(tl.int64)
    t = i_c * BT + tl.arange(0, BT)
    o = tl.arange(0, RP)
    _, dt = _sizes(p_dt, p_bias, i_b, t, i_h, T, H)
    steps = (_speeds(p_angle, i_b, t, o, T, R) * dt[:, None]).to(tl.float64)
    at = (i_b * H + i_h) * C + i_c
    if p_resets is not None:
        started = _resets(p_resets, i_b, t, T)
        last = tl.max(tl.where(started != 0, t, -1), axis=0)
        steps = tl.where((t >= last)[:, None], steps, 0.0)
        tl.store(p_cuts + at, (last >= 0).to(tl.int32))
    total = tl.sum(steps, axis=0)
    tl.store(p_sums + at * R + o, total - tl.floor(total), mask=o < R)


@triton.jit
def turn_kernel(
    p_dt, p_A, p_mix, p_angle, p_B, p_C, p_bias, p_first, p_resets, p_sums, p_cuts,
    p_size, p_log, p_take, p_k, p_q, p_turns, p_last, T, H, C,
    N: tl.constexpr, R: tl.constexpr, NH: tl.constexpr, BT: tl.constexpr, BC: tl.constexpr,
    TAKEN: tl.constexpr,
):  # fmt: skip
    """Keys and queries of a chunk of a head, weights and decays of its steps, and what is to come
    off the output."""
    i_c = tl.program_id(0)
    i_h = tl.program_id(1)
    i_b = tl.program_id(2).to(tl.int64)
    t = i_c * BT + tl.arange(0, BT)
    o = tl.arange(0, NH)
    _, dt = _sizes(p_dt, p_bias, i_b, t, i_h, T, H)
    steps = (_speeds(p_angle, i_b, t, o, T, R) * dt[:, None]).to(tl.float64)
    carry = _from_others(p_sums, p_cuts, p_first, 0, i_c, i_b * H + i_h, C, o, R, BC, False)
    if p_resets is not None:
        started = tl.broadcast_to(_resets(p_resets, i_b, t, T)[:, None], (BT, NH))
        steps, started = tl.associative_scan((steps, started), 0, _joined)
        turns = tl.where(started != 0, steps, steps + carry[None, :])
    else:
        turns = tl.cumsum(steps, 0) + carry[None, :]
    turns = (turns - tl.floor(turns)).to(tl.float32)
    at = ((i_b * T + t) * H + i_h)[:, None]
    ok_R = (t < T)[:, None] & (o < R)[None, :]
    if p_turns is not None:
        tl.store(p_turns + at * R + o[None, :], turns, mask=ok_R)
    q_last = p_last + (i_b * H + i_h) * R + o[None, :] + tl.zeros((BT, 1), tl.int32)
    tl.store(q_last, turns, mask=ok_R & (t == T - 1)[:, None])
    sin, cos = sin_cos(tl.where((o < R)[None, :], turns, 0.0))

    now, _ = _mixes(p_mix, i_b, t, i_h, T, H)
    _, dt_next = _sizes(p_dt, p_bias, i_b, t + 1, i_h, T, H)
    _, before = _mixes(p_mix, i_b, t + 1, i_h, T, H)
    early = tl.where(t + 1 < T, dt_next * before, 0.0)
    if p_resets is not None:
        early = tl.where(_resets(p_resets, i_b, t + 1, T) != 0, 0.0, early)
    at_t = (i_b * T + t) * H + i_h
    rate = softplus(tl.load(p_A + at_t, mask=t < T, other=0.0).to(tl.float32))
    rate = tl.where(rate < 1e-4, 1e-4, rate)
    tl.store(p_log + at_t, -dt * rate, mask=t < T)
    tl.store(p_size + at_t, dt * now + early, mask=t < T)

    n = tl.arange(0, 2 * NH)
    at_N = at * N + n[None, :]
    ok_N = (t < T)[:, None] & (n < N)[None, :]
    k_e, k_o = _turned(p_B, at_N, ok_N, sin, cos, BT, NH)
    k_e, k_o = k_e.to(TAKEN), k_o.to(TAKEN)
    tl.store(p_k + at_N, _whole(k_e, k_o, BT, NH).to(p_k.dtype.element_ty), mask=ok_N)
    q_e, q_o = _turned(p_C, at_N, ok_N, sin, cos, BT, NH)
    q_e, q_o = q_e.to(TAKEN), q_o.to(TAKEN)
    tl.store(p_q + at_N, _whole(q_e, q_o, BT, NH).to(p_q.dtype.element_ty), mask=ok_N)
    seen = tl.sum(
        k_e.to(tl.float32) * q_e.to(tl.float32) + k_o.to(tl.float32) * q_o.to(tl.float32), axis=1
    )
    tl.store(p_take + at_t, early * seen, mask=t < T)


@triton.jit
def _pairs(p, at_N, ok_N, BT: tl.constexpr, NH: tl.constexpr):
    """Even and odd states, (BT, NH) float32 each."""
    x = tl.load(p + at_N, mask=ok_N, other=0.0).to(tl.float32)
    return tl.split(tl.reshape(x, (BT, NH, 2)))


@triton.jit
def _whole(x_e, x_o, BT: tl.constexpr, NH: tl.constexpr):
    return tl.reshape(tl.join(x_e, x_o), (BT, 2 * NH))


@triton.jit
def _turned(p, at_N, ok_N, sin, cos, BT: tl.constexpr, NH: tl.constexpr):
    x_e, x_o = _pairs(p, at_N, ok_N, BT, NH)
    return x_e * cos - x_o * sin, x_e * sin + x_o * cos


@triton.jit
def unturn_kernel(
    p_dk, p_dq, p_dtake, p_dsize, p_k, p_q, p_turns, p_dt, p_mix, p_bias, p_resets,
    p_dB, p_dC, p_dturns, p_dearly, p_sums, p_cuts, T, H, C,
    N: tl.constexpr, R: tl.constexpr, NH: tl.constexpr, BT: tl.constexpr,
):  # fmt: skip
    """Gradients of B and C of a chunk of a head, of what each of its steps turns, and their sum up
    to its first reset, which is what earlier steps turned as well."""
    i_c = tl.program_id(0)
    i_h = tl.program_id(1)
    i_b = tl.program_id(2).to(tl.int64)
    t = i_c * BT + tl.arange(0, BT)
    o = tl.arange(0, NH)
    n = tl.arange(0, 2 * NH)
    at_t = (i_b * T + t) * H + i_h
    at_N = at_t[:, None] * N + n[None, :]
    ok_N = (t < T)[:, None] & (n < N)[None, :]
    at_R = at_t[:, None] * R + o[None, :]
    ok_R = (t < T)[:, None] & (o < R)[None, :]
    k_e, k_o = _pairs(p_k, at_N, ok_N, BT, NH)
    q_e, q_o = _pairs(p_q, at_N, ok_N, BT, NH)
    dk_e, dk_o = _pairs(p_dk, at_N, ok_N, BT, NH)
    dq_e, dq_o = _pairs(p_dq, at_N, ok_N, BT, NH)
    # Of the rounded keys and queries, as the products took those; README.md says why. What is taken
    # off the output depends on no angle, since both are turned alike.
    dturns = (k_e * dk_o - k_o * dk_e + (q_e * dq_o - q_o * dq_e)) * TWO_PI
    dturns = tl.where((o < R)[None, :], dturns, 0.0)
    tl.store(p_dturns + at_R, dturns, mask=ok_R)
    at = (i_b * H + i_h) * C + i_c
    if p_resets is not None:
        started = _resets(p_resets, i_b, t, T)
        first = tl.min(tl.where(started != 0, t, T), axis=0)
        dturns = tl.where((t < first)[:, None], dturns, 0.0)
        tl.store(p_cuts + at, (first < T).to(tl.int32))
    tl.store(p_sums + at * R + o, tl.sum(dturns.to(tl.float64), axis=0), mask=o < R)

    _, dt_next = _sizes(p_dt, p_bias, i_b, t + 1, i_h, T, H)
    _, before = _mixes(p_mix, i_b, t + 1, i_h, T, H)
    early = tl.where(t + 1 < T, dt_next * before, 0.0)
    if p_resets is not None:
        early = tl.where(_resets(p_resets, i_b, t + 1, T) != 0, 0.0, early)
    dtake = tl.load(p_dtake + at_t, mask=t < T, other=0.0)
    dsize = tl.load(p_dsize + at_t, mask=t < T, other=0.0)
    seen = tl.sum(k_e * q_e + k_o * q_o, axis=1)
    tl.store(p_dearly + at_t, dsize + dtake * seen, mask=t < T)
    g = (dtake * early)[:, None]
    dk_e += g * q_e
    dk_o += g * q_o
    dq_e += g * k_e
    dq_o += g * k_o
    turns = tl.load(p_turns + at_R, mask=ok_R, other=0.0)
    sin, cos = sin_cos(turns)
    dB = _whole(dk_e * cos + dk_o * sin, dk_o * cos - dk_e * sin, BT, NH)
    dC = _whole(dq_e * cos + dq_o * sin, dq_o * cos - dq_e * sin, BT, NH)
    tl.store(p_dB + at_N, dB.to(p_dB.dtype.element_ty), mask=ok_N)
    tl.store(p_dC + at_N, dC.to(p_dC.dtype.element_ty), mask=ok_N)


@triton.jit
def angles_kernel(
    p_dturns, p_dlast, p_sums, p_cuts, p_dsize, p_dearly, p_dlog, p_dt, p_A, p_mix, p_angle, p_bias,
    p_resets, p_ddt, p_dA, p_dmix, p_dangle, p_dfirst, T, H, C,
    R: tl.constexpr, RP: tl.constexpr, BT: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Gradients of step sizes, decays, mixes and angles of a chunk, head after head: the angles are
    for all heads."""
    i_c = tl.program_id(0)
    i_b = tl.program_id(1).to(tl.int64)
    t = i_c * BT + tl.arange(0, BT)
    o = tl.arange(0, RP)
    speed = _speeds(p_angle, i_b, t, o, T, R)
    dspeed = tl.zeros((BT, RP), tl.float32)
    for i_h in range(0, H):
        at_t = (i_b * T + t) * H + i_h
        at_R = at_t[:, None] * R + o[None, :]
        ok_R = (t < T)[:, None] & (o < R)[None, :]
        steps = tl.load(p_dturns + at_R, mask=ok_R, other=0.0).to(tl.float64)
        at = i_b * H + i_h
        carry = _from_others(p_sums, p_cuts, p_dlast, i_c + 1, C, at, C, o, R, BC, True)
        if p_resets is not None:
            # A step's turn counts until the next reset.
            inside = (t + 1 < (i_c + 1) * BT).to(tl.int32)
            ends = tl.broadcast_to((_resets(p_resets, i_b, t + 1, T) * inside)[:, None], (BT, RP))
            steps, ends = tl.associative_scan((steps, ends), 0, _joined, reverse=True)
            steps = tl.where(ends != 0, steps, steps + carry[None, :])
        else:
            steps = tl.cumsum(steps, 0, reverse=True) + carry[None, :]
        dsteps = steps.to(tl.float32)
        q_first = p_dfirst + at * R + o[None, :] + tl.zeros((BT, 1), tl.int32)
        to_first = dsteps
        if p_resets is not None:
            to_first = tl.where((_resets(p_resets, i_b, t, T) != 0)[:, None], 0.0, dsteps)
        tl.store(q_first, to_first, mask=ok_R & (t == 0)[:, None])

        raw, dt = _sizes(p_dt, p_bias, i_b, t, i_h, T, H)
        dspeed += dsteps * dt[:, None]
        ddt = tl.sum(dsteps * speed, axis=1)
        now, before = _mixes(p_mix, i_b, t, i_h, T, H)
        dnow = tl.load(p_dsize + at_t, mask=t < T, other=0.0)
        dbefore = tl.load(p_dearly + at_t - H, mask=(t > 0) & (t < T), other=0.0)
        if p_resets is not None:
            dbefore = tl.where(_resets(p_resets, i_b, t, T) != 0, 0.0, dbefore)
        ddt += dnow * now + dbefore * before
        tl.store(p_dmix + at_t, dt * now * before * (dnow - dbefore), mask=t < T)
        A = tl.load(p_A + at_t, mask=t < T, other=0.0).to(tl.float32)
        dlog = tl.load(p_dlog + at_t, mask=t < T, other=0.0)
        rate = softplus(A)
        least = rate < 1e-4
        ddt -= dlog * tl.where(least, 1e-4, rate)
        slope = tl.where(A > 20.0, 1.0, sigmoid(A))
        tl.store(p_dA + at_t, tl.where(least, 0.0, -dlog * dt * slope), mask=t < T)
        slope = tl.where(raw > 20.0, 1.0, sigmoid(raw))
        tl.store(p_ddt + at_t, ddt * slope, mask=t < T)
    at_R = (i_b * T + t)[:, None] * R + o[None, :]
    ok_R = (t < T)[:, None] & (o < R)[None, :]
    # Half a tanh: its slope is half of 1 - tanh².
    tl.store(p_dangle + at_R, dspeed * (0.5 - 2.0 * speed * speed), mask=ok_R)
