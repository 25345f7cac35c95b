"""Kernels of the selective scan that keep the states in registers, in Triton.

A program owns one sequence and BD channels of one group, and keeps their (BD, NP) states in
registers, NP being N rounded up to a power of two. It walks time in tiles of 4 or 8 steps: a tile
of u, delta or z is one load a lane, then split in registers. Steps are counted in the order of
the recurrence, so ``reverse`` costs nothing.

Prefixes: p_ pointer to a tensor, q_ pointer to this program's part of it, i_ index, s_ stride.
"""

import triton
import triton.language as tl

from audiomamba.kernels.approximate import LOG2E, log2, sigmoid

__all__ = [
    "LN2",
    "LOG2E",
    "LONGEST_TILE",
    "advance",
    "decay_of",
    "forward_kernel",
    "join_tile",
    "keep",
    "load_row",
    "load_tile",
    "place_of",
    "row_of",
    "sequence_of",
    "split_tile",
    "step_size",
    "step_sizes",
    "store_tile",
    "tile_at",
    "tiles_of",
]

LN2 = tl.constexpr(0.6931471805599453)
LONGEST_TILE = tl.constexpr(8)


@triton.jit
def step_size(x, SOFTPLUS: tl.constexpr, FAST: tl.constexpr = False):
    if SOFTPLUS:
        # The step sizes of a trained model are around 1e-3, where log(1 + e) alone would keep 4
        # digits.
        e = tl.math.exp2(x * LOG2E)
        w = 1.0 + e
        if FAST:  # to 3e-6 of itself: a series of log1p, next term e^6 / 6, and an instruction
            series = e - e * e * (0.5 - e * (0.3333333333333333 - e * (0.25 - e * 0.2)))
            log = tl.where(e < 0.0625, series, log2(w) * LN2)
        else:  # log(1 + e) plus what the rounding of 1 + e lost
            log = tl.log(w) + (e - (w - 1.0)) / w
        x = tl.where(x <= 20.0, log, x)
    return x


@triton.jit
def _split4(x, BD: tl.constexpr):
    even, odd = tl.split(tl.reshape(x, (BD, 2, 2)))
    x0, x2 = tl.split(even)
    x1, x3 = tl.split(odd)
    return x0, x1, x2, x3


@triton.jit
def split_tile(x, BD: tl.constexpr, TILE: tl.constexpr, REVERSE: tl.constexpr):
    """(BD, TILE) -> TILE of (BD,), in the order of the recurrence."""
    if TILE == 4:
        xs = _split4(x, BD)
    else:
        even, odd = tl.split(tl.reshape(x, (BD, 4, 2)))
        e = _split4(even, BD)
        o = _split4(odd, BD)
        xs = (e[0], o[0], e[1], o[1], e[2], o[2], e[3], o[3])
    if REVERSE:
        xs = xs[::-1]
    return xs


@triton.jit
def _join4(x0, x1, x2, x3, BD: tl.constexpr):
    return tl.reshape(tl.join(tl.join(x0, x2), tl.join(x1, x3)), (BD, 4))


@triton.jit
def join_tile(xs, BD: tl.constexpr, TILE: tl.constexpr, REVERSE: tl.constexpr):
    """The inverse of ``split_tile``."""
    if REVERSE:
        xs = xs[::-1]
    if TILE == 4:
        x = _join4(xs[0], xs[1], xs[2], xs[3], BD)
    else:
        even = _join4(xs[0], xs[2], xs[4], xs[6], BD)
        odd = _join4(xs[1], xs[3], xs[5], xs[7], BD)
        x = tl.reshape(tl.join(even, odd), (BD, 8))
    return x


@triton.jit
def fetch_tile(q, t0, s_t, ok):
    return tl.load(q + t0.to(tl.int64) * s_t, mask=ok, other=0.0)


@triton.jit
def load_tile(q, t0, s_t, ok, MASKED: tl.constexpr):
    q += t0.to(tl.int64) * s_t
    x = tl.load(q, mask=ok, other=0.0) if MASKED else tl.load(q)
    return x.to(tl.float32)


@triton.jit
def store_tile(q, t0, s_t, x, ok, MASKED: tl.constexpr):
    q += t0.to(tl.int64) * s_t
    if MASKED:
        tl.store(q, x.to(q.dtype.element_ty), mask=ok)
    else:
        tl.store(q, x.to(q.dtype.element_ty))


@triton.jit
def row_of(
    p, i_bg, T, end, n,
    N: tl.constexpr, TILE: tl.constexpr, REVERSE: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """Where a sequence has its rows of B or C, (batch, group, T, N) float32, for ``load_row``."""
    return p + i_bg * T * N + n, end, n, N, TILE, REVERSE, WHOLE


@triton.jit
def load_row(row, t0, j: tl.constexpr):
    """B or C, (NP,), at step j of the tile that begins at time t0; zero past their ends."""
    q, end, n, N, TILE, REVERSE, WHOLE = row
    k: tl.constexpr = TILE - 1 - j if REVERSE else j
    q += (t0.to(tl.int64) + k) * N
    return tl.load(q) if WHOLE else tl.load(q, mask=(n < N) & (t0 + k < end), other=0.0)


@triton.jit
def keep(h, reset, t0, j: tl.constexpr):
    """h, or exact zero where a sequence starts at step j of the tile that begins at t0."""
    q, s_t, end, TILE, REVERSE = reset
    if q is not None:
        t = t0 + (TILE - 1 - j if REVERSE else j)
        started = tl.load(q + t.to(tl.int64) * s_t, mask=t < end, other=0)
        h = tl.where(started != 0, 0.0, h)
    return h


@triton.jit
def decay_of(x, EXACT: tl.constexpr):
    """2^x, to the rounding of float32 where ``EXACT``.

    Just below 1 a GPU's instruction seems to err to one side, which adds up at every step that a
    slow state lives: an H200 was off by 1.2e-6 of the largest state after 112 steps and by 1.5e-6
    of the largest output after 1,000, where float32 that rounds both ways is off by 0.4e-6. There
    a series is summed instead. 16-bit inputs have larger errors of their own.
    """
    a = tl.math.exp2(x)
    if EXACT:  # (x ln 2)^k / k!; the fifth term is at most 1.3e-9
        series = 0.24022650695910072 + x * (0.05550410866482158 + x * 0.009618129107628477)
        a = tl.where(tl.abs(x) < 0.0625, 1.0 + x * (0.6931471805599453 + x * series), a)
    return a


@triton.jit
def advance(h, A2, dt, x, b, EXACT: tl.constexpr):
    return h * decay_of(A2 * dt[:, None], EXACT) + x[:, None] * b[None, :]


@triton.jit
def place_of(i_tile, BD: tl.constexpr, per_group, tiles_per_group):
    """The group, the channels (BD,) and which of them exist, of a program."""
    i_g = i_tile // tiles_per_group
    o = (i_tile % tiles_per_group) * BD + tl.arange(0, BD)
    return i_g, i_g * per_group + o, o < per_group


@triton.jit
def sequence_of(p_ends, i_row, T, piece, CK: tl.constexpr):
    """Row of the batch, first and last time, and first checkpoint of sequence ``i_row``, or of
    piece ``i_row`` of the rows that are cut into pieces of so many steps."""
    if p_ends is not None:
        start = tl.load(p_ends + i_row).to(tl.int32)
        end = tl.load(p_ends + i_row + 1).to(tl.int32)
        i_b = i_row * 0
        check = (start // CK + i_row).to(tl.int64)
    else:
        pieces = tl.maximum(tl.cdiv(T, piece), 1)
        i_b = i_row // pieces
        start = (i_row % pieces) * piece
        end = tl.minimum(start + piece, T)
        check = i_b.to(tl.int64) * tl.cdiv(T, CK) + start // CK
    return i_b.to(tl.int64), start, end, check


@triton.jit
def tiles_of(start, end, TILE: tl.constexpr, REVERSE: tl.constexpr):
    """How many tiles there are. Backwards in time the first may be past the end as a whole: else
    kernels with tiles of another length would have their checkpoints at other times."""
    if REVERSE:
        tiles = tl.cdiv(end - start, LONGEST_TILE) * (LONGEST_TILE // TILE)
    else:
        tiles = tl.cdiv(end - start, TILE)
    return tiles


@triton.jit
def tile_at(i, start, end, tiles, TILE: tl.constexpr, REVERSE: tl.constexpr):
    """First time of the tile that is number ``i`` in the order of the recurrence."""
    if REVERSE:
        i = tiles - 1 - i
    return start + i * TILE


@triton.jit
def step_sizes(raw, bias, ok, SOFTPLUS: tl.constexpr, FAST: tl.constexpr, MASKED: tl.constexpr):
    """Step sizes of a tile, before and after softplus; 0, which changes no state, past its ends."""
    raw = raw.to(tl.float32)
    if bias is not None:
        raw += bias
    dt = step_size(raw, SOFTPLUS, FAST)
    if MASKED:
        dt = tl.where(ok, dt, 0.0)
    return raw, dt


@triton.jit
def forward_kernel(
    p_u, p_dt, p_A, p_B, p_C, p_D, p_z, p_bias, p_h0, p_resets, p_ends, p_out, p_h, p_check,
    T, piece, D, G, per_group, tiles_per_group,
    s_ub, s_ut, s_ud, s_dtb, s_dtt, s_dtd, s_zb, s_zt, s_zd, s_ob, s_ot, s_od,
    s_rb, s_rt,
    N: tl.constexpr, NP: tl.constexpr, BD: tl.constexpr, TILE: tl.constexpr, CK: tl.constexpr,
    SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr, WHOLE_D: tl.constexpr, WHOLE_T: tl.constexpr,
    FAST: tl.constexpr,
):  # fmt: skip
    i_g, d, d_ok = place_of(tl.program_id(0), BD, per_group, tiles_per_group)
    i_row = tl.program_id(1)
    i_b, start, end, check = sequence_of(p_ends, i_row, T, piece, CK)
    WHOLE: tl.constexpr = N == NP and WHOLE_T
    MASKED: tl.constexpr = not (WHOLE_D and WHOLE_T)
    EXACT: tl.constexpr = p_u.dtype.element_ty == tl.float32
    n = tl.arange(0, NP)
    ok_DN = d_ok[:, None] & (n < N)[None, :]
    o_DN = d[:, None] * N + n[None, :]
    A2 = tl.load(p_A + o_DN, mask=ok_DN, other=0.0).to(tl.float32) * LOG2E
    if p_h0 is not None:
        h = tl.load(p_h0 + i_row.to(tl.int64) * D * N + o_DN, mask=ok_DN, other=0.0)
        h = h.to(tl.float32)
    else:
        h = tl.zeros((BD, NP), tl.float32)
    if p_D is not None:
        skip = tl.load(p_D + d, mask=d_ok, other=0.0).to(tl.float32)[:, None]
    bias = p_bias
    if p_bias is not None:
        bias = tl.load(p_bias + d, mask=d_ok, other=0.0).to(tl.float32)[:, None]

    tt = tl.arange(0, TILE)[None, :]
    dd = d[:, None].to(tl.int64)
    q_u = p_u + i_b * s_ub + dd * s_ud + tt * s_ut
    q_dt = p_dt + i_b * s_dtb + dd * s_dtd + tt * s_dtt
    q_out = p_out + i_b * s_ob + dd * s_od + tt * s_ot
    if p_z is not None:
        q_z = p_z + i_b * s_zb + dd * s_zd + tt * s_zt
    i_bg = i_b * G + i_g
    row_B = row_of(p_B, i_bg, T, end, n, N, TILE, REVERSE, WHOLE)
    row_C = row_of(p_C, i_bg, T, end, n, N, TILE, REVERSE, WHOLE)
    reset = (p_resets, s_rt, end, TILE, REVERSE)
    if p_resets is not None:
        reset = (p_resets + i_b * s_rb, s_rt, end, TILE, REVERSE)

    tiles = tiles_of(start, end, TILE, REVERSE)
    t0 = tile_at(0, start, end, tiles, TILE, REVERSE)
    ok = d_ok[:, None] & (t0 + tt < end) & (tiles > 0)
    next_dt = fetch_tile(q_dt, t0, s_dtt, ok)
    next_u = fetch_tile(q_u, t0, s_ut, ok)
    if p_z is not None:
        next_z = fetch_tile(q_z, t0, s_zt, ok)
    for i in range(0, tiles):
        if p_check is not None:
            if i % (CK // TILE) == 0:
                q_check = p_check + (check + i // (CK // TILE)) * D * N + o_DN
                tl.store(q_check, h, mask=ok_DN)
        t0 = tile_at(i, start, end, tiles, TILE, REVERSE)
        ok = d_ok[:, None] & (t0 + tt < end)
        _, dt = step_sizes(next_dt, bias, ok, SOFTPLUS, FAST, MASKED)
        u = next_u.to(tl.float32)
        if p_z is not None:
            z = next_z.to(tl.float32)
        # The next tile is on its way while this one is computed.
        t1 = tile_at(i + 1, start, end, tiles, TILE, REVERSE)
        ok1 = d_ok[:, None] & (t1 + tt < end) & (i + 1 < tiles)
        next_dt = fetch_tile(q_dt, t1, s_dtt, ok1)
        next_u = fetch_tile(q_u, t1, s_ut, ok1)
        if p_z is not None:
            next_z = fetch_tile(q_z, t1, s_zt, ok1)
        dts = split_tile(dt, BD, TILE, REVERSE)
        xs = split_tile(dt * u, BD, TILE, REVERSE)
        ys = ()
        for j in tl.static_range(TILE):
            h = keep(h, reset, t0, j)
            h = advance(h, A2, dts[j], xs[j], load_row(row_B, t0, j), EXACT)
            ys = ys + (tl.sum(h * load_row(row_C, t0, j)[None, :], axis=1),)
        y = join_tile(ys, BD, TILE, REVERSE)
        if p_D is not None:
            y += u * skip
        if p_z is not None:
            y *= z * sigmoid(z, FAST)
        store_tile(q_out, t0, s_ot, y, ok, MASKED)
    tl.store(p_h + i_row.to(tl.int64) * D * N + o_DN, h, mask=ok_DN)
