"""The definition of ``lti``: one frame after the other, in float64."""

import math

import torch
from torch import Tensor

from audiomamba.kernels.lti.discretize import System

__all__ = ["lti", "lti_step_"]


def lti(
    u: Tensor, system: System, initial_state: Tensor | None, resets: Tensor | None, mode: str | None
) -> tuple[Tensor, Tensor]:
    """See ``audiomamba.kernels.lti.lti``; every mode is the same loop here."""
    B, T, D = u.shape
    state = u.new_zeros(B, *system.b.shape, dtype=torch.complex128)
    if initial_state is not None:
        state = torch.view_as_complex(initial_state.double().contiguous())
    y = []
    for t in range(T):
        if resets is not None:
            state = torch.where(resets[:, t, None, None], 0, state)
        out, state = _frame(u[:, t], system, state)
        y.append(out)
    return torch.stack(y, dim=1), torch.view_as_real(state).to(system.b.real.dtype)


def lti_step_(u: Tensor, system: System, pool: Tensor, slots: Tensor) -> Tensor:
    """See ``audiomamba.kernels.lti.lti_step_``."""
    y = torch.empty_like(u)
    for row, slot in enumerate(slots.tolist()):
        state = torch.view_as_complex(pool[slot].double().contiguous())
        y[row], state = _frame(u[row], system, state)
        pool[slot] = torch.view_as_real(state)
    return y


def _frame(u: Tensor, system: System, state: Tensor) -> tuple[Tensor, Tensor]:
    """Advance ``(…, D, N)`` states by one input ``(…, D)``."""
    decay = torch.polar(torch.exp(system.decay), system.turns * (2 * math.pi))
    state = decay * state + system.b * u.double()[..., None]
    y = 2 * (system.c * state).sum(dim=-1).real
    if system.skip is not None:
        y = y + system.skip * u
    return y.to(u.dtype), state
