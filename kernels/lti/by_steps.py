"""``lti`` frame by frame: least arithmetic, and the only way for a few frames.

In float64: Ā rounded to float32 is wrong by 6e-8 a step, which adds up over the thousands of steps
that a slow state lives. The other modes take powers of Ā, each rounded once.
"""

from typing import Final

import torch
from torch import Tensor

from audiomamba.kernels.lti.discretize import System, decay_of

__all__ = ["lti", "step_"]

BLOCK: Final = 64  # frames whose states are held at once


def lti(
    u: Tensor, system: System, initial_state: Tensor | None, resets: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Run a system over ``(B, T, D)`` inputs, T >= 1, one frame after the other."""
    B, T, D = u.shape
    decay = decay_of(system)  # (D, N)
    state = u.new_zeros(B, *system.b.shape, dtype=torch.complex128)
    if initial_state is not None:
        state = torch.view_as_complex(initial_state.double().contiguous())
    b, c, wide = system.b.to(state.dtype), system.c.to(state.dtype), u.double()
    y = []
    for start in range(0, T, BLOCK):
        driven = wide[:, start : start + BLOCK, :, None] * b  # (B, block, D, N)
        states = []
        for t in range(driven.shape[1]):
            if resets is not None:
                state = torch.where(resets[:, start + t, None, None], 0, state)
            state = torch.addcmul(driven[:, t], state, decay)
            states.append(state)
        y.append(2 * (torch.stack(states, dim=1) * c).sum(dim=-1).real)
    out = torch.cat(y, dim=1)
    if system.skip is not None:
        out = torch.addcmul(out, wide, system.skip.double())
    return out.to(u.dtype), torch.view_as_real(state).to(system.b.real.dtype, copy=True)


def step_(u: Tensor, system: System, pool: Tensor, slots: Tensor) -> Tensor:
    """Advance rows ``slots`` of ``(R, D, N, 2)`` states by one ``(M, D)`` input, in place."""
    slots = slots.long()
    y, state = lti(u[:, None], system, pool[slots], None)
    pool[slots] = state.to(pool.dtype)
    return y[:, 0]
