"""``conv`` in Triton where time is contiguous, frames are in order and nothing is reset: whole
vectors of memory.

A lane loads eight successive frames of a channel at once, and the blocks of eight before them that
its taps reach, which the lanes beside it load too and the cache has; all are then split in
registers, so that a tap is a register and not a load. The backward also has the blocks after, whose
slopes its gradients need. Any strides and lengths are right; multiples of eight are fast.
"""

import triton
import triton.language as tl

from audiomamba.kernels.approximate import sigmoid
from audiomamba.kernels.conv.weights import load_taps, store_sums

__all__ = ["vectors_backward_kernel", "vectors_kernel"]


@triton.jit
def _split4(x, BD: tl.constexpr, NT: tl.constexpr):
    even, odd = tl.split(tl.reshape(x, (BD, NT, 2, 2)))
    x0, x2 = tl.split(even)
    x1, x3 = tl.split(odd)
    return x0, x1, x2, x3


@triton.jit
def _split(x, BD: tl.constexpr, NT: tl.constexpr):
    """(BD, 8 NT) -> eight of (BD, NT), every eighth frame each."""
    even, odd = tl.split(tl.reshape(x, (BD, NT, 4, 2)))
    e = _split4(even, BD, NT)
    o = _split4(odd, BD, NT)
    return e[0], o[0], e[1], o[1], e[2], o[2], e[3], o[3]


@triton.jit
def _join4(x0, x1, x2, x3, BD: tl.constexpr, NT: tl.constexpr):
    return tl.reshape(tl.join(tl.join(x0, x2), tl.join(x1, x3)), (BD, NT, 4))


@triton.jit
def _join(xs, BD: tl.constexpr, NT: tl.constexpr):
    """The inverse of ``_split``."""
    even = _join4(xs[0], xs[2], xs[4], xs[6], BD, NT)
    odd = _join4(xs[1], xs[3], xs[5], xs[7], BD, NT)
    return tl.reshape(tl.join(even, odd), (BD, NT * 8))


@triton.jit
def _load(
    p_x, h, t, d, T, D, shk, shd,
    K: tl.constexpr, BD: tl.constexpr, NT: tl.constexpr, STATE: tl.constexpr,
):  # fmt: skip
    """Inputs at frames t, (1, 8 NT), split; frames before 0 lie in the state."""
    x = tl.load(p_x + t, mask=(t >= 0) & (t < T) & (d < D), other=0.0).to(tl.float32)
    if STATE:
        early = (t < 0) & (t > -K) & (d < D)
        # One operand is zero wherever the other is loaded.
        x += tl.load(h + (t + (K - 1)) * shk + d * shd, mask=early, other=0.0).to(tl.float32)
    return _split(x, BD, NT)


@triton.jit
def vectors_kernel(
    x, weight, bias, h, y, last,
    T, D, sxb, sxd, swd, swk, shb, shk, shd, syb, syd,
    K: tl.constexpr, KP: tl.constexpr, BD: tl.constexpr, NT: tl.constexpr, BIAS: tl.constexpr,
    STATE: tl.constexpr, SILU: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    """Outputs of BD channels and 8 NT frames of one row; the first tile writes the state."""
    i_b = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * BD + tl.arange(0, BD)[:, None]
    i_t = tl.program_id(2)
    p_x = x + i_b * sxb + d.to(tl.int64) * sxd
    h += i_b * shb
    t = i_t * (NT * 8) + tl.arange(0, NT * 8)[None, :]
    w = load_taps(weight, d, D, swd, swk, K)
    BEFORE: tl.constexpr = (K + 6) // 8 * 8  # frames of the blocks before
    inputs = ()
    for i in tl.static_range(BEFORE // 8):
        before = t + (8 * i - BEFORE)
        inputs = inputs + _load(p_x, h, before, d, T, D, shk, shd, K, BD, NT, STATE)
    inputs = inputs + _load(p_x, h, t, d, T, D, shk, shd, K, BD, NT, False)
    outs = ()
    for j in tl.static_range(8):
        z = tl.zeros((BD, NT), tl.float32)
        if BIAS:
            z += tl.load(bias + d, mask=d < D, other=0.0).to(tl.float32)
        for k in tl.static_range(K):
            z += w[k] * inputs[BEFORE + j - (K - 1) + k]
        if SILU:
            z *= sigmoid(z, FAST)
        outs = outs + (z,)
    p_y = y + i_b * syb + d.to(tl.int64) * syd + t
    outs = _join(outs, BD, NT).to(y.dtype.element_ty)
    tl.store(p_y, outs, mask=(t < T) & (d < D))
    if K > 1:
        if i_t == 0:
            o_k = tl.arange(0, KP)[None, :]
            o_end = T - (K - 1) + o_k
            value = tl.load(p_x + o_end, mask=(o_end >= 0) & (o_k < K - 1) & (d < D), other=0.0)
            value = value.to(last.dtype.element_ty)
            if STATE:
                early = (o_end < 0) & (o_k < K - 1) & (d < D)
                o_h = (o_end + (K - 1)) * shk + d * shd
                value += tl.load(h + o_h, mask=early, other=0.0).to(last.dtype.element_ty)
            p_last = last + i_b * (K - 1) * D + o_k * D + d
            tl.store(p_last, value, mask=(o_k < K - 1) & (d < D))


@triton.jit
def vectors_backward_kernel(
    dy, dlast, x, weight, bias, h, dx, dh, dweight, dbias,
    T, D, splits, tiles_split,
    sgb, sgd, slb, slk, sld, sxb, sxd, swd, swk, shb, shk, shd, sdb, sdd,
    K: tl.constexpr, BD: tl.constexpr, NT: tl.constexpr, BIAS: tl.constexpr, STATE: tl.constexpr,
    LAST: tl.constexpr, SILU: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    """Gradients of BD channels over ``tiles_split`` tiles of time of one row.

    Sums over time stay in registers until the end, one partial a program: (B * splits, D, K).
    """
    i_b = tl.program_id(0).to(tl.int64)
    i_d = tl.program_id(1)
    i_s = tl.program_id(2)
    d = i_d * BD + tl.arange(0, BD)[:, None]
    p_dy = dy + i_b * sgb + d.to(tl.int64) * sgd
    p_x = x + i_b * sxb + d.to(tl.int64) * sxd
    p_dx = dx + i_b * sdb + d.to(tl.int64) * sdd
    h += i_b * shb
    dlast += i_b * slb
    w = load_taps(weight, d, D, swd, swk, K)
    dw = ()
    for _ in tl.static_range(K):
        dw = dw + (tl.zeros((BD, NT), tl.float32),)
    db = tl.zeros((BD, NT), tl.float32)
    bias_d = tl.zeros((BD, 1), tl.float32)
    if BIAS:
        bias_d += tl.load(bias + d, mask=d < D, other=0.0).to(tl.float32)

    BEFORE: tl.constexpr = (K + 6) // 8 * 8  # frames of the blocks before, and of those after
    first = i_s * tiles_split
    if STATE:  # the state's gradient lies before frame 0
        if i_s == 0:
            first -= 1
    for i_t in range(first, (i_s + 1) * tiles_split):
        t = i_t * (NT * 8) + tl.arange(0, NT * 8)[None, :]
        inputs = ()
        dys = ()
        for i in tl.static_range(BEFORE // 8 + 1):
            before = t + (8 * i - BEFORE)
            inputs = inputs + _load(p_x, h, before, d, T, D, shk, shd, K, BD, NT, STATE)
            dys = dys + _load(p_dy, h, t + 8 * i, d, T, D, shk, shd, K, BD, NT, False)
        if SILU:  # the slope at the frames after
            for i in tl.static_range(BEFORE // 8):
                after = t + 8 * (i + 1)
                inputs = inputs + _load(p_x, h, after, d, T, D, shk, shd, K, BD, NT, STATE)
        dz = ()
        for i in tl.static_range(8 + K - 1):
            g = dys[i]
            if SILU:
                z = tl.zeros((BD, NT), tl.float32) + bias_d
                for k in tl.static_range(K):
                    z += w[k] * inputs[BEFORE + i - (K - 1) + k]
                s = sigmoid(z, FAST)
                g *= s * (1.0 + z * (1.0 - s))
            dz = dz + (g,)
        sums = ()
        for k in tl.static_range(K):
            total = dw[k]
            for j in tl.static_range(8):
                total += dz[j] * inputs[BEFORE + j - (K - 1) + k]
            sums = sums + (total,)
        dw = sums
        gradients = ()
        for j in tl.static_range(8):
            db += dz[j]
            g = tl.zeros((BD, NT), tl.float32)
            for k in tl.static_range(K):
                g += w[k] * dz[j + K - 1 - k]
            gradients = gradients + (g,)
        g = _join(gradients, BD, NT)
        if LAST:
            o_k = t - (T - (K - 1))
            kept = (o_k >= 0) & (o_k < K - 1) & (d < D)
            g += tl.load(dlast + o_k * slk + d * sld, mask=kept, other=0.0).to(tl.float32)
        tl.store(p_dx + t, g.to(dx.dtype.element_ty), mask=(t >= 0) & (t < T) & (d < D))
        if STATE:
            o_k = t + (K - 1)
            p_dh = dh + i_b * (K - 1) * D + o_k * D + d
            tl.store(p_dh, g.to(dh.dtype.element_ty), mask=(t < 0) & (o_k >= 0) & (d < D))
    store_sums(dweight, dbias, dw, db, (i_b * splits + i_s) * D, i_d, D, K, BD, BIAS)
