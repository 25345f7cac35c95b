"""``conv`` in Triton: forward and backward.

A thread owns FRAMES successive frames of a channel and keeps their taps' inputs in registers, so
each input is loaded about (FRAMES + K - 1) / FRAMES times, not K times, and the backward can
recompute the activation's slope where it needs it. README.md has the derivation.
"""

from typing import Final

import torch
import triton
import triton.language as tl
from torch import Tensor

from audiomamba.kernels.approximate import HAS_APPROXIMATIONS, sigmoid
from audiomamba.kernels.blocks import Blocks, multiprocessors, pick_blocks
from audiomamba.kernels.conv.frames import step_
from audiomamba.kernels.conv.op import empty_like_layout, register
from audiomamba.kernels.conv.vectors import vectors_backward_kernel, vectors_kernel
from audiomamba.kernels.conv.weights import load_taps, store_sums
from audiomamba.kernels.launching import launch

__all__ = ["backward_kernel", "conv", "conv_step_", "forward_kernel"]

MOST_TAPS: Final = 17  # of the kernels of whole vectors
PROGRAMS: Final = 8  # of the backward a multiprocessor, at most: it cuts time to get there


@triton.jit
def _inputs_at(x, h, t, d, T, D, sxt, shk, shd, K: tl.constexpr, STATE: tl.constexpr):
    """Load inputs at frames t (1, NT) of channels d (BD, 1); frames before 0 lie in the state."""
    value = tl.load(x + t * sxt, mask=(t >= 0) & (t < T) & (d < D), other=0.0)
    if STATE:
        early = (t < 0) & (t > -K) & (d < D)
        # One operand is zero wherever the other is loaded.
        value += tl.load(h + (t + (K - 1)) * shk + d * shd, mask=early, other=0.0)
    return value.to(tl.float32)


@triton.jit
def _segment_at(segment, t, T):
    """Number of the sequence frame t belongs to; frames before 0 belong to number 0."""
    return tl.load(segment + t, mask=(t >= 0) & (t < T), other=0)


@triton.jit
def forward_kernel(
    x, weight, bias, h, segment, y, last,
    T, D, tiles_d, tiles_t, sxb, sxt, sxd, swd, swk, shb, shk, shd, syb, syt, syd,
    K: tl.constexpr, KP: tl.constexpr, BD: tl.constexpr, NT: tl.constexpr, FRAMES: tl.constexpr,
    BIAS: tl.constexpr, STATE: tl.constexpr, RESETS: tl.constexpr, SILU: tl.constexpr,
    REVERSE: tl.constexpr,
):  # fmt: skip
    """Outputs of BD channels and NT * FRAMES frames of one row; the first tile writes the state."""
    pid = tl.program_id(0)
    i_t = pid % tiles_t
    i_d = (pid // tiles_t) % tiles_d
    i_b = (pid // tiles_t // tiles_d).to(tl.int64)
    d = i_d * BD + tl.arange(0, BD)[:, None]
    if REVERSE:  # in order of processing, time runs down
        x += tl.cast(T - 1, tl.int64) * sxt
        y += tl.cast(T - 1, tl.int64) * syt
        sxt, syt = -sxt, -syt
    p_x = x + i_b * sxb + d.to(tl.int64) * sxd
    p_y = y + i_b * syb + d.to(tl.int64) * syd
    h += i_b * shb
    segment += i_b * T
    # Frames count from 0 in each thread; the tile's own offset may need 64 bits.
    t0 = i_t * (NT * FRAMES)
    o_t = t0 + tl.arange(0, NT)[None, :] * FRAMES

    w = load_taps(weight, d, D, swd, swk, K)
    inputs = ()
    for i in tl.static_range(FRAMES + K - 1):
        t = o_t + (i - K + 1)
        inputs = inputs + (_inputs_at(p_x, h, t, d, T, D, sxt, shk, shd, K, STATE),)
    segments = ()
    if RESETS:
        for i in tl.static_range(FRAMES + K - 1):
            segments = segments + (_segment_at(segment, o_t + (i - K + 1), T),)
    for j in tl.static_range(FRAMES):
        z = tl.zeros((BD, NT), tl.float32)
        if BIAS:
            z += tl.load(bias + d, mask=d < D, other=0.0).to(tl.float32)
        for k in tl.static_range(K):
            tap = w[k] * inputs[j + k]
            if RESETS:
                tap = tl.where(segments[j + k] == segments[j + K - 1], tap, 0.0)
            z += tap
        if SILU:
            z *= sigmoid(z)
        t = o_t + j
        tl.store(p_y + t * syt, z.to(y.dtype.element_ty), mask=(t < T) & (d < D))
    if K > 1:
        if i_t == 0:
            o_k = tl.arange(0, KP)[None, :]
            o_end = T - (K - 1) + o_k
            value = _inputs_at(p_x, h, o_end, d, T, D, sxt, shk, shd, K, STATE)
            if RESETS:
                same = _segment_at(segment, o_end, T) == tl.load(segment + T - 1)
                value = tl.where(same, value, 0.0)
            p_last = last + i_b * (K - 1) * D + o_k * D + d
            tl.store(p_last, value.to(last.dtype.element_ty), mask=(o_k < K - 1) & (d < D))


@triton.jit
def backward_kernel(
    dy, dlast, x, weight, bias, h, segment, dx, dh, dweight, dbias,
    T, D, tiles_d, splits, tiles_split,
    sgb, sgt, sgd, slb, slk, sld, sxb, sxt, sxd, swd, swk, shb, shk, shd, sdb, sdt, sdd,
    K: tl.constexpr, BD: tl.constexpr, NT: tl.constexpr, FRAMES: tl.constexpr, BIAS: tl.constexpr,
    STATE: tl.constexpr, LAST: tl.constexpr, RESETS: tl.constexpr, SILU: tl.constexpr,
    REVERSE: tl.constexpr,
):  # fmt: skip
    """Gradients of BD channels over ``tiles_split`` tiles of time of one row.

    Sums over time stay in registers until the end, one partial a program: (B * splits, D, K).
    """
    pid = tl.program_id(0)
    i_s = pid % splits
    i_d = (pid // splits) % tiles_d
    i_b = (pid // splits // tiles_d).to(tl.int64)
    d = i_d * BD + tl.arange(0, BD)[:, None]
    if REVERSE:
        dy += tl.cast(T - 1, tl.int64) * sgt
        x += tl.cast(T - 1, tl.int64) * sxt
        dx += tl.cast(T - 1, tl.int64) * sdt
        sgt, sxt, sdt = -sgt, -sxt, -sdt
    p_dy = dy + i_b * sgb + d.to(tl.int64) * sgd
    p_x = x + i_b * sxb + d.to(tl.int64) * sxd
    p_dx = dx + i_b * sdb + d.to(tl.int64) * sdd
    h += i_b * shb
    dlast += i_b * slb
    segment += i_b * T

    w = load_taps(weight, d, D, swd, swk, K)
    dw = ()
    for _ in tl.static_range(K):
        dw = dw + (tl.zeros((BD, NT), tl.float32),)
    db = tl.zeros((BD, NT), tl.float32)
    bias_d = tl.zeros((BD, 1), tl.float32)
    if BIAS:
        bias_d += tl.load(bias + d, mask=d < D, other=0.0).to(tl.float32)

    first = i_s * tiles_split
    if STATE:  # the state's gradient lies before frame 0
        if i_s == 0:
            first -= 1
    for i_t in range(first, (i_s + 1) * tiles_split):
        o_t = i_t * (NT * FRAMES) + tl.arange(0, NT)[None, :] * FRAMES
        inputs = ()
        segments = ()
        # Frame o_t + i - (K - 1); past o_t + FRAMES only the slope of the activation needs them.
        for i in tl.static_range(FRAMES + 2 * (K - 1)):
            t = o_t + (i - K + 1)
            if SILU or i < FRAMES + K - 1:
                inputs = inputs + (_inputs_at(p_x, h, t, d, T, D, sxt, shk, shd, K, STATE),)
            if RESETS:
                segments = segments + (_segment_at(segment, t, T),)
        dz = ()
        for i in tl.static_range(FRAMES + K - 1):
            t = o_t + i
            g = tl.load(p_dy + t * sgt, mask=(t >= 0) & (t < T) & (d < D), other=0.0)
            g = g.to(tl.float32)
            if SILU:
                z = tl.zeros((BD, NT), tl.float32) + bias_d
                for k in tl.static_range(K):
                    tap = w[k] * inputs[i + k]
                    if RESETS:
                        tap = tl.where(segments[i + k] == segments[i + K - 1], tap, 0.0)
                    z += tap
                s = sigmoid(z)
                g *= s * (1.0 + z * (1.0 - s))
            dz = dz + (g,)
        sums = ()
        for k in tl.static_range(K):
            total = dw[k]
            for j in tl.static_range(FRAMES):
                source = inputs[j + k]
                if RESETS:
                    source = tl.where(segments[j + k] == segments[j + K - 1], source, 0.0)
                total += dz[j] * source
            sums = sums + (total,)
        dw = sums
        for j in tl.static_range(FRAMES):
            t = o_t + j
            db += dz[j]
            g = tl.zeros((BD, NT), tl.float32)
            for k in tl.static_range(K):
                tap = w[k] * dz[j + K - 1 - k]
                if RESETS:
                    same = segments[j + K - 1] == segments[j + 2 * (K - 1) - k]
                    tap = tl.where(same, tap, 0.0)
                g += tap
            if LAST:
                o_k = t - (T - (K - 1))
                kept = (o_k >= 0) & (o_k < K - 1) & (d < D)
                end = tl.load(dlast + o_k * slk + d * sld, mask=kept, other=0.0).to(tl.float32)
                if RESETS:
                    end = tl.where(segments[j + K - 1] == tl.load(segment + T - 1), end, 0.0)
                g += end
            tl.store(p_dx + t * sdt, g.to(dx.dtype.element_ty), mask=(t >= 0) & (t < T) & (d < D))
            if STATE:
                o_k = t + (K - 1)
                p_dh = dh + i_b * (K - 1) * D + o_k * D + d
                tl.store(p_dh, g.to(dh.dtype.element_ty), mask=(t < 0) & (o_k >= 0) & (d < D))
    store_sums(dweight, dbias, dw, db, (i_b * splits + i_s) * D, i_d, D, K, BD, BIAS)


def _in_vectors(K: int, resets: Tensor | None, reverse: bool, *inputs: Tensor) -> bool:
    """Whether the kernels of ``vectors`` can do it, and do it faster."""
    in_time = all(x.stride(1) == 1 for x in inputs)
    return in_time and not reverse and resets is None and K <= MOST_TAPS


def _vectors(kernel: str, x: Tensor, taps: int) -> tuple[Blocks, int]:
    """Block sizes, and lanes in time, of eight frames each."""
    row = pick_blocks(f"conv.vectors_{kernel}", x.device, taps=taps)
    return row, min(row["threads_time"], triton.next_power_of_2(triton.cdiv(x.shape[1], 8)))


def _fast(x: Tensor) -> bool:
    return x.dtype != torch.float32 and HAS_APPROXIMATIONS


def _tile(kernel: str, x: Tensor, taps: int, gradient: Tensor | None = None) -> Blocks:
    rows, frames, channels = x.shape
    return pick_blocks(
        f"conv.{kernel}",
        x.device,
        time_contiguous=_along_time(x),
        gradient_contiguous=0 if gradient is None else _along_time(gradient),
        frames=frames,
        taps=taps,
        pairs=rows * channels,
    )


def _along_time(x: Tensor) -> int:
    return int(x.stride(1) < x.stride(2))


def _segments(resets: Tensor | None, x: Tensor, reverse: bool) -> Tensor:
    """Number each row's sequences in order of processing, ``(B, T)`` int32."""
    if resets is None:
        return x  # a pointer that is never followed
    return (resets.flip(1) if reverse else resets).cumsum(1, dtype=torch.int32).contiguous()


def _forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial_state: Tensor | None,
    resets: Tensor | None,
    silu: bool,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    B, T, D = x.shape
    K = weight.shape[1]
    y = empty_like_layout(x)
    if T == 0 or B == 0:
        shape = (B, K - 1, D)
        return y, x.new_zeros(shape) if initial_state is None else initial_state.clone(
            memory_format=torch.contiguous_format
        )
    last = torch.empty((B, K - 1, D), dtype=x.dtype, device=x.device)
    state = x if initial_state is None else initial_state
    options = {
        "K": K, "KP": triton.next_power_of_2(max(K - 1, 1)), "BIAS": bias is not None,
        "STATE": initial_state is not None and K > 1, "SILU": silu,
    }  # fmt: skip
    if _in_vectors(K, resets, reverse, x):
        row, width = _vectors("forward", x, K)
        tiles_d = triton.cdiv(D, row["channels"])
        tiles_t = triton.cdiv(T, 8 * width)
        launch(
            vectors_kernel,
            (B, tiles_d, tiles_t),
            x, weight, bias if bias is not None else x, state, y, last, T, D,
            *x.stride()[::2], *weight.stride(), *state.stride(), *y.stride()[::2],
            BD=row["channels"], NT=width, FAST=_fast(x), **options, **row.settings,
        )  # fmt: skip
        return y, last
    tile = _tile("forward", x, K)
    tiles_d = triton.cdiv(D, tile["channels"])
    tiles_t = triton.cdiv(T, tile["threads_time"] * tile["frames"])
    launch(
        forward_kernel,
        (B * tiles_d * tiles_t,),
        x, weight, bias if bias is not None else x, state, _segments(resets, x, reverse), y, last,
        T, D, tiles_d, tiles_t, *x.stride(), *weight.stride(), *state.stride(), *y.stride(),
        BD=tile["channels"], NT=tile["threads_time"], FRAMES=tile["frames"],
        RESETS=resets is not None and K > 1, REVERSE=reverse, **options, **tile.settings,
    )  # fmt: skip
    return y, last


def _backward(
    grad_y: Tensor,
    grad_state: Tensor | None,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial_state: Tensor | None,
    resets: Tensor | None,
    silu: bool,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    B, T, D = x.shape
    K = weight.shape[1]
    dx = empty_like_layout(x)
    dstate = (
        x.new_empty(0)
        if initial_state is None
        else torch.empty((B, K - 1, D), dtype=x.dtype, device=x.device)
    )
    if T == 0 or B == 0:
        if initial_state is not None:
            dstate = (
                torch.zeros_like(dstate)
                if grad_state is None
                else grad_state.clone(memory_format=torch.contiguous_format)
            )
        return (
            dx,
            torch.zeros_like(weight),
            (weight.new_empty(0) if bias is None else torch.zeros_like(bias)),
            dstate,
        )
    vectors = _in_vectors(K, resets, reverse, x, grad_y)
    if vectors:
        tile, width = _vectors("backward", x, K)
        frames = 8
    else:
        tile = _tile("backward", x, K, grad_y)
        width, frames = tile["threads_time"], tile["frames"]
    tiles_d = triton.cdiv(D, tile["channels"])
    tiles_t = triton.cdiv(T, width * frames)
    splits = max(1, min(tiles_t, PROGRAMS * multiprocessors(x.device) // (B * tiles_d)))
    dweight = torch.empty((B * splits, D, K), dtype=torch.float32, device=x.device)
    dbias = torch.empty((B * splits, D), dtype=torch.float32, device=x.device)
    state = x if initial_state is None else initial_state
    end = x if grad_state is None else grad_state
    biases = bias if bias is not None else x
    dh = dstate if initial_state is not None else x
    per_split = triton.cdiv(tiles_t, splits)
    options = {
        "K": K, "BD": tile["channels"], "NT": width, "BIAS": bias is not None,
        "STATE": initial_state is not None and K > 1, "LAST": grad_state is not None and K > 1,
        "SILU": silu,
    }  # fmt: skip
    if vectors:
        launch(
            vectors_backward_kernel,
            (B, tiles_d, splits),
            grad_y, end, x, weight, biases, state, dx, dh, dweight, dbias,
            T, D, splits, per_split, *grad_y.stride()[::2], *end.stride(),
            *x.stride()[::2], *weight.stride(), *state.stride(), *dx.stride()[::2],
            FAST=_fast(x), **options, **tile.settings,
        )  # fmt: skip
    else:
        launch(
            backward_kernel,
            (B * tiles_d * splits,),
            grad_y, end, x, weight, biases, state, _segments(resets, x, reverse), dx, dh,
            dweight, dbias, T, D, tiles_d, splits, per_split, *grad_y.stride(), *end.stride(),
            *x.stride(), *weight.stride(), *state.stride(), *dx.stride(),
            FRAMES=frames, RESETS=resets is not None and K > 1, REVERSE=reverse,
            **options, **tile.settings,
        )  # fmt: skip
    return (
        dx,
        dweight.sum(0).to(weight.dtype),
        weight.new_empty(0) if bias is None else dbias.sum(0).to(bias.dtype),
        dstate,
    )


_operators = register("gpu", _forward, _backward, step_, empty_like_layout)
conv, conv_step_ = _operators.conv, _operators.conv_step_
