"""The step of Mamba-3 on a CPU: the rows are gathered, advanced together and put back."""

import torch
from torch import Tensor
from torch.nn import functional

from audiomamba.kernels.mamba3.reference import coefficients, turn

__all__ = ["step_"]


def step_(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    mix: Tensor,
    angle: Tensor,
    B: Tensor,
    C: Tensor,
    turns: Tensor,
    state: Tensor,
    key: Tensor,
    value: Tensor,
    slots: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
) -> Tensor:
    """Advance rows ``slots`` of the pool by one step and return the output."""
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    pool = (turns, state, key, value)
    angles, S, last_key, last_value = (v.index_select(0, slots).to(wide) for v in pool)
    dt, log_decay, now, before, speed = coefficients(delta, A, mix, angle, delta_bias, wide)
    angles = (angles + speed[:, None] * dt[..., None]).frac_()
    angles = torch.where(angles < 0, angles + 1, angles)
    k, q = (turn(v.to(wide), angles) for v in (B, C))
    u = x.to(wide)
    S += (before[..., None] * last_value)[..., None] * last_key[:, :, None]
    S *= log_decay.exp()[..., None, None]
    S += (now[..., None] * u)[..., None] * k[:, :, None]
    for into, new in zip(pool, (angles, S, k, u), strict=True):
        into.index_copy_(0, slots.long(), new.to(into.dtype))
    y = (S * q[:, :, None]).sum(-1)
    if D is not None:
        y += D[:, None] * u
    if z is not None:
        y *= functional.silu(z.to(wide))
    return y.to(x.dtype)
