"""Mamba-3 in chunks: PyTorch makes angles, keys and weights, state-space duality does the rest.

The trapezoid adds the last sample once more when the next one comes. Here each sample is added
with both weights at once, which makes one term a step, and what came early is taken off the
output. README.md has the derivation. Gradients come from autograd and from the duality's own.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from audiomamba.kernels.mamba3.reference import coefficients, turn
from audiomamba.kernels.ssd import ssd

__all__ = ["Turned", "mamba3", "running_turns"]


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
    dt, log_decay, now, before, speed = coefficients(delta, A, mix, angle, delta_bias, wide)
    turns = running_turns(speed[:, :, None] * dt[..., None], first[0], resets)
    # The GPU's products take keys and queries in the dtype of x.
    taken = x.dtype if implementation == "gpu" else wide
    k, q = (Turned.apply(v.to(wide), turns, taken) for v in (B, C))  # (B, T, H, N)
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


class Turned(torch.autograd.Function):
    """``turn``, rounded to ``dtype``, and the gradient of the angles as of what was rounded.

    An angle turns all later keys and queries alike, which changes nothing among them: summed over
    later steps their gradients cancel, but for what the state before them adds. They cancel of the
    values that the products took, not of those from before the rounding.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, turns: Tensor, dtype: torch.dtype) -> Tensor:
        turned = turn(x, turns).to(dtype).to(x.dtype)
        ctx.save_for_backward(turned, turns)
        return turned

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        turned, turns = ctx.saved_tensors
        count = turns.shape[-1]
        pairs = (v[..., : 2 * count].unflatten(-1, (count, 2)) for v in (turned, gradient))
        (first, second), (of_first, of_second) = (v.unbind(-1) for v in pairs)
        of_turns = 2 * math.pi * (first * of_second - second * of_first)
        return turn(gradient, -turns), of_turns, None


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
