"""The definition of Mamba-3's recurrence as a loop over time, differentiable by autograd.

Everything is computed in float32, or in float64 if ``x`` is float64.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["coefficients", "mamba3", "mamba3_step_", "turn"]

LEAST_DECAY = 1e-4  # of A, so that a state is forgotten at last


def mamba3(
    x: Tensor,  # (B, T, H, P)
    delta: Tensor,  # (B, T, H)
    A: Tensor,  # (B, T, H)
    mix: Tensor,  # (B, T, H)
    angle: Tensor,  # (B, T, R)
    B: Tensor,  # (B, T, H, N)
    C: Tensor,  # (B, T, H, N)
    D: Tensor | None,  # (H,)
    z: Tensor | None,  # (B, T, H, P)
    delta_bias: Tensor | None,  # (H,)
    initial_state: tuple[Tensor, ...],  # turns, state, key, value
    resets: Tensor | None,  # (B, T)
    implementation: str,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run the recurrence; ``audiomamba.kernels.mamba3.mamba3`` has checked the shapes."""
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    turns, S, key, value = (v.to(wide) for v in initial_state)
    dt, log_decay, now, before, speed = coefficients(delta, A, mix, angle, delta_bias, wide)
    ys: list[Tensor] = []
    for t in range(x.shape[1]):
        if resets is not None:
            # Selects, not products: a NaN before the reset must not pass.
            started = resets[:, t, None, None]
            turns, key, value = (v.masked_fill(started, 0.0) for v in (turns, key, value))
            S = S.masked_fill(started[..., None], 0.0)
        u = x[:, t].to(wide)
        turns = turns + speed[:, t, None] * dt[:, t, :, None]
        turns = turns - turns.detach().floor()
        k, q = (turn(v[:, t].to(wide), turns) for v in (B, C))
        last = (before[:, t, :, None] * value)[..., None] * key[:, :, None]
        S = torch.exp(log_decay[:, t])[..., None, None] * (S + last)
        S = S + (now[:, t, :, None] * u)[..., None] * k[:, :, None]
        y = (S * q[:, :, None]).sum(-1)
        if D is not None:
            y = y + D[:, None] * u
        if z is not None:
            y = y * functional.silu(z[:, t].to(wide))
        ys.append(y)
        key, value = k, u
    out = torch.stack(ys, 1) if ys else x
    return torch.empty_like(x).copy_(out), (turns, S, key, value)


def mamba3_step_(
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
    implementation: str,
) -> Tensor:
    """Advance rows ``slots`` of the pool by one step, one row after the other."""
    pool = (turns, state, key, value)
    out = torch.empty_like(x)
    for row, slot in enumerate(slots.tolist()):
        gate = None if z is None else z[row, None, None]
        before = tuple(v[slot, None] for v in pool)
        y, after = mamba3(
            x[row, None, None],
            delta[row, None, None],
            A[row, None, None],
            mix[row, None, None],
            angle[row, None, None],
            B[row, None, None],
            C[row, None, None],
            D,
            gate,
            delta_bias,
            before,
            None,
            implementation,
        )
        out[row] = y[0, 0]
        for into, new in zip(pool, after, strict=True):
            into[slot] = new[0]
    return out


def coefficients(
    delta: Tensor,
    A: Tensor,
    mix: Tensor,
    angle: Tensor,
    delta_bias: Tensor | None,
    wide: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Step size, log-decay, weights of this and of the last sample (…, H), turns a step (…, R)."""
    raw = delta.to(wide) if delta_bias is None else delta.to(wide) + delta_bias
    dt = functional.softplus(raw, threshold=20.0)
    log_decay = dt * (-functional.softplus(A.to(wide))).clamp(max=-LEAST_DECAY)
    now = dt * torch.sigmoid(mix.to(wide))
    # Not dt - now, which would lose digits where almost all is now.
    before = dt * torch.sigmoid(-mix.to(wide))
    return dt, log_decay, now, before, torch.tanh(angle.to(wide)) / 2


def turn(x: Tensor, turns: Tensor) -> Tensor:
    """Turn the pairs (2i, 2i + 1) of the last axis of ``x (…, N)`` by ``turns (…, R)`` each."""
    count = turns.shape[-1]
    first, second = x[..., : 2 * count].unflatten(-1, (count, 2)).unbind(-1)
    cos, sin = torch.cos(2 * math.pi * turns), torch.sin(2 * math.pi * turns)
    turned = torch.stack((first * cos - second * sin, first * sin + second * cos), -1)
    return torch.cat((turned.flatten(-2), x[..., 2 * count :]), -1)
