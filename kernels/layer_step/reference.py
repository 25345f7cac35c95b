"""The step of a Mamba-1 layer as it is defined: a row after the other, nothing rounded between."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from audiomamba.kernels.layer_step import LayerWeights

__all__ = ["layer_step_"]


def layer_step_(
    x: Tensor,  # (M, W)
    residual: Tensor | None,  # (M, W)
    weights: "LayerWeights",
    pools: tuple[Tensor, Tensor],  # (S, K - 1, D), (S, D, N)
    slots: Tensor,  # (M,)
    *,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """Return what the layer adds, and the stream with x; rows ``slots`` of ``pools`` advance."""
    wide = torch.promote_types(x.dtype, torch.float32)
    w = type(weights)(*(weight.to(wide) for weight in weights))
    tails, states = pools
    (D, R), N = w.dt_proj.shape, w.A_log.shape[1]
    r = x.to(wide) if residual is None else residual + x.to(wide)
    normed = r * torch.rsqrt(r.square().mean(-1, keepdim=True) + eps) * w.norm
    us, zs = (normed @ w.in_proj.T).split(D, dim=-1)
    gated = torch.zeros_like(us)
    for row, slot in enumerate(slots.tolist()):
        if slot < 0:
            continue
        window = torch.cat((tails[slot].to(wide), us[row, None]))  # (K, D)
        tails[slot] = window[1:]
        u = F.silu((window * w.conv.T).sum(0) + w.conv_bias)
        low, B, C = (w.x_proj @ u).split([R, N, N])
        dt = F.softplus(w.dt_proj @ low + w.dt_bias)
        decay = torch.exp(dt[:, None] * -torch.exp(w.A_log))
        state = decay * states[slot].to(wide) + (dt * u)[:, None] * B
        states[slot] = state
        gated[row] = (state @ C + w.skip * u) * F.silu(zs[row])
    return (gated @ w.out_proj.T).to(x.dtype), r
