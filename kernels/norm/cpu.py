"""``norm`` by tensor operations, with the gradient written out."""

import torch
from torch import Tensor

from audiomamba.kernels.norm.op import register

__all__ = ["norm"]


def _forward(
    x: Tensor,
    weight: Tensor,
    residual: Tensor | None,
    gate: Tensor | None,
    eps: float,
    norm_before_gate: bool,
    group: int,
) -> tuple[Tensor, Tensor]:
    wide = torch.promote_types(x.dtype, torch.float32)
    r = torch.empty(x.shape, dtype=wide, device=x.device)
    if residual is None:
        r.copy_(x)
    else:
        torch.add(residual, x, out=r)
    source = r if gate is None or norm_before_gate else r * _silu(gate.to(wide))[0]
    y = _normed(source, eps, group)[0] * weight.to(wide)
    if gate is not None and norm_before_gate:
        y = y * _silu(gate.to(wide))[0]
    return torch.empty(x.shape, dtype=x.dtype, device=x.device).copy_(y), r


def _backward(
    grad_y: Tensor,
    grad_r: Tensor | None,
    r: Tensor,
    weight: Tensor,
    gate: Tensor | None,
    eps: float,
    norm_before_gate: bool,
    group: int,
    dtype: torch.dtype,
    residual: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dy, taps = grad_y.to(r.dtype), weight.to(r.dtype)
    factor = slope = None
    if gate is not None:
        factor, slope = _silu(gate.to(r.dtype))
    source = r if factor is None or norm_before_gate else r * factor
    normed, scale = _normed(source, eps, group)
    dscaled = dy if factor is None or not norm_before_gate else dy * factor
    dweight = (dscaled * normed).reshape(-1, r.shape[-1]).sum(0)
    dnormed = dscaled * taps
    # y = s·scale, scale = rsqrt(mean(s²) + eps): ds = scale·(dn − n·mean(dn·n)).
    mean = _grouped(dnormed * normed, group).mean(dim=-1, keepdim=True)
    dsource = _grouped(dnormed, group) - _grouped(normed, group) * mean
    dr = (dsource * scale).reshape(r.shape)
    dgate = r.new_empty(0)
    if gate is not None and factor is not None and slope is not None:
        if norm_before_gate:
            dfactor = dy * normed * taps
        else:
            dfactor, dr = dr * r, dr * factor
        dgate = torch.empty(gate.shape, dtype=gate.dtype, device=gate.device)
        dgate.copy_(dfactor * slope)
    if grad_r is not None:
        dr = dr + grad_r
    dx = torch.empty(r.shape, dtype=dtype, device=r.device).copy_(dr)
    return dx, dweight.to(weight.dtype), dr.contiguous() if residual else r.new_empty(0), dgate


def _grouped(x: Tensor, group: int) -> Tensor:
    """View the last axis as groups; a width of 0 has none."""
    return x.unflatten(-1, (-1, group)) if group else x


def _normed(x: Tensor, eps: float, group: int) -> tuple[Tensor, Tensor]:
    """Return x over its groups' root mean square, and the factor with a trailing axis of 1."""
    groups = _grouped(x, group)
    scale = torch.rsqrt(groups.square().mean(dim=-1, keepdim=True) + eps)
    return (groups * scale).reshape(x.shape), scale


def _silu(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return silu(z) and its slope."""
    s = torch.sigmoid(z)
    return z * s, s * (1 + z * (1 - s))


norm = register("cpu", _forward, _backward)
