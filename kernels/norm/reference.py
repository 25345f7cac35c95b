"""The definition of ``norm``."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["norm"]


def norm(
    x: Tensor,
    weight: Tensor,
    residual: Tensor | None,
    gate: Tensor | None,
    eps: float,
    norm_before_gate: bool,
    group: int,
) -> tuple[Tensor, Tensor]:
    """See ``audiomamba.kernels.norm.norm``."""
    wide = torch.promote_types(x.dtype, torch.float32)
    r = x.to(wide, copy=True, memory_format=torch.contiguous_format)
    if residual is not None:
        r = r + residual
    gated = r
    if gate is not None and not norm_before_gate:
        gated = r * F.silu(gate.to(wide))
    # A width of 0 has no groups to unflatten into.
    groups = gated.unflatten(-1, (-1, group)) if group else gated
    normed = groups * torch.rsqrt(groups.square().mean(dim=-1, keepdim=True) + eps)
    y = normed.reshape(x.shape) * weight.to(wide)
    if gate is not None and norm_before_gate:
        y = y * F.silu(gate.to(wide))
    return y.to(x.dtype), r.contiguous()
