"""``causal_conv1d.causal_conv1d_varlen``: what packed sequences leave behind for the next step."""

import torch
from torch import Tensor

__all__ = ["causal_conv1d_varlen_states", "causal_conv1d_varlen_states_ref"]


def causal_conv1d_varlen_states(x: Tensor, cu_seqlens: Tensor, state_len: int) -> Tensor:
    """Last inputs of every sequence, zeros before its first; made without waiting for the device.

    Args:
        x: All sequences after one another, ``(T, D)``.
        cu_seqlens: ``(S + 1,)``, their ends, from 0 to T.
        state_len: How many inputs a state holds.

    Returns:
        ``(S, D, state_len)``, newest last. There is no gradient.
    """
    start, end = cu_seqlens[:-1, None], cu_seqlens[1:, None]
    at = end + torch.arange(-state_len, 0, device=x.device)  # (S, state_len)
    rows = x.detach()[at.clamp(min=0).flatten()].view(*at.shape, x.shape[1])
    return rows.masked_fill((at < start)[..., None], 0).mT


def causal_conv1d_varlen_states_ref(x: Tensor, cu_seqlens: Tensor, state_len: int) -> Tensor:
    """Do what ``causal_conv1d_varlen_states`` does, sequence by sequence."""
    ends = cu_seqlens.tolist()
    states = x.new_zeros(len(ends) - 1, state_len, x.shape[1])
    for row, (start, end) in enumerate(zip(ends, ends[1:], strict=False)):
        kept = min(end - start, state_len)
        states[row, state_len - kept :] = x[end - kept : end]
    return states.mT
