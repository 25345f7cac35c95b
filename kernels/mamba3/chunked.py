"""Mamba-3 in chunks: angles, keys and weights first, state-space duality does the rest.

The trapezoid adds the last sample once more when the next one comes. Here each sample is added
with both weights at once, which makes one term a step, and what came early is taken off the
output. README.md has the derivation. On a GPU kernels of our own make what goes into the duality
and what comes out, elsewhere PyTorch does, and autograd differentiates that.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from audiomamba.kernels.mamba3 import op
from audiomamba.kernels.mamba3.reference import coefficients, turn
from audiomamba.kernels.ssd import ssd

__all__ = ["mamba3", "running_turns"]


def mamba3(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    mix: Tensor,
    angle: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: tuple[Tensor, ...],
    resets: Tensor | None,
    implementation: str,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run the recurrence; ``audiomamba.kernels.mamba3.mamba3`` has checked the shapes."""
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    first = tuple(v.to(wide) for v in initial_state)
    if x.shape[1] == 0:
        return torch.empty_like(x), tuple(v.clone() for v in first)
    if implementation == "gpu":
        return _on_gpu(x, delta, A, mix, angle, B, C, D, z, delta_bias, first, resets)
    dt, log_decay, now, before, speed = coefficients(delta, A, mix, angle, delta_bias, wide)
    turns = running_turns(speed[:, :, None] * dt[..., None], first[0], resets)
    k, q = (Turned.apply(v.to(wide), turns) for v in (B, C))  # (B, T, H, N)
    if resets is not None:
        before = before.masked_fill(resets[..., None], 0.0)
    early = functional.pad(before[:, 1:], (0, 0, 0, 1))  # of this sample, due at the next step
    state = first[1] + (before[:, 0, :, None] * first[3])[..., None] * first[2][:, :, None]
    y, state = ssd(
        x,
        now + early,
        log_decay,
        k,
        q,
        softplus=False,
        initial_state=state,
        resets=resets,
        implementation=implementation,
    )
    u = x.to(wide)
    take_off = early * (k * q).sum(-1)
    y = y.to(wide) + ((0.0 if D is None else D) - take_off)[..., None] * u
    if z is not None:
        y = y * functional.silu(z.to(wide))
    key = turn(B[:, -1].to(wide), turns[:, -1])  # the next call's to round
    return y.to(x.dtype), (turns[:, -1], state, key, u[:, -1])


def _on_gpu(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    mix: Tensor,
    angle: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    first: tuple[Tensor, ...],
    resets: Tensor | None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The same with kernels before and after those of the duality, T >= 1."""
    turns, state, key, value = first
    leaves = (delta, A, mix, angle, B, C, delta_bias, *first, x, D, z)
    save = torch.is_grad_enabled() and any(v is not None and v.requires_grad for v in leaves)
    size, log_decay, take, k, q, turns, _ = op.mamba3_turn(
        delta, A, mix, angle, B, C, delta_bias, turns, resets, x.dtype, save
    )
    # What the sample before the first one is still to add.
    _, _, _, before, _ = coefficients(
        delta[:, :1], A[:, :1], mix[:, :1], angle[:, :1], delta_bias, torch.float32
    )
    if resets is not None:
        before = before.masked_fill(resets[:, :1, None], 0.0)
    state = state + (before[:, 0, :, None] * value)[..., None] * key[:, :, None]
    y, state = ssd(
        x,
        size,
        log_decay,
        k,
        q,
        softplus=False,
        initial_state=state,
        resets=resets,
        implementation="gpu",
    )
    y = op.mamba3_emit(y, x, take, D, z)
    key = turn(B[:, -1].float(), turns)  # the next call's to round
    return y, (turns, state, key, x[:, -1].float())


class Turned(torch.autograd.Function):
    """``turn``, which keeps its result alone: the gradient of the angles can be had of it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, turns: Tensor) -> Tensor:
        turned = turn(x, turns)
        ctx.save_for_backward(turned, turns)
        return turned

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        turned, turns = ctx.saved_tensors
        count = turns.shape[-1]
        pairs = (v[..., : 2 * count].unflatten(-1, (count, 2)) for v in (turned, gradient))
        (first, second), (of_first, of_second) = (v.unbind(-1) for v in pairs)
        of_turns = 2 * math.pi * (first * of_second - second * of_first)
        return turn(gradient, -turns), of_turns


def running_turns(steps: Tensor, start: Tensor, resets: Tensor | None) -> Tensor:
    """Sums of ``steps (B, T, H, R)`` over time from ``start (B, H, R)`` on, modulo 1.

    They are added up in float64: of a float32 sum of thousands of turns the fraction, which alone
    counts, would keep few digits. After a reset the sum starts from 0, whatever came before, NaN
    included.
    """
    if resets is None:
        turns = start.unsqueeze(1) + steps.double().cumsum(1)
    else:
        finite = steps.isfinite()
        clean = steps.double().masked_fill(~finite, 0.0)
        total = clean.cumsum(1)
        times = torch.arange(steps.shape[1], device=steps.device)
        begin = torch.where(resets, times, 0).cummax(1).values  # (B, T), last reset so far
        fresh = resets.cumsum(1)[..., None, None] > 0
        index = begin[..., None, None].expand(steps.shape)
        since = total - (total - clean).gather(1, index)
        turns = torch.where(fresh, 0.0, start.double().unsqueeze(1)) + since
        spoilt = (~finite).cumsum(1)
        spoilt = spoilt - (spoilt - (~finite).long()).gather(1, index)
        turns = turns.masked_fill(spoilt > 0, torch.nan)
    return (turns - turns.detach().floor()).to(steps.dtype)
