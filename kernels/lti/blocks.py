"""The matrices that take a block of frames from inputs and state to outputs and state.

States are rows of 2N reals, real and imaginary part in turn, so that all are real products.
"""

from typing import Final

import torch
from torch import Tensor

from audiomamba.kernels.lti.discretize import System, powers

__all__ = ["inputs_to_state", "state_to_outputs", "taps", "turned"]

FINE: Final = 64  # powers from 0 to FINE - 1, times powers of Ā to the FINE: two small tables


def taps(system: System, length: int) -> Tensor:
    """Impulse response ``2·Re Σ C B̄ Āˡ`` for l < length, D added to the first: ``(D, length)``."""
    D, N = system.b.shape
    device = system.b.device
    coarse = torch.arange(0, length, FINE, device=device)
    left = (2 * system.c * system.b)[..., None] * powers(system, coarse)  # (D, N, L / FINE)
    left = torch.stack([left.real, -left.imag], dim=2).reshape(D, 2 * N, -1)
    right = powers(system, torch.arange(min(FINE, length), device=device))  # (D, N, FINE)
    right = torch.stack([right.real, right.imag], dim=2).reshape(D, 2 * N, -1)
    k = torch.bmm(left.transpose(1, 2), right).reshape(D, -1)[:, :length]
    if system.skip is None:
        return k
    return torch.cat([k[:, :1] + system.skip[:, None], k[:, 1:]], dim=1)


def state_to_outputs(system: System, table: Tensor) -> Tensor:
    """Matrix ``(D, 2N, L)`` from a state to the outputs it leaves.

    Args:
        system: With D channels of N pairs.
        table: Powers of Ā from the state to each output, ``(D, N, L)``.
    """
    D, N = system.b.shape
    gain = 2 * system.c[..., None] * table
    return torch.stack([gain.real, -gain.imag], dim=2).reshape(D, 2 * N, -1)


def inputs_to_state(system: System, table: Tensor) -> Tensor:
    """Matrix ``(D, L, 2N)`` from inputs to the state after the last.

    Args:
        system: With D channels of N pairs.
        table: Powers of Ā from each input to the end, ``(D, N, L)``.
    """
    D, N = system.b.shape
    gain = torch.view_as_real(system.b[..., None] * table)  # (D, N, L, 2)
    return gain.transpose(1, 2).reshape(D, -1, 2 * N)


def turned(state: Tensor, factor: Tensor) -> Tensor:
    """Multiply ``(D, B, 2N)`` states by ``(D, N)`` complex factors."""
    D, B, width = state.shape
    pairs = torch.view_as_complex(state.reshape(D, B, width // 2, 2))
    return torch.view_as_real(pairs * factor[:, None]).reshape(D, B, width)
