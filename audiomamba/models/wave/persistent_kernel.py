"""Many samples of a waveform model in one launch: a program a stream, from sample to sample.

A step of a small model is some hundred kernels that are over in microseconds; launched one by one,
even out of a graph, they take longer to begin than to run. Here a stream's program walks through
the whole network itself, sample after sample, its states in memory that the processor's cache
holds. All is float32 but the products' matrices, which are read as they are stored.

For three rates, as the shipped models have: ``W`` wide, ``D`` channels, ``S`` states, ``N`` the
rank of a selective step size. ``persistent.Persistent`` says where things lie in the buffers.
"""

import triton
import triton.language as tl

__all__ = ["draw_kernel"]


@triton.jit
def _matvec(p, x, scratch, R, C, RP: tl.constexpr, CP: tl.constexpr, MOST: tl.constexpr):
    """M x of a matrix (R, C) that lies row by row; x (CP,) is zero from C on. A program holds
    MOST numbers of it at a time."""
    r = tl.arange(0, RP)[:, None]
    if RP * CP <= MOST:
        c = tl.arange(0, CP)[None, :]
        m = tl.load(p + r * C + c, mask=(r < R) & (c < C), other=0.0).to(tl.float32)
        return tl.sum(m * x[None, :], axis=1)
    else:
        # In pieces of columns; of x they are had by way of memory.
        CB: tl.constexpr = MOST // RP
        c = tl.arange(0, CB)[None, :]
        tl.debug_barrier()
        tl.store(scratch + tl.arange(0, CP), x)
        tl.debug_barrier()
        total = tl.zeros((RP, CB), tl.float32)
        for at in range(0, C, CB):
            inside = (r < R) & (at + c < C)
            piece = tl.load(p + r * C + at + c, mask=inside, other=0.0).to(tl.float32)
            total += piece * tl.load(scratch + at + c)
        return tl.sum(total, axis=1)


@triton.jit
def _silu(x):
    return x / (1.0 + tl.exp(-x))


@triton.jit
def _normed(x, p, gain, eps, W, WP: tl.constexpr, GAINS: tl.constexpr):
    w = tl.arange(0, WP)
    y = x * tl.rsqrt(tl.sum(x * x, axis=0) / W + eps) * tl.load(p + w, mask=w < W, other=0.0)
    if GAINS:
        y *= 1.0 + tl.load(gain + w, mask=w < W, other=0.0)
    return y


@triton.jit
def _convolved(u, f, state, D, DP: tl.constexpr, K: tl.constexpr):
    """silu of taps (K, D) over the last K - 1 inputs and u, plus a bias behind the taps."""
    d = tl.arange(0, DP)
    inside = d < D
    total = tl.load(f + K * D + d, mask=inside, other=0.0)
    total += u * tl.load(f + (K - 1) * D + d, mask=inside, other=0.0)
    moved = ()
    for k in tl.static_range(K - 1):
        value = tl.load(state + k * D + d, mask=inside, other=0.0)
        total += value * tl.load(f + k * D + d, mask=inside, other=0.0)
        moved = moved + (value,)
    tl.debug_barrier()  # a value may be loaded by several threads and is stored by one
    for k in tl.static_range(K - 2):
        tl.store(state + k * D + d, moved[k + 1], mask=inside)
    tl.store(state + (K - 2) * D + d, u, mask=inside)
    return _silu(total)


@triton.jit
def _time_invariant(u, f, state, D, S, DP: tl.constexpr, SP: tl.constexpr):
    """States (2, D, S), of each pair its real and imaginary part; Ā, then 2 C B̄, then D."""
    d = tl.arange(0, DP)
    n = tl.arange(0, SP)[None, :]
    inside = (d[:, None] < D) & (n < S)
    at = d[:, None] * S + n
    part = D * S
    hr = tl.load(state + at, mask=inside, other=0.0)
    hi = tl.load(state + part + at, mask=inside, other=0.0)
    ar = tl.load(f + at, mask=inside, other=0.0)
    ai = tl.load(f + part + at, mask=inside, other=0.0)
    nr = ar * hr - ai * hi + u[:, None]
    ni = ar * hi + ai * hr
    tl.debug_barrier()
    tl.store(state + at, nr, mask=inside)
    tl.store(state + part + at, ni, mask=inside)
    cr = tl.load(f + 2 * part + at, mask=inside, other=0.0)
    ci = tl.load(f + 3 * part + at, mask=inside, other=0.0)
    skip = tl.load(f + 4 * part + d, mask=d < D, other=0.0)
    return tl.sum(cr * nr - ci * ni, axis=1) + skip * u


@triton.jit
def _selective(
    u, m, f, state, scratch, D, S, N, DP: tl.constexpr, SP: tl.constexpr, NP: tl.constexpr,
    MOST: tl.constexpr,
):  # fmt: skip
    """States (D, S). Matrices: to the step size's N numbers, to B, to C, from the N numbers to the
    step size; then A, the step size's bias, D."""
    d = tl.arange(0, DP)
    n = tl.arange(0, SP)[None, :]
    inside = (d[:, None] < D) & (n < S)
    at = d[:, None] * S + n
    low = _matvec(m, u, scratch, N, D, NP, DP, MOST)
    b = _matvec(m + N * D, u, scratch, S, D, SP, DP, MOST)
    c = _matvec(m + (N + S) * D, u, scratch, S, D, SP, DP, MOST)
    x = _matvec(m + (N + 2 * S) * D, low, scratch, D, N, DP, NP, MOST)
    x += tl.load(f + D * S + d, mask=d < D, other=0.0)
    dt = tl.where(x > 20.0, x, tl.log(1.0 + tl.exp(tl.minimum(x, 20.0))))
    a = tl.load(f + at, mask=inside, other=0.0)
    h = tl.load(state + at, mask=inside, other=0.0)
    h = tl.exp(dt[:, None] * a) * h + (dt * u)[:, None] * b[None, :]
    tl.debug_barrier()
    tl.store(state + at, h, mask=inside)
    return tl.sum(h * c[None, :], axis=1) + u * tl.load(f + D * S + D + d, mask=d < D, other=0.0)


@triton.jit
def _blocks(
    x, r, m, f, s, gain, scratch, eps, shape, PADS: tl.constexpr, K: tl.constexpr,
    GAINS: tl.constexpr, MOST: tl.constexpr,
):  # fmt: skip
    """Blocks of one rate on one side: x is what the last part adds to the stream r."""
    W, D, S, N, m_each, f_each, s_each = shape
    WP: tl.constexpr = PADS[0]
    DP: tl.constexpr = PADS[1]
    SP: tl.constexpr = PADS[2]
    NP: tl.constexpr = PADS[3]
    LTI: tl.constexpr = PADS[4]
    COUNT: tl.constexpr = PADS[5]
    for _ in range(COUNT):
        r += x
        y = _normed(r, f, gain, eps, W, WP, GAINS)
        u = _matvec(m, y, scratch, D, W, DP, WP, MOST)
        z = _matvec(m + D * W, y, scratch, D, W, DP, WP, MOST)
        u = _convolved(u, f + W, s, D, DP, K)
        own = f + W + (K + 1) * D
        if LTI:
            y = _time_invariant(u, own, s + (K - 1) * D, D, S, DP, SP)
        else:
            y = _selective(
                u, m + 3 * D * W, own, s + (K - 1) * D, scratch, D, S, N, DP, SP, NP, MOST
            )
        x = _matvec(m + 2 * D * W, y * _silu(z), scratch, W, D, WP, DP, MOST)
        m += m_each
        f += f_each
        s += s_each
        gain += W
    return x, r


@triton.jit
def _chosen(logits, u, temperature, top_p, NUCLEUS: tl.constexpr, GREEDY: tl.constexpr):
    """A class drawn by a number in [0, 1), as ``torch_engine.choose`` does."""
    if GREEDY:
        return tl.argmax(logits, axis=0).to(tl.int32)
    logits = logits / temperature
    weights = tl.exp(logits - tl.max(logits, axis=0))
    weights = weights / tl.sum(weights, axis=0)
    if NUCLEUS:
        ordered = tl.sort(weights, descending=True)
        held = tl.cumsum(ordered, axis=0)
        inside = held - ordered < top_p * tl.max(held, axis=0)
        least = tl.min(tl.where(inside, ordered, 2.0), axis=0)
        weights = tl.where(weights >= least, weights, 0.0)
    below = tl.cumsum(weights.to(tl.float64), axis=0)
    drawn = tl.sum((below <= u.to(tl.float64) * tl.max(below, axis=0)).to(tl.int32), axis=0)
    return tl.minimum(drawn, 255)


@triton.jit(do_not_specialize=["samples", "position", "streams"])
def draw_kernel(
    codes, drawn, chance, state, condition, scratch, matrices, floats, samples, position, streams,
    temperature, top_p, guidance, eps, s_state, s_condition, s_scratch, shape0, shape1, shape2,
    m_at, f_at, s_at, g_at,
    P0: tl.constexpr, P1: tl.constexpr, GP0: tl.constexpr, GP1: tl.constexpr, PADS0: tl.constexpr,
    PADS1: tl.constexpr, PADS2: tl.constexpr, K: tl.constexpr, GAINS: tl.constexpr,
    HALVES: tl.constexpr, NUCLEUS: tl.constexpr, GREEDY: tl.constexpr, MOST: tl.constexpr,
):  # fmt: skip
    """``samples`` of one stream, or of one that is asked and one that is not, in turn."""
    i = tl.program_id(0)
    W0 = shape0[0]
    W1 = shape1[0]
    W2 = shape2[0]
    m_down0, m_down1, m_down2, m_up1, m_up0, m_shrink0, m_grow0, m_shrink1, m_grow1, m_head = m_at
    f_down0, f_down1, f_down2, f_up1, f_up0, f_shrink0, f_grow0, f_shrink1, f_grow1 = f_at[:9]
    f_norm, f_head, f_embedding = f_at[9:]
    s_down0, s_wait0, s_ahead0, s_down1, s_wait1, s_ahead1, s_down2, s_up1, s_up0 = s_at
    g_down0, g_down1, g_down2, g_up1, g_up0 = g_at
    w0 = tl.arange(0, PADS0[0])
    w1 = tl.arange(0, PADS1[0])
    w2 = tl.arange(0, PADS2[0])
    j0 = tl.arange(0, GP0)  # all frames of a group of the samples' rate, side by side
    j1 = tl.arange(0, GP1)
    classes = tl.arange(0, 256)
    own = scratch + i.to(tl.int64) * s_scratch
    code = tl.load(codes + i).to(tl.int32)
    for t in range(samples):
        place = position + t
        phase0 = place % P0
        phase1 = (place // P0) % P1
        mixed = tl.zeros((256,), tl.float32)
        for half in range(HALVES):
            row = (i + half * streams).to(tl.int64)
            s = state + row * s_state
            g = condition + row * s_condition
            x = tl.load(floats + f_embedding + code * W0 + w0, mask=w0 < W0, other=0.0)
            if GAINS:
                x += tl.load(g + w0, mask=w0 < W0, other=0.0)
            x, r = _blocks(
                x, tl.zeros_like(x), matrices + m_down0, floats + f_down0, s + s_down0,
                g + g_down0, own, eps, shape0, PADS0, K, GAINS, MOST,
            )  # fmt: skip
            r += x
            tl.store(s + s_wait0 + phase0 * W0 + w0, r, mask=w0 < W0)
            up = tl.load(s + s_ahead0 + phase0 * W0 + w0, mask=w0 < W0, other=0.0)
            if phase0 == P0 - 1:
                tl.debug_barrier()  # other threads read what these have written
                group = tl.load(s + s_wait0 + j0, mask=j0 < P0 * W0, other=0.0)
                x1 = _matvec(matrices + m_shrink0, group, own, W1, P0 * W0, PADS1[0], GP0, MOST)
                x1 += tl.load(floats + f_shrink0 + w1, mask=w1 < W1, other=0.0)
                x1, r1 = _blocks(
                    x1, tl.zeros_like(x1), matrices + m_down1, floats + f_down1, s + s_down1,
                    g + g_down1, own, eps, shape1, PADS1, K, GAINS, MOST,
                )  # fmt: skip
                r1 += x1
                tl.store(s + s_wait1 + phase1 * W1 + w1, r1, mask=w1 < W1)
                up1 = tl.load(s + s_ahead1 + phase1 * W1 + w1, mask=w1 < W1, other=0.0)
                if phase1 == P1 - 1:
                    tl.debug_barrier()
                    group1 = tl.load(s + s_wait1 + j1, mask=j1 < P1 * W1, other=0.0)
                    x2 = _matvec(
                        matrices + m_shrink1, group1, own, W2, P1 * W1, PADS2[0], GP1, MOST
                    )
                    x2 += tl.load(floats + f_shrink1 + w2, mask=w2 < W2, other=0.0)
                    x2, r2 = _blocks(
                        x2, tl.zeros_like(x2), matrices + m_down2, floats + f_down2, s + s_down2,
                        g + g_down2, own, eps, shape2, PADS2, K, GAINS, MOST,
                    )  # fmt: skip
                    ahead1 = _matvec(
                        matrices + m_grow1, r2 + x2, own, P1 * W1, W2, GP1, PADS2[0], MOST
                    )
                    ahead1 += tl.load(floats + f_grow1 + j1, mask=j1 < P1 * W1, other=0.0)
                    tl.store(s + s_ahead1 + j1, ahead1, mask=j1 < P1 * W1)
                x1, r1 = _blocks(
                    up1, r1, matrices + m_up1, floats + f_up1, s + s_up1, g + g_up1, own, eps,
                    shape1, PADS1, K, GAINS, MOST,
                )  # fmt: skip
                ahead0 = _matvec(matrices + m_grow0, r1 + x1, own, P0 * W0, W1, GP0, PADS1[0], MOST)
                ahead0 += tl.load(floats + f_grow0 + j0, mask=j0 < P0 * W0, other=0.0)
                tl.store(s + s_ahead0 + j0, ahead0, mask=j0 < P0 * W0)
            x, r = _blocks(
                up, r, matrices + m_up0, floats + f_up0, s + s_up0, g + g_up0, own, eps, shape0,
                PADS0, K, GAINS, MOST,
            )  # fmt: skip
            y = _normed(r + x, floats + f_norm, g, eps, W0, PADS0[0], False)
            logits = _matvec(matrices + m_head, y, own, 256, W0, 256, PADS0[0], MOST)
            logits += tl.load(floats + f_head + classes)
            if HALVES == 2:
                mixed += logits * tl.where(half == 0, guidance, 1.0 - guidance)
            else:
                mixed = logits
        u = tl.load(chance + i.to(tl.int64) * samples + t)
        code = _chosen(mixed, u, temperature, top_p, NUCLEUS, GREEDY)
        tl.store(drawn + i.to(tl.int64) * samples + t, code.to(tl.uint8))
        tl.debug_barrier()
