"""``lti`` on a CPU: the recurrence out of the native library; without it, the mode by length."""

from typing import Final

from torch import Tensor

from audiomamba.kernels.lti import by_chunks, by_fft, by_steps
from audiomamba.kernels.lti.discretize import System, tables
from audiomamba.kernels.lti.op import recurrence
from audiomamba.kernels.native import tensors

__all__ = ["lti", "lti_step_"]

STEPS_UP_TO: Final = 8  # frames below which the tables of powers cost more than they save
FFT_FROM: Final = 256  # frames; twice as fast as chunks at 4,096, with the gradient


def lti(
    u: Tensor, system: System, initial_state: Tensor | None, resets: Tensor | None, mode: str | None
) -> tuple[Tensor, Tensor]:
    """See ``audiomamba.kernels.lti.lti``."""
    if mode in (None, "recurrent") and tensors.runs(u):
        y, state = recurrence(u, *tables(system), initial_state, resets, "compiled")
        return y, state
    if mode is None:
        T = u.shape[1]
        mode = "conv" if T >= FFT_FROM and resets is None else "chunked"
        mode = "recurrent" if T <= STEPS_UP_TO else mode
    if mode == "recurrent":
        return by_steps.lti(u, system, initial_state, resets)
    if mode == "chunked":
        return by_chunks.lti(u, system, initial_state, resets)
    return by_fft.lti(u, system, initial_state)


def lti_step_(u: Tensor, system: System, pool: Tensor, slots: Tensor) -> Tensor:
    """See ``audiomamba.kernels.lti.lti_step_``."""
    return by_steps.step_(u, system, pool, slots)
