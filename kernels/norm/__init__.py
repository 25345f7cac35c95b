"""RMS norm of a residual stream, with an optional gate (contract).

``r = x + residual`` in float32; ``y = r · rsqrt(mean(r²) + eps) · weight``.
"""

from types import ModuleType

import torch
from torch import Tensor

from audiomamba.errors import ShapeError
from audiomamba.kernels.dispatch import pick

__all__ = ["norm"]


def norm(
    x: Tensor,
    weight: Tensor,
    *,
    residual: Tensor | None = None,
    eps: float = 1e-5,
    gate: Tensor | None = None,
    norm_before_gate: bool = True,
    group_size: int | None = None,
    implementation: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Add the residual and norm the sum over its last axis.

    Args:
        x: ``(..., D)``, any strides; contiguous channels are fastest.
        weight: ``(D,)``.
        residual: The stream x is added to, shape of ``x``, float32 (float64 where x is).
        eps: Added to the mean square, no unit, > 0.
        gate: Shape of ``x``; multiplies by ``silu(gate)``.
        norm_before_gate: Gate the normed sum (True), or norm the gated sum (False).
        group_size: Norm groups of so many channels by themselves; divides D. None: all of D.
        implementation: ``"reference"``, ``"cpu"``, ``"gpu"`` or None for the device's own.

    Returns:
        ``y`` in the dtype of ``x``, and the stream ``r = x + residual`` before gate and norm in
        float32 (float64 where x is). Both are contiguous and differentiable.

    Raises:
        ShapeError: a shape or dtype is not the one named here.
        BackendError: the implementation cannot run here.
    """
    if x.ndim < 1 or not x.is_floating_point():
        raise ShapeError(f"norm: x must be (..., D) floating, got {tuple(x.shape)} {x.dtype}")
    D = x.shape[-1]
    if tuple(weight.shape) != (D,):
        raise ShapeError(f"norm: weight must be ({D},), got {tuple(weight.shape)}")
    stream = torch.promote_types(x.dtype, torch.float32)
    if residual is not None and (residual.shape != x.shape or residual.dtype != stream):
        raise ShapeError(
            f"norm: residual must be {tuple(x.shape)} {stream},"
            f" got {tuple(residual.shape)} {residual.dtype}"
        )
    if gate is not None and gate.shape != x.shape:
        raise ShapeError(f"norm: gate must be {tuple(x.shape)}, got {tuple(gate.shape)}")
    group = D if group_size is None else group_size
    if D and (group < 1 or D % group):
        raise ShapeError(f"norm: group_size must divide D = {D}, got {group}")
    chosen = _implementation(pick("norm", x.device, implementation))
    y, r = chosen.norm(x, weight, residual, gate, eps, norm_before_gate, group)
    return y, r


def _implementation(name: str) -> ModuleType:
    # Late: importing the package must not load Triton.
    if name == "gpu":
        from audiomamba.kernels.norm import gpu

        return gpu
    if name == "cpu":
        from audiomamba.kernels.norm import cpu

        return cpu
    from audiomamba.kernels.norm import reference

    return reference
