"""Steps of ``conv`` in Triton: one frame of some rows of a pool, or several."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from audiomamba.kernels.approximate import sigmoid
from audiomamba.kernels.blocks import pick_blocks
from audiomamba.kernels.launching import launch

__all__ = ["step_", "step_kernel", "steps_kernel"]


@triton.jit
def step_kernel(
    x, weight, bias, pool, slots, y, D, sxm, sxd, swd, swk, spr, spk, spd, sym, syd,
    K: tl.constexpr, BD: tl.constexpr, BIAS: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    """One frame of BD channels of one row; the state moves up by one place."""
    i_m = tl.program_id(1).to(tl.int64)
    d = tl.program_id(0) * BD + tl.arange(0, BD)
    inside = d < D
    slot = tl.load(slots + i_m).to(tl.int64)
    named = inside & (slot >= 0)
    p_pool = pool + slot * spr + d * spd
    newest = tl.load(x + i_m * sxm + d * sxd, mask=inside, other=0.0)
    newest = newest.to(pool.dtype.element_ty)
    z = tl.zeros((BD,), tl.float32)
    if BIAS:
        z += tl.load(bias + d, mask=inside, other=0.0).to(tl.float32)
    for k in tl.static_range(K):
        w = tl.load(weight + d * swd + k * swk, mask=inside, other=0.0).to(tl.float32)
        if k < K - 1:
            value = tl.load(p_pool + k * spk, mask=named, other=0.0)
            if k > 0:
                tl.store(p_pool + (k - 1) * spk, value, mask=named)
        else:
            value = newest
            if k > 0:
                tl.store(p_pool + (k - 1) * spk, value, mask=named)
        z += w * value.to(tl.float32)
    if SILU:
        z *= sigmoid(z)
    z = tl.where(named, z, 0.0)
    tl.store(y + i_m * sym + d * syd, z.to(y.dtype.element_ty), mask=inside)


@triton.jit
def steps_kernel(
    x, weight, bias, pool, slots, y, T, D, sxm, sxt, sxd, swd, swk, spr, spk, spd, sym, syt, syd,
    K: tl.constexpr, KP: tl.constexpr, BD: tl.constexpr, NT: tl.constexpr,
    BIAS: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    """T frames of BD channels of one row, NT at once; the state moves up by T places."""
    i_m = tl.program_id(1).to(tl.int64)
    d = tl.program_id(0) * BD + tl.arange(0, BD)[:, None]
    inside = d < D
    slot = tl.load(slots + i_m).to(tl.int64)
    named = inside & (slot >= 0)
    p_x = x + i_m * sxm + d * sxd
    p_pool = pool + slot * spr + d * spd
    p_y = y + i_m * sym + d * syd
    for t0 in range(0, T, NT):
        t = t0 + tl.arange(0, NT)[None, :]
        z = tl.zeros((BD, NT), tl.float32)
        if BIAS:
            z += tl.load(bias + d, mask=inside, other=0.0).to(tl.float32)
        for k in tl.static_range(K):
            w = tl.load(weight + d * swd + k * swk, mask=inside, other=0.0).to(tl.float32)
            z += w * _window(p_x, p_pool, t + (k - K + 1), T, inside, named, sxt, spk, K)
        if SILU:
            z *= sigmoid(z)
        z = tl.where(named, z, 0.0)
        tl.store(p_y + t * syt, z.to(y.dtype.element_ty), mask=inside & (t < T))
    if K > 1:
        j = tl.arange(0, KP)[None, :]
        last = _window(p_x, p_pool, T + j - (K - 1), T, inside, named, sxt, spk, K)
        # All of the old state is read before any of it is written, also by other threads.
        tl.debug_barrier()
        last = last.to(pool.dtype.element_ty)
        tl.store(p_pool + j * spk, last, mask=named & (j < K - 1))


@triton.jit
def _window(p_x, p_pool, t, T, inside, named, sxt, spk, K: tl.constexpr):
    """Inputs at frames t, (BD, NT), as the pool would keep them; those before 0 lie in it."""
    dtype: tl.constexpr = p_pool.dtype.element_ty
    value = tl.load(p_x + t * sxt, mask=(t >= 0) & (t < T) & inside, other=0.0).to(dtype)
    early = (t < 0) & (t > -K) & named
    # One operand is zero wherever the other is loaded.
    return value.to(tl.float32) + tl.load(p_pool + (t + (K - 1)) * spk, mask=early, other=0.0).to(
        tl.float32
    )


def step_(
    x: Tensor, weight: Tensor, bias: Tensor | None, pool: Tensor, slots: Tensor, silu: bool
) -> Tensor:
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if x.numel() == 0:
        return y
    if x.ndim == 3:
        return _steps_(x, weight, bias, pool, slots, silu, y)
    M, D = x.shape
    row = pick_blocks("conv.step", x.device)
    block = min(triton.next_power_of_2(D), row["channels"])
    launch(
        step_kernel,
        (triton.cdiv(D, block), M),
        x, weight, bias if bias is not None else x, pool, slots.contiguous(), y, D, *x.stride(),
        *weight.stride(), *pool.stride(), *y.stride(),
        K=weight.shape[1], BD=block, BIAS=bias is not None, SILU=silu, **row.settings,
    )  # fmt: skip
    return y


def _steps_(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    pool: Tensor,
    slots: Tensor,
    silu: bool,
    y: Tensor,
) -> Tensor:
    M, T, D = x.shape
    K = weight.shape[1]
    row = pick_blocks("conv.steps", x.device)
    frames = min(triton.next_power_of_2(T), row["frames"])
    block = min(triton.next_power_of_2(D), row["channels"])
    launch(
        steps_kernel,
        (triton.cdiv(D, block), M),
        x, weight, bias if bias is not None else x, pool, slots.contiguous(), y, T, D,
        *x.stride(), *weight.stride(), *pool.stride(), *y.stride(),
        K=K, KP=triton.next_power_of_2(max(K - 1, 1)), BD=block, NT=frames,
        BIAS=bias is not None, SILU=silu, **row.settings,
    )  # fmt: skip
    return y
