"""``mamba_ssm.ops.triton.selective_state_update`` on the step kernels, with or without heads."""

import torch
from torch import Tensor
from torch.nn import functional

from audiomamba.errors import ShapeError
from audiomamba.kernels.scan import scan_step_
from audiomamba.kernels.ssd import ssd_step_

__all__ = ["selective_state_update", "selective_state_update_ref"]


def selective_state_update(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    state_batch_indices: Tensor | None = None,
) -> Tensor:
    """Take one step; ``state`` is advanced in place.

    Args:
        state: ``(B, D, N)`` or ``(B, H, P, N)``, or more rows with ``state_batch_indices``.
        x, dt, z: ``(B, D)`` or ``(B, H, P)``.
        A: ``(D, N)`` or ``(H, P, N)``. Expanded over P and N, with ``dt`` and ``dt_bias`` expanded
            over P, it takes the kernel with one decay a head.
        B, C: ``(B, N)`` or ``(B, G, N)``.
        D, dt_bias: ``(D,)`` or ``(H, P)``.
        state_batch_indices: ``(B,)`` int32, the rows of ``state``, each once; negative for a row
            that pads the batch, whose output is zero.

    Returns:
        ``(B, D)`` or ``(B, H, P)`` in the dtype of ``x``.

    Raises:
        ShapeError: a tensor does not have the shape named here.
    """
    slots = state_batch_indices
    if slots is None:
        slots = torch.arange(x.shape[0], device=x.device)
    if B.ndim == 2:
        B, C = B.unsqueeze(1), C.unsqueeze(1)
    if x.ndim == 2:
        return scan_step_(
            x, dt, A, B, C, state, slots, D=D, z=z, delta_bias=dt_bias, softplus=dt_softplus
        )
    if x.ndim != 3 or state.ndim != 4:
        raise ShapeError(
            "selective_state_update: wants x (B, D) and state (B, D, N), or x (B, H, P) and state "
            f"(B, H, P, N), got {tuple(x.shape)} and {tuple(state.shape)}"
        )
    if _one_decay_a_head(dt, A, dt_bias) and dt_softplus:
        return ssd_step_(
            x,
            dt[..., 0],
            A[:, 0, 0],
            B,
            C,
            state,
            slots,
            D=D,
            z=z,
            delta_bias=None if dt_bias is None else dt_bias[:, 0],
        )
    pool = state.flatten(1, 2)
    out = scan_step_(
        x.flatten(1),
        dt.flatten(1),
        A.flatten(0, 1),
        B,
        C,
        pool,
        slots,
        D=None if D is None else D.flatten(),
        z=None if z is None else z.flatten(1),
        delta_bias=None if dt_bias is None else dt_bias.flatten(),
        softplus=dt_softplus,
    )
    if pool.data_ptr() != state.data_ptr():  # the strides of state made a copy of it
        state.copy_(pool.view(state.shape))
    return out.view(x.shape)


def _one_decay_a_head(dt: Tensor, A: Tensor, dt_bias: Tensor | None) -> bool:
    """Whether all channels of a head share one number by way of expanded strides."""
    return (
        A.stride()[1:] == (0, 0)
        and dt.stride(-1) == 0
        and (dt_bias is None or dt_bias.stride(-1) == 0)
    )


def selective_state_update_ref(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
) -> Tensor:
    """Do what ``selective_state_update`` does, in float32, row for row of ``state``."""
    if x.ndim == 2:  # one head
        D, dt_bias = (None if v is None else v.unsqueeze(0) for v in (D, dt_bias))
        return selective_state_update_ref(
            state.unsqueeze(1),
            x.unsqueeze(1),
            dt.unsqueeze(1),
            A.unsqueeze(0),
            B,
            C,
            D,
            None if z is None else z.unsqueeze(1),
            dt_bias,
            dt_softplus,
        ).squeeze(1)
    if B.ndim == 2:
        B, C = B.unsqueeze(1), C.unsqueeze(1)
    size = dt.float() if dt_bias is None else dt.float() + dt_bias
    if dt_softplus:
        size = functional.softplus(size)
    b, c = (v.float().repeat_interleave(x.shape[1] // v.shape[1], 1) for v in (B, C))  # (B, H, N)
    u = x.float()
    h = state.float() * torch.exp(size[..., None] * A) + (size * u)[..., None] * b[:, :, None]
    state.copy_(h.to(state.dtype))
    out = (h * c[:, :, None]).sum(-1)
    if D is not None:
        out = out + u * D
    if z is not None:
        out = out * functional.silu(z.float())
    return out.to(x.dtype)
