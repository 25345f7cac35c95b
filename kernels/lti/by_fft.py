"""``lti`` as one long convolution by FFT, with the exact final state."""

from typing import Any, Final

import torch
from torch import Tensor

from audiomamba.kernels.dispatch import LIBRARY
from audiomamba.kernels.lti.blocks import inputs_to_state, state_to_outputs, taps, turned
from audiomamba.kernels.lti.discretize import System, powers

__all__ = ["convolve", "lti"]

BLOCK: Final = 1024  # frames whose powers of Ā are held for the states


def lti(u: Tensor, system: System, initial_state: Tensor | None) -> tuple[Tensor, Tensor]:
    """Run a system over ``(B, T, D)`` inputs, T >= 1, by FFT.

    Returns:
        ``(B, T, D)`` in the dtype of u, time-contiguous; the state ``(B, D, N, 2)``.
    """
    B, T, D = u.shape
    N = system.b.shape[1]
    u_BDT = u.transpose(1, 2)
    first = None if initial_state is None else initial_state.transpose(0, 1).reshape(D, B, 2 * N)
    state = u.new_zeros(D, B, 2 * N, dtype=system.b.real.dtype) if first is None else first
    echo = []
    # Whole blocks share their tables; only the last block may be shorter.
    longest = min(BLOCK, T)
    table = powers(system, torch.arange(longest + 1, device=u.device))  # (D, N, longest + 1)
    to_state = inputs_to_state(system, table[:, :, :longest].flip(2))
    to_outputs = None if first is None else state_to_outputs(system, table[:, :, 1:])
    for start in range(0, T, BLOCK):
        size = min(BLOCK, T - start)
        if first is not None and to_outputs is not None:
            # From the first state, not the running one: the FFT has all that the inputs leave.
            ahead = powers(system, torch.arange(start, start + 1, device=u.device))[:, :, 0]
            echo.append(torch.bmm(turned(first, ahead), to_outputs[:, :, :size]))  # (D, B, size)
        inputs = u_BDT[:, :, start : start + size].transpose(0, 1).to(state.dtype)  # (D, B, size)
        state = turned(state, table[:, :, size]) + torch.bmm(inputs, to_state[:, longest - size :])
    y = convolve(u_BDT, taps(system, T), torch.cat(echo, dim=2).transpose(0, 1) if echo else None)
    return y.transpose(1, 2), state.reshape(D, B, N, 2).transpose(0, 1).contiguous()


def _size(T: int) -> int:
    """Least product of 2, 3 and 5 that holds T frames convolved with T taps."""
    odd = [int(3**i * 5**j) for i in range(14) for j in range(10)]
    return min(o << (-(-2 * T // o) - 1).bit_length() for o in odd if o < 4 * T)


def _convolve(u: Tensor, k: Tensor, echo: Tensor | None) -> Tensor:
    T = u.shape[2]
    n = _size(T)
    y = torch.fft.irfft(torch.fft.rfft(u.to(k.dtype), n) * torch.fft.rfft(k, n), n)[..., :T]
    out = torch.empty(u.shape, dtype=u.dtype, device=u.device)
    return out.copy_(y) if echo is None else out.copy_(y + echo)


def _convolve_backward(dy: Tensor, u: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    T = u.shape[2]
    n = _size(T)
    dy_f = torch.fft.rfft(dy.to(k.dtype), n)
    du = torch.empty(u.shape, dtype=u.dtype, device=u.device)
    du.copy_(torch.fft.irfft(dy_f * torch.fft.rfft(k, n).conj(), n)[..., :T])
    dk_f = (dy_f * torch.fft.rfft(u.to(k.dtype), n).conj()).sum(0)
    return du, torch.fft.irfft(dk_f, n)[..., :T].contiguous()


def _fake(u: Tensor, k: Tensor, echo: Tensor | None) -> Tensor:
    return u.new_empty(u.shape)


def _fake_backward(dy: Tensor, u: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    return u.new_empty(u.shape), k.new_empty(k.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    u, k, echo = inputs
    ctx.save_for_backward(u, k)
    ctx.echo = echo is not None


def _gradient(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    u, k = ctx.saved_tensors
    du, dk = torch.ops.audiomamba.lti_convolve_backward.default(dy, u, k)
    return du, dk, dy.to(k.dtype) if ctx.echo else None


LIBRARY.define("lti_convolve(Tensor u, Tensor k, Tensor? echo) -> Tensor")
LIBRARY.define("lti_convolve_backward(Tensor dy, Tensor u, Tensor k) -> (Tensor, Tensor)")
LIBRARY.impl("lti_convolve", _convolve, "CompositeExplicitAutograd")
LIBRARY.impl("lti_convolve_backward", _convolve_backward, "CompositeExplicitAutograd")
torch.library.register_fake("audiomamba::lti_convolve", _fake, lib=LIBRARY)
torch.library.register_fake("audiomamba::lti_convolve_backward", _fake_backward, lib=LIBRARY)
torch.library.register_autograd(
    "audiomamba::lti_convolve", _gradient, setup_context=_setup_context, lib=LIBRARY
)


def convolve(u: Tensor, k: Tensor, echo: Tensor | None) -> Tensor:
    """Convolve each channel with its taps and add an echo, before rounding.

    Args:
        u: ``(B, D, T)``.
        k: ``(D, T)`` float32 (float64 where u is).
        echo: ``(B, D, T)`` in the dtype of k, or None.

    Returns:
        ``(B, D, T)`` contiguous, in the dtype of u.
    """
    y: Tensor = torch.ops.audiomamba.lti_convolve.default(u, k, echo)
    return y
