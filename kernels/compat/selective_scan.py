"""``mamba_ssm.ops.selective_scan_interface`` on the scan: time last, B and C in four layouts."""

import torch
from torch import Tensor
from torch.nn import functional

from audiomamba.errors import ShapeError
from audiomamba.kernels.scan import scan

__all__ = ["selective_scan_fn", "selective_scan_ref"]


def selective_scan_fn(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Run the selective scan of Mamba-1.

    A complex ``A`` is computed by ``selective_scan_ref``, a loop over time.

    Args:
        u, delta, z: ``(B, D, L)``.
        A: ``(D, N)`` float32 or complex64.
        B, C: ``(D, N)`` constant in time, or ``(B, N, L)``, or ``(B, G, N, L)``; beside a complex
            A the first complex, the others with real and imaginary parts in turn, ``2 L`` long.
        D, delta_bias: ``(D,)`` float32.

    Returns:
        ``(B, D, L)`` in the dtype of ``u``; with ``return_last_state`` also the last state
        ``(B, D, N)``, whose gradient counts here.

    Raises:
        ShapeError: a tensor does not have the shape named here.
    """
    if A.is_complex():
        return selective_scan_ref(
            u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state
        )
    if u.ndim != 3:
        raise ShapeError(f"selective_scan_fn: u wants (B, D, L), got {tuple(u.shape)}")
    b, c = _time_first(B, u), _time_first(C, u)
    if b.shape != c.shape:  # one of them is constant
        b, c = _of_each_channel(b, u), _of_each_channel(c, u)
    out, state = scan(
        u.mT,
        delta.mT,
        A,
        b,
        c,
        D=D,
        z=None if z is None else z.mT,
        delta_bias=delta_bias,
        softplus=delta_softplus,
    )
    return (out.mT, state) if return_last_state else out.mT


def _time_first(weights: Tensor, u: Tensor) -> Tensor:
    """B or C in any of their layouts as (B, L, G, N)."""
    rows, channels, steps = u.shape
    if weights.ndim == 2:  # every channel is a group of its own
        return weights.expand(rows, steps, channels, weights.shape[1])
    if weights.ndim == 3:
        return weights.mT.unsqueeze(2)
    if weights.ndim == 4:
        return weights.permute(0, 3, 1, 2)
    raise ShapeError(
        "selective_scan_fn: B and C want (D, N), (B, N, L) or (B, G, N, L), "
        f"got {tuple(weights.shape)}"
    )


def _of_each_channel(weights: Tensor, u: Tensor) -> Tensor:
    """(B, L, G, N) as (B, L, D, N); a view where there is one group or D of them."""
    rows, steps, groups, states = weights.shape
    per_group = u.shape[1] // groups
    return weights.unsqueeze(3).expand(-1, -1, -1, per_group, -1).reshape(rows, steps, -1, states)


def selective_scan_ref(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Do what ``selective_scan_fn`` does as a loop over time, in float32 or complex64.

    With a complex system the output is twice the real part: one of each conjugate pair is given.
    """
    dt = delta.float() if delta_bias is None else delta.float() + delta_bias.float()[:, None]
    if delta_softplus:
        dt = functional.softplus(dt)
    b, c = (_by_channel(weights, u, A.is_complex()) for weights in (B, C))  # (B, L, D, N)
    h = torch.zeros((u.shape[0], *A.shape), dtype=b.dtype, device=u.device)
    h = h.to(torch.promote_types(A.dtype, h.dtype))
    drive = dt * u.float()
    ys: list[Tensor] = []
    for t in range(u.shape[2]):
        h = torch.exp(dt[:, :, t, None] * A) * h + drive[:, :, t, None] * b[:, t]
        y = (h * c[:, t]).sum(-1)
        ys.append(2 * y.real if y.is_complex() else y)
    out = torch.stack(ys, 2) if ys else u.float()
    if D is not None:
        out = out + u * D[:, None]
    if z is not None:
        out = out * functional.silu(z.float())
    out = out.to(u.dtype)
    return (out, h) if return_last_state else out


def _by_channel(weights: Tensor, u: Tensor, paired: bool) -> Tensor:
    """B or C as (B, L, D, N), complex where pairs of reals stand for it."""
    if weights.ndim > 2 and paired:
        weights = torch.view_as_complex(weights.float().unflatten(-1, (-1, 2)).contiguous())
    weights = weights if weights.is_complex() else weights.float()
    return _of_each_channel(_time_first(weights, u), u)
