"""``mamba_ssm.ops.triton.layernorm_gated`` on the norm: groups, a gate before or after, a bias."""

import torch
from torch import Tensor
from torch.nn import functional

from audiomamba.kernels.norm import norm

__all__ = ["layernorm_fn", "rms_norm_ref", "rmsnorm_fn"]


def layernorm_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    z: Tensor | None = None,
    eps: float = 1e-6,
    group_size: int | None = None,
    norm_before_gate: bool = True,
    is_rms_norm: bool = False,
) -> Tensor:
    """Norm groups of channels, by their deviation or by their root mean square.

    Args:
        x: ``(..., D)``.
        weight, bias: ``(D,)``.
        z: Shape of ``x``; multiplies by ``silu(z)``.
        eps: Added to the mean square.
        group_size: Channels a group; None: all.
        norm_before_gate: Gate what was normed, or norm what was gated.
        is_rms_norm: Whether the mean stays.

    Returns:
        Shape and dtype of ``x``.

    Raises:
        ShapeError: a tensor does not have the shape named here.
    """
    given = x
    gate_in_op = z if bias is None or not norm_before_gate else None
    if not is_rms_norm:
        # What is left is the root mean square of what differs from the mean.
        wide = x.float()
        if z is not None and not norm_before_gate:
            wide, gate_in_op = wide * functional.silu(z.float()), None
        groups = wide.unflatten(-1, (-1, group_size or wide.shape[-1]))
        x = (groups - groups.mean(-1, keepdim=True)).flatten(-2)
    y, _ = norm(
        x,
        weight,
        eps=eps,
        gate=None if gate_in_op is None else gate_in_op.to(x.dtype),
        norm_before_gate=norm_before_gate,
        group_size=group_size,
    )
    if bias is not None:
        y = y + bias
        if z is not None and norm_before_gate:
            y = y * functional.silu(z.float())
    return y.to(given.dtype)


def rmsnorm_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    z: Tensor | None = None,
    eps: float = 1e-6,
    group_size: int | None = None,
    norm_before_gate: bool = True,
) -> Tensor:
    """``layernorm_fn`` by the root mean square."""
    return layernorm_fn(x, weight, bias, z, eps, group_size, norm_before_gate, True)


def rms_norm_ref(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    z: Tensor | None = None,
    eps: float = 1e-6,
    group_size: int | None = None,
    norm_before_gate: bool = True,
    upcast: bool = True,
) -> Tensor:
    """Do what ``rmsnorm_fn`` does in plain PyTorch, in float32 unless ``upcast`` is false."""
    y, gate = (x.float(), None if z is None else z.float()) if upcast else (x, z)
    if gate is not None and not norm_before_gate:
        y = y * functional.silu(gate)
    groups = y.unflatten(-1, (-1, group_size or y.shape[-1]))
    y = (groups * torch.rsqrt(groups.square().mean(-1, keepdim=True) + eps)).flatten(-2) * weight
    if bias is not None:
        y = y + bias
    if gate is not None and norm_before_gate:
        y = y * functional.silu(gate)
    out: Tensor = y.to(x.dtype)
    return out
