"""``lti`` in chunks of frames on tensor cores, for bfloat16 inputs: every sum over time a product.

A program has one channel of some rows and owns whole sequences of them, or all. With L frames a
chunk, inputs U (chunks, L), states H (chunks, N) before each chunk, and powers of Ā up to L:

    Y = U K + Re(H G)        K[j, i] = k_{i-j}, i >= j;  G[n, i] = 2 C Ā^{i+1}
    H_{c+1} = Ā^L H_c + U_c S        S[j, n] = B̄ Ā^{L-1-j}

The sum over chunks is a scan of a few. Inputs are bfloat16 and exact; K, G, S and H are float32
and enter as sums of two or three bfloat16, so that a product loses 2^-17 or 2^-25 of it.
Everything in the backward is a product again: README.md has the derivation.

Source: the chunkwise form of linear recurrences (Dao and Gu, "Transformers are SSMs", 2024, section
6), here for a kernel that time does not change.
"""

import triton
import triton.language as tl

from audiomamba.kernels import dispatch

__all__ = ["backward_kernel", "forward_kernel", "parameters_kernel", "powers_kernel"]

INTERPRETED = tl.constexpr(dispatch.INTERPRETED)


@triton.jit
def _dot(x, y, total):
    """total + x y of bfloat16, whose bits Triton's interpreter would multiply as integers."""
    if INTERPRETED:
        x = x.to(tl.float32)
        y = y.to(tl.float32)
    return tl.dot(x, y, total)


@triton.jit
def _two(x):
    """A float32 as a sum of two bfloat16."""
    high = x.to(tl.bfloat16)
    return high, (x - high.to(tl.float32)).to(tl.bfloat16)


@triton.jit
def _three(x):
    """A float32 as a sum of three bfloat16."""
    high = x.to(tl.bfloat16)
    rest = x - high.to(tl.float32)
    middle, low = _two(rest)
    return high, middle, low


@triton.jit
def _times_two(x, high, low, total):
    """total + x (high + low), x in bfloat16."""
    return _dot(x, high, _dot(x, low, total))


@triton.jit
def _times_three(x, high, middle, low, total):
    """total + x (high + middle + low), x in bfloat16."""
    return _dot(x, high, _dot(x, middle, _dot(x, low, total)))


@triton.jit
def _split_product(x, high, low, total):
    """total + x (high + low), x in float32."""
    first, rest = _two(x)
    return _dot(first, high, _dot(first, low, _dot(rest, high, total)))


@triton.jit
def _from_split(x, y, total):
    """total + x y, x in bfloat16, y in float32."""
    high, low = _two(y)
    return _times_two(x, high, low, total)


@triton.jit
def _follow(ar, ai, xr, xi, br, bi, yr, yi):
    """One after the other: x turned by b, and y."""
    return ar * br - ai * bi, ar * bi + ai * br, br * xr - bi * xi + yr, br * xi + bi * xr + yi


@triton.jit
def _turned(xr, xi, ar, ai):
    return xr * ar - xi * ai, xr * ai + xi * ar


@triton.jit
def _system(a, b, c, d, n, N):
    """B̄, Ā and 2 C of a channel, real and imaginary parts, in float32."""
    inside = n < N
    o = (d * N + n) * 2
    ar = tl.load(a + o, mask=inside, other=0.0).to(tl.float32)
    ai = tl.load(a + o + 1, mask=inside, other=0.0).to(tl.float32)
    br = tl.load(b + o, mask=inside, other=0.0)
    bi = tl.load(b + o + 1, mask=inside, other=0.0)
    cr = 2.0 * tl.load(c + o, mask=inside, other=0.0)
    ci = 2.0 * tl.load(c + o + 1, mask=inside, other=0.0)
    return br, bi, ar, ai, cr, ci


@triton.jit
def _states(
    xr, xi, nr, ni, er, ei, first_row,
    BB: tl.constexpr, CB: tl.constexpr, NP: tl.constexpr, REVERSE: tl.constexpr,
):  # fmt: skip
    """States of each chunk from what each adds (BB CB, NP) and what enters, (BB, NP), at a row."""
    xr = tl.reshape(xr, (BB, CB, NP)) + tl.where(first_row, nr[:, None, :], 0.0)
    xi = tl.reshape(xi, (BB, CB, NP)) + tl.where(first_row, ni[:, None, :], 0.0)
    zeros = tl.zeros((BB, CB, NP), tl.float32)
    _, _, xr, xi = tl.associative_scan(
        (zeros + er[None, None, :], zeros + ei[None, None, :], xr, xi), 1, _follow, reverse=REVERSE
    )
    return xr, xi


@triton.jit
def powers_kernel(
    a, b, c, skip, table, ends, taps, D, N, rest,
    L: tl.constexpr, BITS: tl.constexpr, NP: tl.constexpr, SKIP: tl.constexpr,
):  # fmt: skip
    """Of one channel: powers of Ā below L; to the L and to the rest; the impulse response."""
    d = tl.program_id(0).to(tl.int64)
    n = tl.arange(0, NP)
    l = tl.arange(0, L)  # noqa: E741
    inside = n < N
    o = (d * N + n) * 2
    wr = tl.load(a + o, mask=inside, other=0.0)
    wi = tl.load(a + o + 1, mask=inside, other=0.0)
    br = tl.load(b + o, mask=inside, other=0.0).to(tl.float64)
    bi = tl.load(b + o + 1, mask=inside, other=0.0).to(tl.float64)
    cr = tl.load(c + o, mask=inside, other=0.0).to(tl.float64)
    ci = tl.load(c + o + 1, mask=inside, other=0.0).to(tl.float64)
    pr = tl.full((L, NP), 1.0, tl.float64)
    pi = tl.zeros((L, NP), tl.float64)
    tr = tl.full((NP,), 1.0, tl.float64)
    ti = tl.zeros((NP,), tl.float64)
    for k in tl.static_range(BITS):
        bit = (((l >> k) & 1) == 1)[:, None]
        qr, qi = _turned(pr, pi, wr[None, :], wi[None, :])
        pr = tl.where(bit, qr, pr)
        pi = tl.where(bit, qi, pi)
        qr, qi = _turned(tr, ti, wr, wi)
        taken = ((rest >> k) & 1) == 1
        tr = tl.where(taken, qr, tr)
        ti = tl.where(taken, qi, ti)
        wr, wi = wr * wr - wi * wi, 2.0 * wr * wi
    tr = tl.where(rest == L, wr, tr)
    ti = tl.where(rest == L, wi, ti)
    p_table = table + d * (2 * L * NP) + l[:, None] * NP + n[None, :]
    tl.store(p_table, pr.to(tl.float32))
    tl.store(p_table + L * NP, pi.to(tl.float32))
    p_ends = ends + d * (4 * NP) + n
    tl.store(p_ends, wr.to(tl.float32))
    tl.store(p_ends + NP, wi.to(tl.float32))
    tl.store(p_ends + 2 * NP, tr.to(tl.float32))
    tl.store(p_ends + 3 * NP, ti.to(tl.float32))
    gr, gi = _turned(br, bi, cr, ci)
    k = 2.0 * tl.sum(gr[None, :] * pr - gi[None, :] * pi, axis=1)
    if SKIP:
        k += tl.where(l == 0, tl.load(skip + d).to(tl.float64), 0.0)
    tl.store(taps + d * L + l, k.to(tl.float32))


@triton.jit
def forward_kernel(
    u, table, ends, taps, a, b, c, first, y, last, starts,
    B, T, D, N, groups, blocks, sub, sut, sud, syb, syt, syd,
    L: tl.constexpr, NP: tl.constexpr, BB: tl.constexpr, CB: tl.constexpr, FIRST: tl.constexpr,
):  # fmt: skip
    """Outputs, last states and states before each block of CB chunks of ``groups`` x BB rows."""
    d = (tl.program_id(0) % D).to(tl.int64)
    split = tl.program_id(0) // D
    n = tl.arange(0, NP)
    l = tl.arange(0, L)  # noqa: E741
    row = tl.arange(0, BB * CB)
    chunk = row % CB
    own = tl.arange(0, BB)
    place = tl.arange(0, CB)[None, :, None]
    inside = n < N
    br, bi, ar, ai, cr, ci = _system(a, b, c, d, n, N)
    cr, ci = _turned(cr, ci, ar, ai)
    er = tl.load(ends + d * (4 * NP) + n)
    ei = tl.load(ends + d * (4 * NP) + NP + n)
    p_table = table + d * (2 * L * NP)
    back = (L - 1 - l)[:, None] * NP + n[None, :]
    sr, si = _turned(tl.load(p_table + back), tl.load(p_table + L * NP + back), br, bi)
    sr0, sr1, sr2 = _three(sr)
    si0, si1, si2 = _three(si)
    across = l[None, :] * NP + n[:, None]
    gr, gi = _turned(
        tl.load(p_table + across), tl.load(p_table + L * NP + across), cr[:, None], ci[:, None]
    )
    gr0, gr1 = _two(gr)
    gi0, gi1 = _two(-gi)
    lag = l[None, :] - l[:, None]
    k0, k1 = _two(tl.load(taps + d * L + lag, mask=lag >= 0, other=0.0))
    nothing = tl.zeros((BB * CB, NP), tl.float32)
    chunks = (T + L - 1) // L
    rest = T - (chunks - 1) * L

    for group in range(groups):
        start = (split * groups + group) * BB
        r = start + row // CB
        p_u = u + r.to(tl.int64)[:, None] * sub + d * sud
        p_y = y + r.to(tl.int64)[:, None] * syb + d * syd
        mine = (start + own < B)[:, None] & inside[None, :]
        p_state = ((start + own).to(tl.int64)[:, None] * D + d) * N * 2 + n[None, :] * 2
        nr = tl.zeros((BB, NP), tl.float32)
        ni = tl.zeros((BB, NP), tl.float32)
        if FIRST:
            nr += tl.load(first + p_state, mask=mine, other=0.0)
            ni += tl.load(first + p_state + 1, mask=mine, other=0.0)
        zr = tl.zeros((BB, NP), tl.float32)
        zi = tl.zeros((BB, NP), tl.float32)
        for block in range(blocks):
            t = ((block * CB + chunk) * L)[:, None] + l[None, :]
            here = (r < B)[:, None] & (t < T)
            now = tl.load(p_u + t.to(tl.int64) * sut, mask=here, other=0.0)
            earlier = (r < B)[:, None] & (t >= L) & (t - L < T)
            before = tl.load(p_u + (t - L).to(tl.int64) * sut, mask=earlier, other=0.0)
            xr = _times_three(before, sr0, sr1, sr2, nothing)
            xi = _times_three(before, si0, si1, si2, nothing)
            hr, hi = _states(xr, xi, nr, ni, er, ei, place == 0, BB, CB, NP, False)
            is_last = place == chunks - 1 - block * CB
            zr += tl.sum(tl.where(is_last, hr, 0.0), axis=1)
            zi += tl.sum(tl.where(is_last, hi, 0.0), axis=1)
            if block + 1 < blocks:
                nr = tl.sum(tl.where(place == CB - 1, hr, 0.0), axis=1)
                ni = tl.sum(tl.where(place == CB - 1, hi, 0.0), axis=1)
                nr, ni = _turned(nr, ni, er[None, :], ei[None, :])
                at = ((start + own).to(tl.int64)[:, None] * D + d) * (blocks - 1) + block
                p_start = starts + (at * N + n[None, :]) * 2
                tl.store(p_start, nr, mask=mine)
                tl.store(p_start + 1, ni, mask=mine)
            out = _times_two(now, k0, k1, tl.zeros((BB * CB, L), tl.float32))
            out = _split_product(tl.reshape(hr, (BB * CB, NP)), gr0, gr1, out)
            out = _split_product(tl.reshape(hi, (BB * CB, NP)), gi0, gi1, out)
            tl.store(p_y + t.to(tl.int64) * syt, out.to(y.dtype.element_ty), mask=here)
        # The rest of the last chunk: its first frame is as far from the end as its length says.
        ahead = (rest - 1 - l)[:, None]
        some = (ahead >= 0) & inside[None, :]
        pr = tl.load(p_table + ahead * NP + n[None, :], mask=some, other=0.0)
        pi = tl.load(p_table + L * NP + ahead * NP + n[None, :], mask=some, other=0.0)
        pr, pi = _turned(pr, pi, br, bi)
        t = (chunks - 1) * L + l[None, :] + tl.zeros((BB * CB, L), tl.int32)
        here = ((r < B) & (chunk == 0))[:, None] & (t < T)
        now = tl.load(p_u + t.to(tl.int64) * sut, mask=here, other=0.0)
        pr0, pr1, pr2 = _three(pr)
        pi0, pi1, pi2 = _three(pi)
        xr = tl.sum(tl.reshape(_times_three(now, pr0, pr1, pr2, nothing), (BB, CB, NP)), axis=1)
        xi = tl.sum(tl.reshape(_times_three(now, pi0, pi1, pi2, nothing), (BB, CB, NP)), axis=1)
        tr = tl.load(ends + d * (4 * NP) + 2 * NP + n)
        ti = tl.load(ends + d * (4 * NP) + 3 * NP + n)
        zr, zi = _turned(zr, zi, tr[None, :], ti[None, :])
        tl.store(last + p_state, zr + xr, mask=mine)
        tl.store(last + p_state + 1, zi + xi, mask=mine)


@triton.jit
def backward_kernel(
    dy, u, table, ends, taps, a, b, c, first, starts, du, dfirst, pairs, outers, turns,
    B, T, D, N, groups, blocks, sgb, sgt, sgd, sub, sut, sud, sdb, sdt, sdd,
    L: tl.constexpr, NP: tl.constexpr, BB: tl.constexpr, CB: tl.constexpr, FIRST: tl.constexpr,
):  # fmt: skip
    """The inputs' gradient, and a channel's sums of products that its parameters' come from."""
    d = (tl.program_id(0) % D).to(tl.int64)
    split = tl.program_id(0) // D
    n = tl.arange(0, NP)
    l = tl.arange(0, L)  # noqa: E741
    row = tl.arange(0, BB * CB)
    chunk = row % CB
    own = tl.arange(0, BB)
    place = tl.arange(0, CB)[None, :, None]
    inside = n < N
    br, bi, ar, ai, cr, ci = _system(a, b, c, d, n, N)
    cr, ci = _turned(cr, ci, ar, ai)
    er = tl.load(ends + d * (4 * NP) + n)
    ei = tl.load(ends + d * (4 * NP) + NP + n)
    p_table = table + d * (2 * L * NP)
    back = (L - 1 - l)[:, None] * NP + n[None, :]
    sr, si = _turned(tl.load(p_table + back), tl.load(p_table + L * NP + back), br, bi)
    sr0, sr1 = _two(sr)
    si0, si1 = _two(si)
    along = l[:, None] * NP + n[None, :]
    gr, gi = _turned(tl.load(p_table + along), tl.load(p_table + L * NP + along), cr, ci)
    gr0, gr1 = _two(gr)
    gi0, gi1 = _two(-gi)
    lag = l[:, None] - l[None, :]
    k0, k1 = _two(tl.load(taps + d * L + lag, mask=lag >= 0, other=0.0))
    pair = tl.zeros((L, L), tl.float32)
    ogr = tl.zeros((L, NP), tl.float32)
    ogi = tl.zeros((L, NP), tl.float32)
    osr = tl.zeros((L, NP), tl.float32)
    osi = tl.zeros((L, NP), tl.float32)
    wr = tl.zeros((NP,), tl.float32)
    wi = tl.zeros((NP,), tl.float32)
    nothing = tl.zeros((BB * CB, NP), tl.float32)

    for group in range(groups):
        start = (split * groups + group) * BB
        r = start + row // CB
        p_u = u + r.to(tl.int64)[:, None] * sub + d * sud
        p_g = dy + r.to(tl.int64)[:, None] * sgb + d * sgd
        p_d = du + r.to(tl.int64)[:, None] * sdb + d * sdd
        mine = (start + own < B)[:, None] & inside[None, :]
        p_state = ((start + own).to(tl.int64)[:, None] * D + d) * N * 2 + n[None, :] * 2
        lr = tl.zeros((BB, NP), tl.float32)  # gradient of the state after the block
        li = tl.zeros((BB, NP), tl.float32)
        for back_to in range(blocks):
            block = blocks - 1 - back_to
            t = ((block * CB + chunk) * L)[:, None] + l[None, :]
            here = (r < B)[:, None] & (t < T)
            now = tl.load(p_u + t.to(tl.int64) * sut, mask=here, other=0.0)
            earlier = (r < B)[:, None] & (t >= L) & (t - L < T)
            before = tl.load(p_u + (t - L).to(tl.int64) * sut, mask=earlier, other=0.0)
            g = tl.load(p_g + t.to(tl.int64) * sgt, mask=here, other=0.0)
            later = (r < B)[:, None] & (t + L < T)
            after = tl.load(p_g + (t + L).to(tl.int64) * sgt, mask=later, other=0.0)
            nr = tl.zeros((BB, NP), tl.float32)
            ni = tl.zeros((BB, NP), tl.float32)
            if block == 0:
                if FIRST:
                    nr += tl.load(first + p_state, mask=mine, other=0.0)
                    ni += tl.load(first + p_state + 1, mask=mine, other=0.0)
            else:
                at = ((start + own).to(tl.int64)[:, None] * D + d) * (blocks - 1) + block - 1
                p_start = starts + (at * N + n[None, :]) * 2
                nr += tl.load(p_start, mask=mine, other=0.0)
                ni += tl.load(p_start + 1, mask=mine, other=0.0)
            xr = _times_two(before, sr0, sr1, nothing)
            xi = _times_two(before, si0, si1, nothing)
            hr, hi = _states(xr, xi, nr, ni, er, ei, place == 0, BB, CB, NP, False)
            xr = _times_two(after, gr0, gr1, nothing)
            xi = _times_two(after, gi0, gi1, nothing)
            mr, mi = _states(xr, xi, lr, li, er, -ei, place == CB - 1, BB, CB, NP, True)
            wr += tl.sum(tl.sum(hr * mr + hi * mi, axis=1), axis=0)
            wi += tl.sum(tl.sum(hr * mi - hi * mr, axis=1), axis=0)
            lr = tl.sum(tl.where(place == 0, mr, 0.0), axis=1)
            li = tl.sum(tl.where(place == 0, mi, 0.0), axis=1)
            lr, li = _turned(lr, li, er[None, :], -ei[None, :])
            hr = tl.reshape(hr, (BB * CB, NP))
            hi = tl.reshape(hi, (BB * CB, NP))
            mr = tl.reshape(mr, (BB * CB, NP))
            mi = tl.reshape(mi, (BB * CB, NP))
            out = _times_two(g, k0, k1, tl.zeros((BB * CB, L), tl.float32))
            out = _split_product(mr, tl.trans(sr0), tl.trans(sr1), out)
            out = _split_product(mi, tl.trans(si0), tl.trans(si1), out)
            tl.store(p_d + t.to(tl.int64) * sdt, out.to(du.dtype.element_ty), mask=here)
            turned_g = tl.trans(g)
            turned_u = tl.trans(now)
            pair = _dot(turned_g, now, pair)
            ogr = _from_split(turned_g, hr, ogr)
            ogi = _from_split(turned_g, -hi, ogi)
            osr = _from_split(turned_u, mr, osr)
            osi = _from_split(turned_u, mi, osi)
        if FIRST:
            t = l[None, :] + tl.zeros((BB * CB, L), tl.int32)
            here = ((r < B) & (chunk == 0))[:, None] & (t < T)
            g = tl.load(p_g + t.to(tl.int64) * sgt, mask=here, other=0.0)
            xr = tl.reshape(_times_two(g, gr0, gr1, nothing), (BB, CB, NP))
            xi = tl.reshape(_times_two(g, gi0, gi1, nothing), (BB, CB, NP))
            tl.store(dfirst + p_state, lr + tl.sum(xr, axis=1), mask=mine)
            tl.store(dfirst + p_state + 1, li + tl.sum(xi, axis=1), mask=mine)
    at = (split.to(tl.int64) * D + d) * L
    tl.store(pairs + (at + l[:, None]) * L + l[None, :], pair)
    p_outer = outers + at * (4 * NP) + along
    tl.store(p_outer, ogr)
    tl.store(p_outer + L * NP, ogi)
    tl.store(p_outer + 2 * L * NP, osr)
    tl.store(p_outer + 3 * L * NP, osi)
    p_turn = turns + (split.to(tl.int64) * D + d) * (2 * NP) + n
    tl.store(p_turn, wr)
    tl.store(p_turn + NP, wi)


@triton.jit
def parameters_kernel(
    pairs, outers, turns, table, a, b, c, da, db, dc, dskip, D, N, splits,
    L: tl.constexpr, NP: tl.constexpr,
):  # fmt: skip
    """Gradients of a channel's Ā, B̄, C and D from its sums of products."""
    d = tl.program_id(0).to(tl.int64)
    n = tl.arange(0, NP)
    l = tl.arange(0, L)  # noqa: E741
    inside = n < N
    o = (d * N + n) * 2
    along = l[:, None] * NP + n[None, :]
    back = (L - 1 - l)[:, None] * NP + n[None, :]
    lagged = tl.zeros((L, L), tl.float32)
    gr = tl.zeros((L, NP), tl.float32)
    gi = tl.zeros((L, NP), tl.float32)
    sr = tl.zeros((L, NP), tl.float32)
    si = tl.zeros((L, NP), tl.float32)
    wr = tl.zeros((NP,), tl.float32)
    wi = tl.zeros((NP,), tl.float32)
    below = l[:, None] + l[None, :]  # of lag l, the frame at which input j is heard
    for split in range(splits):
        at = (split * D + d) * L
        lagged += tl.load(pairs + (at + below) * L + l[None, :], mask=below < L, other=0.0)
        p_outer = outers + at * (4 * NP)
        gr += tl.load(p_outer + along)
        gi += tl.load(p_outer + L * NP + along)
        sr += tl.load(p_outer + 2 * L * NP + back)  # row l: of the power l
        si += tl.load(p_outer + 3 * L * NP + back)
        p_turn = turns + (split * D + d) * (2 * NP) + n
        wr += tl.load(p_turn)
        wi += tl.load(p_turn + NP)
    dk = tl.sum(lagged, axis=1)
    tl.store(dskip + d, tl.sum(tl.where(l == 0, dk, 0.0), axis=0))
    p_table = table + d * (2 * L * NP)
    pr = tl.load(p_table + along)
    pi = tl.load(p_table + L * NP + along)
    some = (l > 0)[:, None] & inside[None, :]
    qr = tl.load(p_table + along - NP, mask=some, other=0.0)  # the power before
    qi = tl.load(p_table + L * NP + along - NP, mask=some, other=0.0)
    fr = tl.load(p_table + (L - 1) * NP + n)
    fi = tl.load(p_table + (2 * L - 1) * NP + n)
    br, bi, ar, ai, cr, ci = _system(a, b, c, d, n, N)
    # conj(P_l) dk_l, conj(P_l) dS_l and conj(P_l) dG_l, summed over l
    kr = tl.sum(pr * dk[:, None], axis=0)
    ki = -tl.sum(pi * dk[:, None], axis=0)
    psr, psi = _turned(sr, si, pr, -pi)
    pgr, pgi = _turned(gr, gi, pr, -pi)
    # G_l has the power l + 1
    cgr, cgi = _turned(tl.sum(pgr, axis=0), tl.sum(pgi, axis=0), ar, -ai)
    tr, ti = _turned(kr, ki, br, -bi)
    tl.store(dc + o, 2.0 * (tr + cgr), mask=inside)
    tl.store(dc + o + 1, 2.0 * (ti + cgi), mask=inside)
    tr, ti = _turned(kr, ki, cr, -ci)
    tl.store(db + o, tr + tl.sum(psr, axis=0), mask=inside)
    tl.store(db + o + 1, ti + tl.sum(psi, axis=0), mask=inside)
    # Of Ā: l conj(P_{l-1}) times the gradient of P_l.
    power = l.to(tl.float32)[:, None]
    kr = tl.sum(power * qr * dk[:, None], axis=0)
    ki = -tl.sum(power * qi * dk[:, None], axis=0)
    vr, vi = _turned(br, bi, cr, ci)
    xr, xi = _turned(kr, ki, vr, -vi)
    psr, psi = _turned(power * sr, power * si, qr, -qi)
    yr, yi = _turned(tl.sum(psr, axis=0), tl.sum(psi, axis=0), br, -bi)
    power += 1.0
    zr, zi = _turned(tl.sum(power * pgr, axis=0), tl.sum(power * pgi, axis=0), cr, -ci)
    tr, ti = _turned(wr, wi, L * fr, -L * fi)
    tl.store(da + o, (xr + yr + zr + tr).to(tl.float64), mask=inside)
    tl.store(da + o + 1, (xi + yi + zi + ti).to(tl.float64), mask=inside)
