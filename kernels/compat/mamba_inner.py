"""``mamba_inner_fn`` of ``mamba_ssm.ops.selective_scan_interface``: a Mamba layer in one call."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn import functional

from audiomamba.kernels.compat.causal_conv1d import causal_conv1d_fn
from audiomamba.kernels.compat.selective_scan import selective_scan_fn

__all__ = ["mamba_inner_fn", "mamba_inner_ref"]


def mamba_inner_fn(
    xz: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Tensor | None,
    x_proj_weight: Tensor,
    delta_proj_weight: Tensor,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    A: Tensor,
    B: Tensor | None = None,
    C: Tensor | None = None,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    B_proj_bias: Tensor | None = None,
    C_proj_bias: Tensor | None = None,
    delta_softplus: bool = True,
    checkpoint_lvl: int = 1,
    b_rms_weight: Tensor | None = None,
    c_rms_weight: Tensor | None = None,
    dt_rms_weight: Tensor | None = None,
    b_c_dt_rms_eps: float = 1e-6,
) -> Tensor:
    """Convolve, project, scan, gate and project out.

    Args:
        xz: What goes into the convolution, and the gate: ``(B, 2 D, L)``.
        conv1d_weight: ``(D, 1, W)``; conv1d_bias: ``(D,)``.
        x_proj_weight: ``(R + N or 2 N, D)``, B and C after the R that make the step size, where
            they are not given; of a complex ``A`` twice as many.
        delta_proj_weight: ``(D, R)``.
        out_proj_weight: ``(M, D)``; out_proj_bias: ``(M,)``.
        A, B, C: ``(D, N)``.
        B_proj_bias, C_proj_bias: Added to what the projection makes.
        checkpoint_lvl: Not used: the ops keep little anyway.
        b_rms_weight, c_rms_weight, dt_rms_weight: Norm B, C and the step size before its bias.

    Returns:
        ``(B, L, M)``. Gradients come from those of the parts.
    """
    return inner(
        causal_conv1d_fn, selective_scan_fn, xz, conv1d_weight, conv1d_bias, x_proj_weight,
        delta_proj_weight, out_proj_weight, out_proj_bias, A, B, C, D, delta_bias, B_proj_bias,
        C_proj_bias, delta_softplus, (b_rms_weight, c_rms_weight, dt_rms_weight), b_c_dt_rms_eps,
    )  # fmt: skip


def mamba_inner_ref(
    xz: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Tensor | None,
    x_proj_weight: Tensor,
    delta_proj_weight: Tensor,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    A: Tensor,
    B: Tensor | None = None,
    C: Tensor | None = None,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    B_proj_bias: Tensor | None = None,
    C_proj_bias: Tensor | None = None,
    delta_softplus: bool = True,
) -> Tensor:
    """Do what ``mamba_inner_fn`` does, without its norms; as published, of the same functions."""
    return mamba_inner_fn(
        xz, conv1d_weight, conv1d_bias, x_proj_weight, delta_proj_weight, out_proj_weight,
        out_proj_bias, A, B, C, D, delta_bias, B_proj_bias, C_proj_bias, delta_softplus,
    )  # fmt: skip


def inner(
    convolve: Callable[..., Any],
    scan: Callable[..., Any],
    xz: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Tensor | None,
    x_proj_weight: Tensor,
    delta_proj_weight: Tensor,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    A: Tensor,
    B: Tensor | None = None,
    C: Tensor | None = None,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    B_proj_bias: Tensor | None = None,
    C_proj_bias: Tensor | None = None,
    softplus: bool = True,
    norms: tuple[Tensor | None, Tensor | None, Tensor | None] = (None, None, None),
    eps: float = 1e-6,
) -> Tensor:
    """The layer out of a convolution and a scan; the other arguments as ``mamba_inner_fn``'s."""
    x, z = xz.chunk(2, dim=1)
    x = convolve(x, conv1d_weight[:, 0], conv1d_bias, activation="silu")
    made = functional.linear(x.mT, x_proj_weight)  # (B, L, R + N + N)
    rank = delta_proj_weight.shape[1]
    states = A.shape[1] * (2 if A.is_complex() else 1)
    b_norm, c_norm, delta_norm = norms
    if B is None:
        B = _weights(made[..., rank : rank + states], B_proj_bias, b_norm, eps, A.is_complex())
    if C is None:
        C = _weights(made[..., -states:], C_proj_bias, c_norm, eps, A.is_complex())
    delta = functional.linear(made[..., :rank], delta_proj_weight)
    if delta_norm is not None:
        delta = functional.rms_norm(delta, delta_norm.shape, delta_norm, eps)
    y: Tensor = scan(  # (B, D, L)
        x, delta.mT, A, B, C, D, z=z, delta_bias=delta_bias, delta_softplus=softplus
    )
    out: Tensor = functional.linear(y.mT, out_proj_weight, out_proj_bias)
    return out


def _weights(
    made: Tensor, bias: Tensor | None, weight: Tensor | None, eps: float, paired: bool
) -> Tensor:
    """B or C, (B, L, N), as the scan takes them: (B, N, L), or (B, N, 2 L) of pairs in turn."""
    if bias is not None:
        made = made + bias.to(made.dtype)
    if weight is not None:
        made = functional.rms_norm(made, weight.shape, weight, eps)
    if not paired:
        return made.mT
    pairs: Tensor = made.unflatten(-1, (-1, 2))
    return pairs.permute(0, 2, 1, 3).flatten(2)
