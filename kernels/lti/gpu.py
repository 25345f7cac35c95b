"""``lti`` on a GPU: FFT for whole sequences, a recurrence in Triton for chunks, resets and steps.

A program of the recurrence owns BD channels of a row and keeps their states in registers. Ā comes
in float64 and is used as a sum of two float32: one alone would be wrong by 6e-8 a step, which adds
up over the thousands of steps that a slow state lives.

Being linear and time-invariant, the system needs no stored states in the backward: the input's
gradient is the same recurrence run backwards (``ADJOINT``), and the parameters' gradients come
from a second forward run that carries ∂h/∂Ā and ∂h/∂B̄ along. README.md has the derivation.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from audiomamba.kernels.blocks import pick_blocks
from audiomamba.kernels.launching import launch
from audiomamba.kernels.lti import by_chunks, by_fft, chunks
from audiomamba.kernels.lti.discretize import System, tables
from audiomamba.kernels.lti.op import chunked, empty_like_layout, recurrence, recurrence_step_

__all__ = [
    "backward",
    "forward",
    "lti",
    "lti_step_",
    "parameters_kernel",
    "recurrence_kernel",
    "step_",
    "step_kernel",
]

UNROLL = tl.constexpr(4)  # frames whose inputs are loaded at once


@triton.jit
def _pair(p, s_c, inside):
    """Load the real and imaginary part of (BD, NP) pairs."""
    real = tl.load(p, mask=inside, other=0.0)
    return real, tl.load(p + s_c, mask=inside, other=0.0)


@triton.jit
def _two_floats(a):
    """Split float64 into a float32 and the float32 it misses."""
    high = a.to(tl.float32)
    return high, (a - high.to(tl.float64)).to(tl.float32)


@triton.jit
def _turn(hr, hi, ar, ai, lr, li):
    """Multiply h by Ā = (ar + lr) + i (ai + li)."""
    real = (hr * lr - hi * li) + (hr * ar - hi * ai)
    return real, (hr * li + hi * lr) + (hr * ai + hi * ar)


@triton.jit
def _frame(hr, hi, u, new, ar, ai, lr, li, br, bi, cr, ci, ADJOINT: tl.constexpr):
    """One frame of (BD, NP) states: h = Ā h + B̄ u, then y; the adjoint turns after it has read."""
    if ADJOINT:
        hr += br * u[:, None]
        hi += bi * u[:, None]
        y = 2.0 * tl.sum(cr * hr - ci * hi, axis=1)
        hr = tl.where(new, 0.0, hr)
        hi = tl.where(new, 0.0, hi)
        hr, hi = _turn(hr, hi, ar, ai, lr, li)
    else:
        hr = tl.where(new, 0.0, hr)
        hi = tl.where(new, 0.0, hi)
        hr, hi = _turn(hr, hi, ar, ai, lr, li)
        hr += br * u[:, None]
        hi += bi * u[:, None]
        y = 2.0 * tl.sum(cr * hr - ci * hi, axis=1)
    return hr, hi, y


@triton.jit
def _exact_product(x, y):
    """x y and what its rounding lost."""
    product = x * y
    return product, tl.fma(x, y, -product)


@triton.jit
def _exact_sum(x, y):
    """x + y and what its rounding lost."""
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)


@triton.jit
def _turned_part(x, y, drive, a, b, low):
    """x a + y b + drive + low, as a float32 and what it misses."""
    first, lost_first = _exact_product(x, a)
    second, lost_second = _exact_product(y, b)
    turned, lost_turned = _exact_sum(first, second)
    total, lost_total = _exact_sum(turned, drive)
    low += (lost_first + lost_second) + (lost_turned + lost_total)
    high = total + low
    return high, low - (high - total)


@triton.jit
def _precise_frame(hr, hi, er, ei, u, new, ar, ai, lr, li, br, bi, cr, ci):
    """A frame of states kept as sums of two float32, for their rounding adds up as well: by the
    root of the steps that a state lives, 4e-6 after a thousand."""
    hr = tl.where(new, 0.0, hr)
    hi = tl.where(new, 0.0, hi)
    er = tl.where(new, 0.0, er)
    ei = tl.where(new, 0.0, ei)
    low_r = (hr * lr - hi * li) + (er * ar - ei * ai)
    low_i = (hr * li + hi * lr) + (er * ai + ei * ar)
    next_r, er = _turned_part(hr, hi, br * u[:, None], ar, -ai, low_r)
    next_i, ei = _turned_part(hr, hi, bi * u[:, None], ai, ar, low_i)
    y = 2.0 * tl.sum(cr * next_r - ci * next_i, axis=1)
    return next_r, next_i, er, ei, y


@triton.jit
def recurrence_kernel(
    u, a, b, c, skip, first, resets, y, last,
    T, D, N, tiles_d, sub, sut, sud, sfb, sfd, sfn, sfc, srb, srt, syb, syt, syd,
    BD: tl.constexpr, NP: tl.constexpr, SKIP: tl.constexpr, FIRST: tl.constexpr,
    RESETS: tl.constexpr, ADJOINT: tl.constexpr,
):  # fmt: skip
    """Outputs and last state of BD channels of one row; a, b, c and last are contiguous."""
    pid = tl.program_id(0)
    i_b = (pid // tiles_d).to(tl.int64)
    d = (pid % tiles_d) * BD + tl.arange(0, BD)
    n = tl.arange(0, NP)[None, :]
    inside = (d[:, None] < D) & (n < N)
    if ADJOINT:  # time runs down
        u += tl.cast(T - 1, tl.int64) * sut
        y += tl.cast(T - 1, tl.int64) * syt
        resets += tl.cast(T - 1, tl.int64) * srt
        sut, syt, srt = -sut, -syt, -srt
    p_u = u + i_b * sub + d.to(tl.int64) * sud
    p_y = y + i_b * syb + d.to(tl.int64) * syd
    p_r = resets + i_b * srb
    o_dn = (d[:, None] * N + n) * 2
    wr, wi = _pair(a + o_dn, 1, inside)
    ar, lr = _two_floats(wr)
    ai, li = _two_floats(wi)
    br, bi = _pair(b + o_dn, 1, inside)
    cr, ci = _pair(c + o_dn, 1, inside)
    hr = tl.zeros((BD, NP), tl.float32)
    hi = tl.zeros((BD, NP), tl.float32)
    if FIRST:
        hr, hi = _pair(first + i_b * sfb + d[:, None] * sfd + n * sfn, sfc, inside)
    er = tl.zeros((BD, NP), tl.float32)
    ei = tl.zeros((BD, NP), tl.float32)
    gain = tl.zeros((BD,), tl.float32)
    if SKIP:
        gain += tl.load(skip + d, mask=d < D, other=0.0)

    whole = T // UNROLL * UNROLL
    for _t0 in range(0, whole, UNROLL):
        inputs = ()
        for j in tl.static_range(UNROLL):
            inputs = inputs + (tl.load(p_u + j * sut, mask=d < D, other=0.0).to(tl.float32),)
        for j in tl.static_range(UNROLL):
            new = False
            if RESETS:
                new = tl.load(p_r + j * srt) != 0
            if ADJOINT:
                hr, hi, out = _frame(hr, hi, inputs[j], new, ar, ai, lr, li, br, bi, cr, ci, True)
            else:
                hr, hi, er, ei, out = _precise_frame(
                    hr, hi, er, ei, inputs[j], new, ar, ai, lr, li, br, bi, cr, ci
                )
            out += gain * inputs[j]
            tl.store(p_y + j * syt, out.to(y.dtype.element_ty), mask=d < D)
        p_u += UNROLL * sut
        p_y += UNROLL * syt
        p_r += UNROLL * srt
    for _t in range(whole, T):
        value = tl.load(p_u, mask=d < D, other=0.0).to(tl.float32)
        new = False
        if RESETS:
            new = tl.load(p_r) != 0
        if ADJOINT:
            hr, hi, out = _frame(hr, hi, value, new, ar, ai, lr, li, br, bi, cr, ci, True)
        else:
            hr, hi, er, ei, out = _precise_frame(
                hr, hi, er, ei, value, new, ar, ai, lr, li, br, bi, cr, ci
            )
        tl.store(p_y, (out + gain * value).to(y.dtype.element_ty), mask=d < D)
        p_u += sut
        p_y += syt
        p_r += srt
    p_last = last + i_b * D * N * 2 + o_dn
    tl.store(p_last, hr, mask=inside)
    tl.store(p_last + 1, hi, mask=inside)


@triton.jit
def parameters_kernel(
    dy, dlast, u, a, b, c, first, resets, da, db, dc, dskip,
    T, D, N, tiles_d, sgb, sgt, sgd, slb, sld, sln, slc, sub, sut, sud, sfb, sfd, sfn, sfc,
    srb, srt,
    BD: tl.constexpr, NP: tl.constexpr, FIRST: tl.constexpr, LAST: tl.constexpr,
    RESETS: tl.constexpr,
):  # fmt: skip
    """Gradients of Ā, B̄, C and D from one row, ``(B, D, N, 2)`` and ``(B, D)`` partials.

    Runs forwards with h, q = ∂h/∂B̄ and s = ∂h/∂Ā, all from the same recurrence.
    """
    pid = tl.program_id(0)
    i_b = (pid // tiles_d).to(tl.int64)
    d = (pid % tiles_d) * BD + tl.arange(0, BD)
    n = tl.arange(0, NP)[None, :]
    inside = (d[:, None] < D) & (n < N)
    p_g = dy + i_b * sgb + d.to(tl.int64) * sgd
    p_u = u + i_b * sub + d.to(tl.int64) * sud
    p_r = resets + i_b * srb
    o_dn = (d[:, None] * N + n) * 2
    wr, wi = _pair(a + o_dn, 1, inside)
    ar, lr = _two_floats(wr)
    ai, li = _two_floats(wi)
    br, bi = _pair(b + o_dn, 1, inside)
    hr = tl.zeros((BD, NP), tl.float32)
    hi = tl.zeros((BD, NP), tl.float32)
    if FIRST:
        hr, hi = _pair(first + i_b * sfb + d[:, None] * sfd + n * sfn, sfc, inside)
    qr = tl.zeros((BD, NP), tl.float32)
    qi = tl.zeros((BD, NP), tl.float32)
    sr = tl.zeros((BD, NP), tl.float32)
    si = tl.zeros((BD, NP), tl.float32)
    # Sums over time of dy times each of the three, and dy times u.
    shr = tl.zeros((BD, NP), tl.float32)
    shi = tl.zeros((BD, NP), tl.float32)
    sqr = tl.zeros((BD, NP), tl.float32)
    sqi = tl.zeros((BD, NP), tl.float32)
    ssr = tl.zeros((BD, NP), tl.float32)
    ssi = tl.zeros((BD, NP), tl.float32)
    su = tl.zeros((BD,), tl.float32)
    for _t in range(0, T):
        value = tl.load(p_u, mask=d < D, other=0.0).to(tl.float32)
        g = tl.load(p_g, mask=d < D, other=0.0).to(tl.float32)
        if RESETS:
            new = tl.load(p_r) != 0
            hr = tl.where(new, 0.0, hr)
            hi = tl.where(new, 0.0, hi)
            qr = tl.where(new, 0.0, qr)
            qi = tl.where(new, 0.0, qi)
            sr = tl.where(new, 0.0, sr)
            si = tl.where(new, 0.0, si)
        sr, si = _turn(sr, si, ar, ai, lr, li)
        sr += hr
        si += hi
        qr, qi = _turn(qr, qi, ar, ai, lr, li)
        qr += value[:, None]
        hr, hi = _turn(hr, hi, ar, ai, lr, li)
        hr += br * value[:, None]
        hi += bi * value[:, None]
        shr += g[:, None] * hr
        shi += g[:, None] * hi
        sqr += g[:, None] * qr
        sqi += g[:, None] * qi
        ssr += g[:, None] * sr
        ssi += g[:, None] * si
        su += g * value
        p_u += sut
        p_g += sgt
        p_r += srt
    cr, ci = _pair(c + o_dn, 1, inside)
    # y = 2 (cr hr - ci hi), so the gradient of (hr, hi) is 2 dy (cr, -ci).
    dbr = 2.0 * (cr * sqr - ci * sqi)
    dbi = -2.0 * (cr * sqi + ci * sqr)
    dar = 2.0 * (cr * ssr - ci * ssi)
    dai = -2.0 * (cr * ssi + ci * ssr)
    if LAST:
        gr, gi = _pair(dlast + i_b * slb + d[:, None] * sld + n * sln, slc, inside)
        dbr += gr * qr + gi * qi
        dbi += gi * qr - gr * qi
        dar += gr * sr + gi * si
        dai += gi * sr - gr * si
    o_out = i_b * D * N * 2 + o_dn
    tl.store(da + o_out, dar, mask=inside)
    tl.store(da + o_out + 1, dai, mask=inside)
    tl.store(db + o_out, dbr, mask=inside)
    tl.store(db + o_out + 1, dbi, mask=inside)
    tl.store(dc + o_out, 2.0 * shr, mask=inside)
    tl.store(dc + o_out + 1, -2.0 * shi, mask=inside)
    tl.store(dskip + i_b * D + d, su, mask=d < D)


@triton.jit
def step_kernel(
    u, a, b, c, skip, pool, slots, y,
    D, N, sur, sud, spr, spd, spn, spc, sym, syd,
    BD: tl.constexpr, NP: tl.constexpr, SKIP: tl.constexpr,
):  # fmt: skip
    """One frame of BD channels of one row, its state updated in place."""
    i_m = tl.program_id(1).to(tl.int64)
    d = tl.program_id(0) * BD + tl.arange(0, BD)
    n = tl.arange(0, NP)[None, :]
    inside = (d[:, None] < D) & (n < N)
    slot = tl.load(slots + i_m).to(tl.int64)
    p_h = pool + slot * spr + d[:, None] * spd + n * spn
    hr, hi = _pair(p_h, spc, inside)
    o_dn = (d[:, None] * N + n) * 2
    wr, wi = _pair(a + o_dn, 1, inside)
    ar, lr = _two_floats(wr)
    ai, li = _two_floats(wi)
    br, bi = _pair(b + o_dn, 1, inside)
    cr, ci = _pair(c + o_dn, 1, inside)
    value = tl.load(u + i_m * sur + d * sud, mask=d < D, other=0.0).to(tl.float32)
    hr, hi, out = _frame(
        hr.to(tl.float32), hi.to(tl.float32), value, False, ar, ai, lr, li, br, bi, cr, ci, False
    )
    if SKIP:
        out += value * tl.load(skip + d, mask=d < D, other=0.0)
    tl.store(p_h, hr.to(pool.dtype.element_ty), mask=inside)
    tl.store(p_h + spc, hi.to(pool.dtype.element_ty), mask=inside)
    tl.store(y + i_m * sym + d * syd, out.to(y.dtype.element_ty), mask=d < D)


def lti(
    u: Tensor, system: System, initial_state: Tensor | None, resets: Tensor | None, mode: str | None
) -> tuple[Tensor, Tensor]:
    """See ``audiomamba.kernels.lti.lti``."""
    products = chunks.supports(u, system.b.shape[1], resets)
    if mode is None and products and u.shape[1] >= chunks.LEAST_FRAMES:
        mode = "chunked"
    elif mode is None:
        mode = "recurrent" if resets is not None or _recurrent(u, system) else "conv"
    if mode == "conv":
        return by_fft.lti(u, system, initial_state)
    if mode == "chunked" and products:
        y, state, _ = chunked(u, *tables(system), initial_state)
        return y, state
    if mode == "chunked":
        return by_chunks.lti(u, system, initial_state, resets)
    y, state = recurrence(u, *tables(system), initial_state, resets, "gpu")
    return y, state


def lti_step_(u: Tensor, system: System, pool: Tensor, slots: Tensor) -> Tensor:
    """See ``audiomamba.kernels.lti.lti_step_``."""
    y: Tensor = recurrence_step_(u, *tables(system), pool, slots)
    return y


def _recurrent(u: Tensor, system: System) -> bool:
    """Whether the recurrence is the faster of the two for a call."""
    states = system.b.shape[1]
    sizes = {"states": states, "all_states": u.shape[0] * u.shape[2] * states}
    return u.shape[1] <= pick_blocks("lti.mode", u.device, **sizes)["frames"]


def _conjugate(pairs: Tensor) -> Tensor:
    return torch.view_as_real(torch.view_as_complex(pairs.contiguous()).conj_physical())


def _blocks(kernel: str, u: Tensor, N: int) -> dict[str, int]:
    """Channels and padded pairs of a program, and how it is compiled."""
    row = pick_blocks(f"lti.{kernel}", u.device)
    pairs = triton.next_power_of_2(N)
    channels = max(1, min(row["states"] // pairs, triton.next_power_of_2(u.shape[-1])))
    return {"BD": channels, "NP": pairs, **row.settings}


def _recur(
    u: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    skip: Tensor | None,
    first: Tensor | None,
    resets: Tensor | None,
    like: Tensor,
    adjoint: bool,
) -> tuple[Tensor, Tensor]:
    B, T, D = u.shape
    N = a.shape[1]
    y = empty_like_layout(like)
    last = torch.empty((B, D, N, 2), dtype=torch.float32, device=u.device)
    blocks = _blocks("recurrence", u, N)
    tiles_d = triton.cdiv(D, blocks["BD"])
    start = last if first is None else first
    starts = u[..., 0] if resets is None else resets.view(torch.uint8)
    launch(
        recurrence_kernel,
        (B * tiles_d,),
        u, a.contiguous(), b.contiguous(), c.contiguous(), b if skip is None else skip, start,
        starts, y, last, T, D, N, tiles_d, *u.stride(), *start.stride(), *starts.stride(),
        *y.stride(), **blocks, SKIP=skip is not None, FIRST=first is not None,
        RESETS=resets is not None, ADJOINT=adjoint,
        enable_fp_fusion=adjoint,  # what a rounding lost is only found where there was one
    )  # fmt: skip
    return y, last


def forward(
    u: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    skip: Tensor | None,
    initial_state: Tensor | None,
    resets: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Launch the recurrence, T >= 1; arguments as ``op.ARGUMENTS``."""
    return _recur(u, a, b, c, skip, initial_state, resets, u, False)


def backward(
    dy: Tensor,
    dstate: Tensor | None,
    u: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    skip: Tensor | None,
    initial_state: Tensor | None,
    resets: Tensor | None,
) -> tuple[Tensor, ...]:
    """Launch the adjoint recurrence and the parameters' run."""
    B, T, D = u.shape
    N = a.shape[1]
    # The real 2 x 2 form of the system, transposed: Ā becomes its conjugate, B̄ and C change roles.
    mirrored = (_conjugate(a), 2 * _conjugate(c), 0.5 * _conjugate(b))
    du, dfirst = _recur(dy, *mirrored, skip, dstate, resets, u, True)
    partials = torch.empty((3, B, D, N, 2), dtype=torch.float32, device=u.device)
    dskip = torch.empty((B, D), dtype=torch.float32, device=u.device)
    blocks = _blocks("parameters", u, N)
    tiles_d = triton.cdiv(D, blocks["BD"])
    start = dfirst if initial_state is None else initial_state
    end = dfirst if dstate is None else dstate
    starts = u[..., 0] if resets is None else resets.view(torch.uint8)
    launch(
        parameters_kernel,
        (B * tiles_d,),
        dy, end, u, a.contiguous(), b.contiguous(), c.contiguous(), start, starts, *partials,
        dskip, T, D, N, tiles_d, *dy.stride(), *end.stride(), *u.stride(), *start.stride(),
        *starts.stride(), **blocks, FIRST=initial_state is not None, LAST=dstate is not None,
        RESETS=resets is not None,
    )  # fmt: skip
    da, db, dc = partials.sum(1)
    return du, da.to(a.dtype), db, dc, dskip.sum(0), dfirst


def step_(
    u: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    skip: Tensor | None,
    pool: Tensor,
    slots: Tensor,
) -> Tensor:
    """Launch a step; arguments as the operator's schema."""
    M, D = u.shape
    N = a.shape[1]
    y = torch.empty((M, D), dtype=u.dtype, device=u.device)
    if M == 0:
        return y
    blocks = _blocks("step", u, N)
    launch(
        step_kernel,
        (triton.cdiv(D, blocks["BD"]), M),
        u, a.contiguous(), b.contiguous(), c.contiguous(), b if skip is None else skip, pool,
        slots.contiguous(), y, D, N, *u.stride(), *pool.stride(), *y.stride(), **blocks,
        SKIP=skip is not None,
    )  # fmt: skip
    return y
