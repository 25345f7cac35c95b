"""The definition of the selective scan as a loop over time, differentiable by autograd.

Everything is computed in float32, or in float64 if ``u`` is float64.
"""

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["scan", "scan_step_"]


def scan(
    u: Tensor,  # (B, T, D)
    delta: Tensor,  # (B, T, D)
    A: Tensor,  # (D, N)
    B: Tensor,  # (B, T, G, N)
    C: Tensor,  # (B, T, G, N)
    *,
    D: Tensor | None,  # (D,)
    z: Tensor | None,  # (B, T, D)
    delta_bias: Tensor | None,  # (D,)
    softplus: bool,
    initial_state: Tensor | None,  # (B, D, N), or (S, D, N) with cu_seqlens
    resets: Tensor | None,  # (B, T)
    cu_seqlens: Tensor | None,  # (S + 1,), and then B = 1
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    """Run the recurrence; see ``audiomamba.kernels.scan.scan``, which has checked the shapes."""
    if cu_seqlens is not None:
        outs, states = [], []
        for row, (start, end) in enumerate(
            torch.stack([cu_seqlens[:-1], cu_seqlens[1:]], 1).tolist()
        ):
            out, state = scan(
                u[:, start:end],
                delta[:, start:end],
                A,
                B[:, start:end],
                C[:, start:end],
                D=D,
                z=None if z is None else z[:, start:end],
                delta_bias=delta_bias,
                softplus=softplus,
                initial_state=None if initial_state is None else initial_state[row : row + 1],
                resets=None,
                cu_seqlens=None,
                reverse=reverse,
            )
            outs.append(out)
            states.append(state)
        return _laid_out(torch.cat(outs, 1), u), torch.cat(states, 0)

    wide = torch.float64 if u.dtype == torch.float64 else torch.float32
    rows, steps, channels = u.shape
    A = A.to(wide)
    h = u.new_zeros(rows, channels, A.shape[1], dtype=wide)
    if initial_state is not None:
        h = h + initial_state
    per_group = channels // B.shape[2]
    # Taken apart once: the gradient of u[:, t] alone would be a tensor of the size of u.
    us, deltas, bs, cs = (x.to(wide).unbind(1) for x in (u, delta, B, C))
    zs = None if z is None else z.to(wide).unbind(1)
    ys: list[Tensor] = []
    for t in reversed(range(steps)) if reverse else range(steps):
        if resets is not None:
            # A select, not a product: a NaN before the reset must not pass.
            h = torch.where(resets[:, t, None, None], torch.zeros_like(h), h)
        dt = step_size(deltas[t], delta_bias, softplus)
        b = bs[t].repeat_interleave(per_group, 1)  # (B, D, N)
        c = cs[t].repeat_interleave(per_group, 1)
        h = torch.exp(dt[..., None] * A) * h + (dt * us[t])[..., None] * b
        ys.append(_output((c * h).sum(-1), us[t], D, None if zs is None else zs[t]))
    if reverse:
        ys.reverse()
    out = torch.stack(ys, 1) if ys else u  # both without an element
    return _laid_out(out, u), h


def scan_step_(
    u: Tensor,  # (M, D)
    delta: Tensor,  # (M, D)
    A: Tensor,  # (D, N)
    B: Tensor,  # (M, G, N)
    C: Tensor,  # (M, G, N)
    pool: Tensor,  # (R, D, N)
    slots: Tensor,  # (M,)
    *,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    softplus: bool,
) -> Tensor:
    """Advance rows ``slots`` of ``pool`` by one step, one row after the other."""
    out = torch.zeros_like(u)
    for row, slot in enumerate(slots.tolist()):
        if slot < 0:
            continue
        y, state = scan(
            u[row, None, None],
            delta[row, None, None],
            A,
            B[row, None, None],
            C[row, None, None],
            D=D,
            z=None if z is None else z[row, None, None],
            delta_bias=delta_bias,
            softplus=softplus,
            initial_state=pool[slot, None],
            resets=None,
            cu_seqlens=None,
            reverse=False,
        )
        out[row] = y[0, 0]
        pool[slot] = state[0]
    return out


def step_size(delta: Tensor, bias: Tensor | None, softplus: bool) -> Tensor:
    """δ from Δ: add the bias, then softplus (the identity above 20)."""
    if bias is not None:
        delta = delta + bias
    return functional.softplus(delta, threshold=20.0) if softplus else delta


def _output(y: Tensor, x: Tensor, skip: Tensor | None, z: Tensor | None) -> Tensor:
    if skip is not None:
        y = y + skip * x
    return y if z is None else y * functional.silu(z)


def _laid_out(x: Tensor, like: Tensor) -> Tensor:
    """A copy in the dtype and memory order of another tensor."""
    return torch.empty_like(like).copy_(x)
