"""The definition of ``lti``: one frame after the other."""

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
    N = system.b.shape[1]
    state = (
        torch.zeros(B, D, N, dtype=system.b.dtype, device=u.device)
        if initial_state is None
        else torch.view_as_complex(initial_state.contiguous())
    )
    y = []
    for t in range(T):
        if resets is not None:
            state = torch.where(resets[:, t, None, None], 0, state)
        out, state = _frame(u[:, t], system, state)
        y.append(out.to(u.dtype))
    return (torch.stack(y, dim=1) if y else torch.zeros_like(u)), torch.view_as_real(state).clone()


def lti_step_(u: Tensor, system: System, pool: Tensor, slots: Tensor) -> Tensor:
    """See ``audiomamba.kernels.lti.lti_step_``."""
    y = torch.empty_like(u)
    for row, slot in enumerate(slots.tolist()):
        state = torch.view_as_complex(pool[slot].to(system.b.real.dtype).contiguous())
        y[row], state = _frame(u[row], system, state)
        pool[slot] = torch.view_as_real(state)
    return y


def _frame(u: Tensor, system: System, state: Tensor) -> tuple[Tensor, Tensor]:
    """Advance ``(…, D, N)`` states by one input ``(…, D)``."""
    wide = system.b.real.dtype
    decay = torch.polar(torch.exp(system.decay), system.turns * (2 * math.pi))
    u = u.to(wide)
    state = decay.to(system.b.dtype) * state + system.b * u[..., None]
    y = 2 * (system.c * state).sum(dim=-1).real
    return (y if system.skip is None else y + system.skip * u), state
