"""``lti`` in chunks of frames: products of matrices inside, a state between."""

from typing import Final

import torch
from torch import Tensor

from audiomamba.kernels.lti.blocks import inputs_to_state, state_to_outputs, taps, turned
from audiomamba.kernels.lti.discretize import System, powers

__all__ = ["lti"]

CHUNK: Final = 64


def lti(
    u: Tensor, system: System, initial_state: Tensor | None, resets: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Run a system over ``(B, T, D)`` inputs, T >= 1, chunk by chunk.

    With resets, chunks end before every frame at which any row starts anew; this reads the
    resets on the host.
    """
    B, T, D = u.shape
    N = system.b.shape[1]
    longest = min(CHUNK, T)
    table = powers(system, torch.arange(longest + 1, device=u.device))  # (D, N, longest + 1)
    k = taps(system, longest)
    place = torch.arange(longest, device=u.device)
    lag = place - place[:, None]  # (s, t) -> t - s
    toeplitz = torch.where(lag >= 0, k[:, lag.clamp(min=0)], 0)  # (D, longest, longest)
    out = state_to_outputs(system, table[:, :, 1:])
    into = inputs_to_state(system, table[:, :, :-1].flip(2))
    u_DBT = u.permute(2, 0, 1).to(k.dtype)
    state = (
        k.new_zeros(D, B, 2 * N)
        if initial_state is None
        else initial_state.transpose(0, 1).reshape(D, B, 2 * N)
    )
    y = []
    cuts = _cuts(T, resets)
    for start, stop in zip(cuts, cuts[1:], strict=False):
        length = stop - start
        if resets is not None:
            state = torch.where(resets[:, start, None], 0, state)
        chunk = u_DBT[:, :, start:stop]
        y.append(
            torch.baddbmm(
                torch.bmm(chunk, toeplitz[:, :length, :length]), state, out[:, :, :length]
            )
        )
        state = torch.baddbmm(
            turned(state, table[:, :, length]), chunk, into[:, longest - length :]
        )
    y_BTD = torch.cat(y, dim=2).permute(1, 2, 0).to(u.dtype)
    return y_BTD, state.reshape(D, B, N, 2).transpose(0, 1).contiguous()


def _cuts(T: int, resets: Tensor | None) -> list[int]:
    """Where chunks begin, and T."""
    starts = {0} if resets is None else {0, *resets.any(dim=0).nonzero()[:, 0].tolist()}
    bounds = [*sorted(starts), T]
    return [
        cut for lo, hi in zip(bounds, bounds[1:], strict=False) for cut in range(lo, hi, CHUNK)
    ] + [T]
