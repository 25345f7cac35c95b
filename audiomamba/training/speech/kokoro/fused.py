"""Triton kernels of the packed instance norms (``segments`` has the definition in plain PyTorch).

A program takes ``ROWS * STEPS`` rows of one utterance and up to 128 channels. The statistics are
taken in one read: a chunk's sums give its mean and squared deviations, and chunks are joined by
Chan's formula, so no sum of squares runs over a whole utterance.

Traffic: statistics reads x once (with a residual: reads two, writes one), activate reads and writes
once. Sine is a polynomial, because the library's sine would cost more than the memory does.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from audiomamba.training.speech.kokoro.segments import EPS, GAP, Affine, Segments

__all__ = ["activate", "statistics"]

# The kernels' pointers carry no annotations: Triton 3.6 reads those as globals and refuses.
ROWS, STEPS = 64, 8
CHUNK = ROWS * STEPS


@triton.jit(do_not_specialize=["rate", "extra", "chunks"])  # type: ignore[untyped-decorator]
def _partial_kernel(  # type: ignore[no-untyped-def]
    p_x, p_plus, p_bias, p_out, p_partial, p_starts, p_frames,
    C, rate, extra, chunks,
    HAS_PLUS: tl.constexpr, HAS_BIAS: tl.constexpr,
    ROWS: tl.constexpr, STEPS: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    i_chunk, i_segment, i_c = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    begin = tl.load(p_starts + i_segment) * rate
    count = tl.load(p_frames + i_segment) * rate + extra
    first = i_chunk * ROWS * STEPS
    if first < count:
        o_c = i_c * BC + tl.arange(0, BC)
        m_c = o_c < C
        b_sum = tl.zeros((BC,), tl.float32)
        b_square = tl.zeros((BC,), tl.float32)
        b_bias = tl.zeros((BC,), tl.float32)
        if HAS_BIAS:
            b_bias = tl.load(p_bias + o_c, mask=m_c, other=0.0)
        # Squares are taken about the chunk's first row, so that a large mean does not drown them.
        at = (begin + first).to(tl.int64) * C + o_c
        b_about = tl.load(p_x + at, mask=m_c, other=0.0).to(tl.float32)
        if HAS_PLUS:
            b_about += tl.load(p_plus + at, mask=m_c, other=0.0).to(tl.float32) + b_bias
        for step in range(STEPS):
            o_row = first + step * ROWS + tl.arange(0, ROWS)
            m = (o_row < count)[:, None] & m_c[None, :]
            at_row = (begin + o_row).to(tl.int64)[:, None] * C + o_c[None, :]
            b_x = tl.load(p_x + at_row, mask=m, other=0.0).to(tl.float32)
            if HAS_PLUS:
                b_x += tl.load(p_plus + at_row, mask=m, other=0.0).to(tl.float32) + b_bias[None, :]
                tl.store(p_out + at_row, b_x.to(p_out.dtype.element_ty), mask=m)
            b_d = tl.where(m, b_x - b_about[None, :], 0.0)
            b_sum += tl.sum(b_d, 0)
            b_square += tl.sum(b_d * b_d, 0)
        n = tl.minimum(count - first, ROWS * STEPS).to(tl.float32)
        p = p_partial + ((i_segment * chunks + i_chunk) * 2).to(tl.int64) * C + o_c
        tl.store(p, b_about + b_sum / n, mask=m_c)
        tl.store(p + C, b_square - b_sum * b_sum / n, mask=m_c)


@triton.jit(do_not_specialize=["rate", "extra", "chunks"])  # type: ignore[untyped-decorator]
def _join_kernel(  # type: ignore[no-untyped-def]
    p_partial, p_style, p_scale, p_shift, p_frames,
    C, rate, extra, chunks, eps,
    CHUNK: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    i_segment, i_c = tl.program_id(0), tl.program_id(1)
    count = tl.load(p_frames + i_segment) * rate + extra
    o_c = i_c * BC + tl.arange(0, BC)
    m_c = o_c < C
    used = (count + CHUNK - 1) // CHUNK
    p = p_partial + (i_segment * chunks * 2).to(tl.int64) * C + o_c
    b_mean = tl.zeros((BC,), tl.float32)
    for i in range(used):
        n = tl.minimum(count - i * CHUNK, CHUNK).to(tl.float32)
        b_mean += tl.load(p + i * 2 * C, mask=m_c, other=0.0) * (n / count)
    b_var = tl.zeros((BC,), tl.float32)
    for i in range(used):
        n = tl.minimum(count - i * CHUNK, CHUNK).to(tl.float32)
        b_d = tl.load(p + i * 2 * C, mask=m_c, other=0.0) - b_mean
        b_var += (tl.load(p + (i * 2 + 1) * C, mask=m_c, other=0.0) + n * b_d * b_d) / count
    gain = tl.load(p_style + i_segment * 2 * C + o_c, mask=m_c, other=0.0)
    offset = tl.load(p_style + i_segment * 2 * C + C + o_c, mask=m_c, other=0.0)
    b_scale = (1 + gain) / tl.sqrt(b_var + eps)
    tl.store(p_scale + i_segment * C + o_c, b_scale, mask=m_c)
    tl.store(p_shift + i_segment * C + o_c, offset - b_mean * b_scale, mask=m_c)


@triton.jit(do_not_specialize=["rate", "extra"])  # type: ignore[untyped-decorator]
def _activate_kernel(  # type: ignore[no-untyped-def]
    p_x, p_y, p_scale, p_shift, p_alpha, p_starts, p_frames,
    C, rate, extra, slope, factor,
    NORM: tl.constexpr, SNAKE: tl.constexpr, GAP: tl.constexpr,
    ROWS: tl.constexpr, STEPS: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    i_chunk, i_segment, i_c = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    start = tl.load(p_starts + i_segment)
    frames = tl.load(p_frames + i_segment)
    begin = start * rate
    count = frames * rate + extra
    # The gap after an utterance is its own to clear; the one before all is the first one's.
    end = (frames + GAP) * rate
    first = i_chunk * ROWS * STEPS
    o_c = i_c * BC + tl.arange(0, BC)
    m_c = o_c < C
    if first < end:
        if NORM:
            b_scale = tl.load(p_scale + i_segment * C + o_c, mask=m_c, other=0.0)[None, :]
            b_shift = tl.load(p_shift + i_segment * C + o_c, mask=m_c, other=0.0)[None, :]
        if SNAKE:
            b_alpha = tl.load(p_alpha + o_c, mask=m_c, other=1.0)[None, :]
            b_turn = b_alpha * 0.3183098861837907  # alpha / pi
            b_back = 1.0 / b_alpha
        for step in range(STEPS):
            o_row = first + step * ROWS + tl.arange(0, ROWS)
            m = (o_row < end)[:, None] & m_c[None, :]
            m_in = (o_row < count)[:, None] & m_c[None, :]
            at_row = (begin + o_row).to(tl.int64)[:, None] * C + o_c[None, :]
            b_y = tl.load(p_x + at_row, mask=m_in, other=0.0).to(tl.float32) * factor
            if NORM:
                b_y = b_y * b_scale + b_shift
            if SNAKE:
                # sin(pi t)**2 has period 1 in t: fold t to -0.5..0.5, then Taylor to t**9.
                t = b_y * b_turn
                t -= tl.floor(t + 0.5)
                u = t * t
                s = 0.0821459 * u - 0.5992645
                s = s * u + 2.5501640
                s = s * u - 5.1677128
                s = (s * u + 3.1415927) * t
                b_y += s * s * b_back
            else:
                b_y = tl.where(b_y > 0, b_y, b_y * slope)
            b_y = tl.where(m_in, b_y, 0.0)
            tl.store(p_y + at_row, b_y.to(p_y.dtype.element_ty), mask=m)
    if (i_segment == 0) & (i_chunk == 0):
        for lead in range(0, GAP * rate, ROWS):
            o_row = lead + tl.arange(0, ROWS)
            m = (o_row < GAP * rate)[:, None] & m_c[None, :]
            zero = tl.zeros((ROWS, BC), p_y.dtype.element_ty)
            tl.store(p_y + o_row[:, None] * C + o_c[None, :], zero, mask=m)


def statistics(
    x: Tensor,
    style: Tensor,
    segments: Segments,
    rate: int,
    *,
    extra: int,
    plus: Tensor | None,
    bias: Tensor | None,
) -> tuple[Tensor, Affine]:
    """See ``segments.statistics``."""
    S, C = len(segments.starts), x.shape[1]
    chunks = triton.cdiv(segments.longest * rate + extra, CHUNK)
    block = min(128, triton.next_power_of_2(C))
    columns = triton.cdiv(C, block)
    partial = torch.empty(S, chunks, 2, C, device=x.device)
    scale, shift = torch.empty(2, S, C, device=x.device)
    out = x if plus is None else torch.empty_like(x)
    _partial_kernel[(chunks, S, columns)](
        x, plus, bias, out, partial, segments.starts, segments.frames,
        C, rate, extra, chunks,
        HAS_PLUS=plus is not None, HAS_BIAS=bias is not None,
        ROWS=ROWS, STEPS=STEPS, BC=block, num_warps=8,
    )  # fmt: skip
    _join_kernel[(S, columns)](
        partial, style.contiguous(), scale, shift, segments.frames, C, rate, extra, chunks, EPS,
        CHUNK=CHUNK, BC=block, num_warps=4,
    )  # fmt: skip
    return out, Affine(scale, shift)


def activate(
    x: Tensor,
    affine: Affine | None,
    segments: Segments,
    rate: int,
    *,
    extra: int,
    slope: float,
    alpha: Tensor | None,
    factor: float,
) -> Tensor:
    """See ``segments.activate``."""
    C = x.shape[1]
    chunks = triton.cdiv((segments.longest + GAP) * rate, CHUNK)
    block = min(128, triton.next_power_of_2(C))
    y = torch.empty_like(x)
    scale, shift = affine if affine is not None else (None, None)
    _activate_kernel[(chunks, len(segments.starts), triton.cdiv(C, block))](
        x, y, scale, shift, alpha, segments.starts, segments.frames,
        C, rate, extra, slope, factor,
        NORM=affine is not None, SNAKE=alpha is not None, GAP=GAP,
        ROWS=ROWS, STEPS=STEPS, BC=block, num_warps=8,
    )  # fmt: skip
    return y
