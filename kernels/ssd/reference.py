"""The definition of state-space duality twice: a loop over time, and one product over all pairs.

Everything is computed in float32, or in float64 if ``x`` is float64.
"""

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["ssd", "ssd_quadratic", "ssd_step_", "step_size"]


def ssd(
    x: Tensor,  # (B, T, H, P)
    delta: Tensor,  # (B, T, H)
    A: Tensor,  # (H,) or (B, T, H)
    B: Tensor,  # (B, T, G, N)
    C: Tensor,  # (B, T, G, N)
    *,
    D: Tensor | None,  # (H, P)
    z: Tensor | None,  # (B, T, H, P)
    delta_bias: Tensor | None,  # (H,)
    softplus: bool,
    delta_limit: tuple[float, float],
    initial_state: Tensor | None,  # (B, H, P, N), or (S, H, P, N) with cu_seqlens
    resets: Tensor | None,  # (B, T)
    cu_seqlens: Tensor | None,  # (S + 1,), and then B = 1
) -> tuple[Tensor, Tensor]:
    """Run the recurrence; see ``audiomamba.kernels.ssd.ssd``, which has checked the shapes."""
    if cu_seqlens is not None:
        outs, states = [], []
        ends = cu_seqlens.tolist()
        for row, (start, end) in enumerate(zip(ends[:-1], ends[1:], strict=True)):
            out, state = ssd(
                x[:, start:end],
                delta[:, start:end],
                A[:, start:end] if A.ndim == 3 else A,
                B[:, start:end],
                C[:, start:end],
                D=D,
                z=None if z is None else z[:, start:end],
                delta_bias=delta_bias,
                softplus=softplus,
                delta_limit=delta_limit,
                initial_state=None if initial_state is None else initial_state[row : row + 1],
                resets=None,
                cu_seqlens=None,
            )
            outs.append(out)
            states.append(state)
        return _laid_out(torch.cat(outs, 1), x), torch.cat(states, 0)

    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    rows, steps, heads, width = x.shape
    S = x.new_zeros(rows, heads, width, B.shape[3], dtype=wide)
    if initial_state is not None:
        S = S + initial_state
    per_group = heads // B.shape[2]
    dt = step_size(delta.to(wide), delta_bias, softplus, delta_limit)
    # Taken apart once: the gradient of x[:, t] alone would be a tensor of the size of x.
    log_decay = A.to(wide) if A.ndim == 3 else dt * A.to(wide)
    xs, dts, bs, cs, logs = (v.to(wide).unbind(1) for v in (x, dt, B, C, log_decay))
    zs = None if z is None else z.to(wide).unbind(1)
    ys: list[Tensor] = []
    for t in range(steps):
        if resets is not None:
            # A select, not a product: a NaN before the reset must not pass.
            S = torch.where(resets[:, t, None, None, None], torch.zeros_like(S), S)
        b = bs[t].repeat_interleave(per_group, 1)  # (B, H, N)
        c = cs[t].repeat_interleave(per_group, 1)
        decay = torch.exp(logs[t])[..., None, None]
        S = decay * S + (dts[t][..., None] * xs[t])[..., None] * b[:, :, None]
        ys.append(_output((S * c[:, :, None]).sum(-1), xs[t], D, None if zs is None else zs[t]))
    out = torch.stack(ys, 1) if ys else x  # both without an element
    return _laid_out(out, x), S


def ssd_quadratic(
    x: Tensor,  # (B, T, H, P)
    delta: Tensor,  # (B, T, H)
    A: Tensor,  # (H,)
    B: Tensor,  # (B, T, G, N)
    C: Tensor,  # (B, T, G, N)
    *,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    softplus: bool = True,
    delta_limit: tuple[float, float] = (0.0, float("inf")),
) -> Tensor:
    """The same as masked attention over all T × T pairs, from a zero state.

    Source: Dao and Gu, "Transformers are SSMs", 2024, section 3: y = (L ∘ C Bᵀ) (δ x).
    """
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    steps, per_group = x.shape[1], x.shape[2] // B.shape[2]
    dt = step_size(delta.to(wide), delta_bias, softplus, delta_limit)
    log_decay = (A.to(wide) if A.ndim == 3 else dt * A.to(wide)).transpose(1, 2)  # (B, H, T)
    later = torch.ones(steps, steps, dtype=torch.bool, device=x.device).tril(-1)
    # Entry (t, s) is the sum over s < r <= t: each pair added up by itself, nothing cancels.
    pairs = log_decay[..., None].expand(*log_decay.shape, steps).masked_fill(~later, 0.0).cumsum(-2)
    L = torch.exp(pairs).tril()
    b, c = (v.to(wide).repeat_interleave(per_group, 2).transpose(1, 2) for v in (B, C))
    y = (L * (c @ b.mT)) @ (dt[..., None] * x.to(wide)).transpose(1, 2)
    y = _output(y.transpose(1, 2), x.to(wide), D, None if z is None else z.to(wide))
    return y.to(x.dtype)


def ssd_step_(
    x: Tensor,  # (M, H, P)
    delta: Tensor,  # (M, H)
    A: Tensor,  # (H,)
    B: Tensor,  # (M, G, N)
    C: Tensor,  # (M, G, N)
    pool: Tensor,  # (R, H, P, N)
    slots: Tensor,  # (M,)
    *,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    softplus: bool,
    delta_limit: tuple[float, float],
) -> Tensor:
    """Advance rows ``slots`` of ``pool`` by one step, one row after the other."""
    out = torch.zeros_like(x)
    for row, slot in enumerate(slots.tolist()):
        if slot < 0:
            continue
        y, state = ssd(
            x[row, None, None],
            delta[row, None, None],
            A[row, None, None] if A.ndim == 2 else A,
            B[row, None, None],
            C[row, None, None],
            D=D,
            z=None if z is None else z[row, None, None],
            delta_bias=delta_bias,
            softplus=softplus,
            delta_limit=delta_limit,
            initial_state=pool[slot, None],
            resets=None,
            cu_seqlens=None,
        )
        out[row] = y[0, 0]
        pool[slot] = state[0]
    return out


def step_size(
    delta: Tensor, bias: Tensor | None, softplus: bool, limit: tuple[float, float]
) -> Tensor:
    """δ from Δ: add the bias, then softplus (the identity above 20), then the limits."""
    if bias is not None:
        delta = delta + bias
    if softplus:
        delta = functional.softplus(delta, threshold=20.0)
    return delta if limit == (0.0, float("inf")) and softplus else delta.clamp(*limit)


def _output(y: Tensor, x: Tensor, skip: Tensor | None, z: Tensor | None) -> Tensor:
    if skip is not None:
        y = y + skip * x
    return y if z is None else y * functional.silu(z)


def _laid_out(x: Tensor, like: Tensor) -> Tensor:
    """A copy in the dtype and memory order of another tensor."""
    return torch.empty_like(like).copy_(x)
