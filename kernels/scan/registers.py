"""Kernels of the selective scan that keep the states in registers, in Triton.

A program owns one sequence and BD channels of one group, and keeps their (BD, NP) states in
registers, NP being N rounded up to a power of two. It walks time in tiles of 4 or 8 steps: a tile
of u, delta or z is one load a lane, then split in registers. Steps are counted in the order of
the recurrence, so ``reverse`` costs nothing.

Prefixes: p_ pointer to a tensor, q_ pointer to this program's part of it, i_ index, s_ stride.
"""

import triton
import triton.language as tl

__all__ = [
    "LOG2E",
    "LONGEST_TILE",
    "advance",
    "backward_kernel",
    "decay_of",
    "forward_kernel",
    "load_row",
    "load_tile",
    "place_of",
    "sequence_of",
    "sigmoid",
    "split_tile",
    "step_size",
    "step_sizes",
    "tile_at",
    "tiles_of",
]

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)
LONGEST_TILE = tl.constexpr(8)


@triton.jit
def sigmoid(x):
    return 1.0 / (1.0 + tl.math.exp2(-x * LOG2E))


@triton.jit
def step_size(x, SOFTPLUS: tl.constexpr):
    if SOFTPLUS:
        # log1p(e) as log(1 + e) plus what the rounding of 1 + e lost: the step sizes of a trained
        # model are around 1e-3, where log(1 + e) alone would keep 4 digits.
        e = tl.math.exp2(x * LOG2E)
        w = 1.0 + e
        x = tl.where(x <= 20.0, tl.log(w) + (e - (w - 1.0)) / w, x)
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
def _join(xs, BD: tl.constexpr, TILE: tl.constexpr, REVERSE: tl.constexpr):
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
def load_tile(q, t0, s_t, ok, MASKED: tl.constexpr):
    q += t0.to(tl.int64) * s_t
    x = tl.load(q, mask=ok, other=0.0) if MASKED else tl.load(q)
    return x.to(tl.float32)


@triton.jit
def _store_tile(q, t0, s_t, x, ok, MASKED: tl.constexpr):
    q += t0.to(tl.int64) * s_t
    if MASKED:
        tl.store(q, x.to(q.dtype.element_ty), mask=ok)
    else:
        tl.store(q, x.to(q.dtype.element_ty))


@triton.jit
def load_row(row, t):
    """One step of B or C, (NP,) float32, zero past their ends."""
    q, s_t, end, n_ok, WHOLE = row
    q += t.to(tl.int64) * s_t
    x = tl.load(q) if WHOLE else tl.load(q, mask=n_ok & (t < end), other=0.0)
    return x.to(tl.float32)


@triton.jit
def _keep(h, reset, t):
    """h, or exact zero where a sequence starts at t."""
    q, s_t, end = reset
    if q is not None:
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
def step_sizes(q_dt, t0, s_t, bias, ok, SOFTPLUS: tl.constexpr, MASKED: tl.constexpr):
    """Step sizes of a tile, before and after softplus; 0, which changes no state, past its ends."""
    raw = load_tile(q_dt, t0, s_t, ok, MASKED)
    if bias is not None:
        raw += bias
    dt = step_size(raw, SOFTPLUS)
    if MASKED:
        dt = tl.where(ok, dt, 0.0)
    return raw, dt


@triton.jit
def forward_kernel(
    p_u, p_dt, p_A, p_B, p_C, p_D, p_z, p_bias, p_h0, p_resets, p_ends, p_out, p_h, p_check,
    T, piece, D, per_group, tiles_per_group,
    s_ub, s_ut, s_ud, s_dtb, s_dtt, s_dtd, s_zb, s_zt, s_zd, s_ob, s_ot, s_od,
    s_Bb, s_Bt, s_Bg, s_Bn, s_Cb, s_Ct, s_Cg, s_Cn, s_rb, s_rt,
    N: tl.constexpr, NP: tl.constexpr, BD: tl.constexpr, TILE: tl.constexpr, CK: tl.constexpr,
    SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr, WHOLE_D: tl.constexpr, WHOLE_T: tl.constexpr,
):  # fmt: skip
    i_g, d, d_ok = place_of(tl.program_id(0), BD, per_group, tiles_per_group)
    i_row = tl.program_id(1)
    i_b, start, end, check = sequence_of(p_ends, i_row, T, piece, CK)
    WHOLE_N: tl.constexpr = N == NP
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
    row_B = (p_B + i_b * s_Bb + i_g * s_Bg + n * s_Bn, s_Bt, end, n < N, WHOLE_N and WHOLE_T)
    row_C = (p_C + i_b * s_Cb + i_g * s_Cg + n * s_Cn, s_Ct, end, n < N, WHOLE_N and WHOLE_T)
    reset = (p_resets, s_rt, end)
    if p_resets is not None:
        reset = (p_resets + i_b * s_rb, s_rt, end)

    tiles = tiles_of(start, end, TILE, REVERSE)
    for i in range(0, tiles):
        if p_check is not None:
            if i % (CK // TILE) == 0:
                q_check = p_check + (check + i // (CK // TILE)) * D * N + o_DN
                tl.store(q_check, h, mask=ok_DN)
        t0 = tile_at(i, start, end, tiles, TILE, REVERSE)
        ok = d_ok[:, None] & (t0 + tt < end)
        _, dt = step_sizes(q_dt, t0, s_dtt, bias, ok, SOFTPLUS, MASKED)
        u = load_tile(q_u, t0, s_ut, ok, MASKED)
        if p_z is not None:
            z = load_tile(q_z, t0, s_zt, ok, MASKED)
        dts = split_tile(dt, BD, TILE, REVERSE)
        xs = split_tile(dt * u, BD, TILE, REVERSE)
        ys = ()
        for j in tl.static_range(TILE):
            t = t0 + (TILE - 1 - j if REVERSE else j)
            h = advance(_keep(h, reset, t), A2, dts[j], xs[j], load_row(row_B, t), EXACT)
            ys = ys + (tl.sum(h * load_row(row_C, t)[None, :], axis=1),)
        y = _join(ys, BD, TILE, REVERSE)
        if p_D is not None:
            y += u * skip
        if p_z is not None:
            y *= z * sigmoid(z)
        _store_tile(q_out, t0, s_ot, y, ok, MASKED)
    tl.store(p_h + i_row.to(tl.int64) * D * N + o_DN, h, mask=ok_DN)


@triton.jit
def backward_kernel(
    p_dout, p_dh, p_check, p_u, p_dt, p_A, p_B, p_C, p_D, p_z, p_bias, p_resets, p_ends,
    p_du, p_ddt, p_dz, p_dA, p_dB, p_dC, p_dD, p_dbias, p_dh0, p_scratch,
    T, piece, D, G, per_group, tiles_per_group, num_rows,
    s_gb, s_gt, s_gd, s_ub, s_ut, s_ud, s_dtb, s_dtt, s_dtd, s_zb, s_zt, s_zd,
    s_dub, s_dut, s_dud, s_ddtb, s_ddtt, s_ddtd, s_dzb, s_dzt, s_dzd,
    s_Bb, s_Bt, s_Bg, s_Bn, s_Cb, s_Ct, s_Cg, s_Cn, s_rb, s_rt,
    N: tl.constexpr, NP: tl.constexpr, BD: tl.constexpr, TILE: tl.constexpr, CK: tl.constexpr,
    SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr, WHOLE_D: tl.constexpr, WHOLE_T: tl.constexpr,
):  # fmt: skip
    i_tile = tl.program_id(0)
    i_g, d, d_ok = place_of(i_tile, BD, per_group, tiles_per_group)
    i_row = tl.program_id(1)
    i_b, start, end, check = sequence_of(p_ends, i_row, T, piece, CK)
    WHOLE_N: tl.constexpr = N == NP
    MASKED: tl.constexpr = not (WHOLE_D and WHOLE_T)
    EXACT: tl.constexpr = p_u.dtype.element_ty == tl.float32
    NB: tl.constexpr = CK // TILE
    n = tl.arange(0, NP)
    ok_DN = d_ok[:, None] & (n < N)[None, :]
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
        dskip = tl.zeros((BD, TILE), tl.float32)
    bias = p_bias
    if p_bias is not None:
        bias = tl.load(p_bias + d, mask=d_ok, other=0.0).to(tl.float32)[:, None]
        dbias = tl.zeros((BD, TILE), tl.float32)

    tt = tl.arange(0, TILE)[None, :]
    dd = d[:, None].to(tl.int64)
    q_g = p_dout + i_b * s_gb + dd * s_gd + tt * s_gt
    q_u = p_u + i_b * s_ub + dd * s_ud + tt * s_ut
    q_dt = p_dt + i_b * s_dtb + dd * s_dtd + tt * s_dtt
    q_du = p_du + i_b * s_dub + dd * s_dud + tt * s_dut
    q_ddt = p_ddt + i_b * s_ddtb + dd * s_ddtd + tt * s_ddtt
    if p_z is not None:
        q_z = p_z + i_b * s_zb + dd * s_zd + tt * s_zt
        q_dz = p_dz + i_b * s_dzb + dd * s_dzd + tt * s_dzt
    row_B = (p_B + i_b * s_Bb + i_g * s_Bg + n * s_Bn, s_Bt, end, n < N, WHOLE_N and WHOLE_T)
    row_C = (p_C + i_b * s_Cb + i_g * s_Cg + n * s_Cn, s_Ct, end, n < N, WHOLE_N and WHOLE_T)
    reset = (p_resets, s_rt, end)
    if p_resets is not None:
        reset = (p_resets + i_b * s_rb, s_rt, end)
    # Sums over this program's channels, (tiles_per_group, B, T, G, N), added up by the caller.
    i_part = ((i_tile % tiles_per_group) * num_rows + i_b) * T
    q_dB = p_dB + (i_part * G + i_g) * N + n
    q_dC = p_dC + (i_part * G + i_g) * N + n
    # States before each tile of a chunk of CK steps, recomputed from the checkpoint before it.
    i_program = i_tile.to(tl.int64) * tl.num_programs(1) + i_row
    q_s = p_scratch + i_program * NB * BD * NP + tl.arange(0, BD)[:, None] * NP + n[None, :]

    tiles = tiles_of(start, end, TILE, REVERSE)
    chunks = tl.cdiv(tiles, NB)
    for i_chunk in range(0, chunks):
        i_c = chunks - 1 - i_chunk
        first = i_c * NB
        count = tl.minimum(NB, tiles - first)
        h = tl.load(p_check + (check + i_c) * D * N + o_DN, mask=ok_DN, other=0.0)
        tl.debug_barrier()
        for i in range(0, count - 1):
            tl.store(q_s + i * BD * NP, h)
            t0 = tile_at(first + i, start, end, tiles, TILE, REVERSE)
            ok = d_ok[:, None] & (t0 + tt < end)
            _, dt = step_sizes(q_dt, t0, s_dtt, bias, ok, SOFTPLUS, MASKED)
            u = load_tile(q_u, t0, s_ut, ok, MASKED)
            dts = split_tile(dt, BD, TILE, REVERSE)
            xs = split_tile(dt * u, BD, TILE, REVERSE)
            for j in tl.static_range(TILE):
                t = t0 + (TILE - 1 - j if REVERSE else j)
                h = advance(_keep(h, reset, t), A2, dts[j], xs[j], load_row(row_B, t), EXACT)
        tl.store(q_s + (count - 1) * BD * NP, h)
        tl.debug_barrier()
        for i_back in range(0, count):
            i_s = count - 1 - i_back
            t0 = tile_at(first + i_s, start, end, tiles, TILE, REVERSE)
            ok = d_ok[:, None] & (t0 + tt < end)
            h = tl.load(q_s + i_s * BD * NP)
            raw, dt = step_sizes(q_dt, t0, s_dtt, bias, ok, SOFTPLUS, MASKED)
            u = load_tile(q_u, t0, s_ut, ok, MASKED)
            dout = load_tile(q_g, t0, s_gt, ok, MASKED)
            dy = dout
            if p_z is not None:
                z = load_tile(q_z, t0, s_zt, ok, MASKED)
                gate = sigmoid(z)
                dy = dout * z * gate
            dts = split_tile(dt, BD, TILE, REVERSE)
            xs = split_tile(dt * u, BD, TILE, REVERSE)
            dys = split_tile(dy, BD, TILE, REVERSE)
            befores = ()
            hs = ()
            for j in tl.static_range(TILE):
                t = t0 + (TILE - 1 - j if REVERSE else j)
                h = _keep(h, reset, t)
                befores = befores + (h,)
                h = advance(h, A2, dts[j], xs[j], load_row(row_B, t), EXACT)
                hs = hs + (h,)
            # One step back each: g becomes the gradient of the state before step t.
            ys = ()
            dxs = ()
            das = ()
            for k in tl.static_range(TILE):
                t = t0 + (k if REVERSE else TILE - 1 - k)
                dt1 = dts[TILE - 1 - k][:, None]
                dy1 = dys[TILE - 1 - k][:, None]
                h1 = hs[TILE - 1 - k]
                b = load_row(row_B, t)[None, :]
                c = load_row(row_C, t)[None, :]
                g += dy1 * c
                dC = tl.sum(dy1 * h1, axis=0)
                dB = tl.sum(g * xs[TILE - 1 - k][:, None], axis=0)
                o = t.to(tl.int64) * (G * N)
                if WHOLE_N and WHOLE_T:
                    tl.store(q_dC + o, dC)
                    tl.store(q_dB + o, dB)
                else:
                    tl.store(q_dC + o, dC, mask=(n < N) & (t < end))
                    tl.store(q_dB + o, dB, mask=(n < N) & (t < end))
                dxs = (tl.sum(g * b, axis=1),) + dxs
                if p_z is not None:
                    ys = (tl.sum(h1 * c, axis=1),) + ys
                g *= decay_of(A2 * dt1, EXACT)
                w = g * befores[TILE - 1 - k]
                dA += w * dt1
                das = (tl.sum(w * A2, axis=1),) + das
                g = _keep(g, reset, t)
            dx = _join(dxs, BD, TILE, REVERSE)
            ddt = _join(das, BD, TILE, REVERSE) * LN2 + dx * u
            if SOFTPLUS:
                ddt *= sigmoid(raw)
            if MASKED:
                ddt = tl.where(ok, ddt, 0.0)
            du = dx * dt
            if p_D is not None:
                du += dy * skip
                dskip += dy * u
            if p_bias is not None:
                dbias += ddt
            _store_tile(q_du, t0, s_dut, du, ok, MASKED)
            _store_tile(q_ddt, t0, s_ddtt, ddt, ok, MASKED)
            if p_z is not None:
                y = _join(ys, BD, TILE, REVERSE)
                if p_D is not None:
                    y += u * skip
                dz = dout * y * gate * (1.0 + z * (1.0 - gate))
                _store_tile(q_dz, t0, s_dzt, dz, ok, MASKED)
    tl.store(p_dA + row_DN + o_DN, dA, mask=ok_DN)
    if p_dh0 is not None:
        tl.store(p_dh0 + row_DN + o_DN, g, mask=ok_DN)
    if p_D is not None:
        tl.store(p_dD + i_row.to(tl.int64) * D + d, tl.sum(dskip, axis=1), mask=d_ok)
    if p_bias is not None:
        tl.store(p_dbias + i_row.to(tl.int64) * D + d, tl.sum(dbias, axis=1), mask=d_ok)
