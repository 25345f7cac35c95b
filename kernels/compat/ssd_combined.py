"""``mamba_ssm.ops.triton.ssd_combined`` on the duality."""

import math

import torch
from torch import Tensor

from audiomamba.errors import ShapeError
from audiomamba.kernels.ssd import ssd

__all__ = ["mamba_chunk_scan_combined", "mamba_chunk_scan_combined_ref"]

Result = Tensor | tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]


def mamba_chunk_scan_combined(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    chunk_size: int,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    initial_states: Tensor | None = None,
    seq_idx: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = (0.0, math.inf),
    return_final_states: bool = False,
    return_varlen_states: bool = False,
) -> Result:
    """Run the recurrence of Mamba-2.

    Args:
        x, z: ``(B, L, H, P)``.
        dt: ``(B, L, H)``.
        A, dt_bias: ``(H,)``.
        B, C: ``(B, L, G, N)``.
        chunk_size: Not used: the kernels choose their own, and results do not depend on it.
        D: ``(H,)`` or ``(H, P)``.
        initial_states: ``(B, H, P, N)``; of the first sequence where rows are packed.
        seq_idx: ``(B, L)`` int32, number of the sequence each step of a packed row belongs to.
        cu_seqlens: ``(S + 1,)`` ends of packed sequences, with B = 1; for ``return_varlen_states``.

    Returns:
        ``(B, L, H, P)``; then, as asked for, the states at the ends of the rows ``(B, H, P, N)``
        and of the packed sequences ``(S, H, P, N)``, float32. Gradients pass through all of them.

    Raises:
        ShapeError: a tensor does not have the shape named here, or ``return_varlen_states`` comes
            without ``cu_seqlens``.
    """
    return _combined(
        x, dt, A, B, C, D, z, dt_bias, initial_states, seq_idx, cu_seqlens, dt_softplus, dt_limit,
        return_final_states, return_varlen_states, None,
    )  # fmt: skip


def mamba_chunk_scan_combined_ref(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    chunk_size: int,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    initial_states: Tensor | None = None,
    seq_idx: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = (0.0, math.inf),
    return_final_states: bool = False,
    return_varlen_states: bool = False,
) -> Result:
    """Do what ``mamba_chunk_scan_combined`` does as a loop over time."""
    return _combined(
        x, dt, A, B, C, D, z, dt_bias, initial_states, seq_idx, cu_seqlens, dt_softplus, dt_limit,
        return_final_states, return_varlen_states, "reference",
    )  # fmt: skip


def _combined(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    initial_states: Tensor | None,
    seq_idx: Tensor | None,
    cu_seqlens: Tensor | None,
    dt_softplus: bool,
    dt_limit: tuple[float, float],
    return_final_states: bool,
    return_varlen_states: bool,
    implementation: str | None,
) -> Result:
    resets = None
    if return_varlen_states:
        if cu_seqlens is None:
            raise ShapeError("mamba_chunk_scan_combined: return_varlen_states wants cu_seqlens")
        if initial_states is not None:
            later = initial_states.new_zeros((cu_seqlens.shape[0] - 2, *initial_states.shape[1:]))
            initial_states = torch.cat((initial_states, later))
    else:
        cu_seqlens = None
        if seq_idx is not None:
            resets = torch.zeros_like(seq_idx, dtype=torch.bool)
            resets[:, 1:] = seq_idx[:, 1:] != seq_idx[:, :-1]
    out, states = ssd(
        x,
        dt,
        A,
        B,
        C,
        D=D,
        z=z,
        delta_bias=dt_bias,
        softplus=dt_softplus,
        delta_limit=(float(dt_limit[0]), float(dt_limit[1])),
        initial_state=initial_states,
        resets=resets,
        cu_seqlens=cu_seqlens,
        implementation=implementation,
    )
    if return_varlen_states:
        return (out, states[-1:], states) if return_final_states else (out, states)
    return (out, states) if return_final_states else out
