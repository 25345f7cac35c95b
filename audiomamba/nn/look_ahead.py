"""Look-ahead: a layer that sees a little of the future, paid for in delay.

A frame's sound is settled by what follows it: a plosive by its release, a vowel by the consonant
that ends it. A causal stack can only learn to write late; here the stream itself is made late, by
a known number of frames, and the layers above see what came in between.

Source: the row convolution of Amodei et al., "Deep Speech 2", 2016, section 3.5, here with taps on
both sides, so that it begins as a pure delay and a trained causal stack can grow it.
"""

import torch
from torch import Tensor, nn

from audiomamba.kernels.conv import conv, conv_step_

__all__ = ["LookAhead"]


class LookAhead(nn.Module):
    """``y_t = Σ_k w_k · x_{t−2r+k}``, k = 0 … 2r: frame t − r, as its r neighbours each way see it.

    Before the first frame the stream is taken to have been ``rest``, which is learned. Not zero:
    the norm of a stream that begins with nothing divides by nothing, and gradients grow by it in
    every layer (to 1e27 after ten).

    Args:
        width: Channels, each with taps of its own.
        frames: ``r``; the output is that late.
    """

    def __init__(self, width: int, frames: int) -> None:
        super().__init__()
        self.width, self.frames = width, frames
        taps = torch.zeros(width, 2 * frames + 1)
        taps[:, frames] = 1
        self.taps = nn.Parameter(taps)
        self.rest = nn.Parameter(torch.ones(width))

    def init_state(self, batch: int, *, device: torch.device | None = None) -> Tensor:
        """The last 2r inputs less ``rest``, ``(B, 2r, width)`` float32; zeros at first."""
        return torch.zeros(batch, 2 * self.frames, self.width, device=device)

    def forward(
        self, x: Tensor, state: Tensor | None = None, *, resets: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """``x (B, T, width)`` float32, any T, to as much and the state after it."""
        shifted = x - self.rest
        if x.device.type != "cpu":
            # A GPU's kernel reads a channel's frames one after another; the norm that comes next
            # reads a frame's channels. Two copies cost less than strided reads.
            shifted = shifted.transpose(1, 2).contiguous().transpose(1, 2)
        y, tail = conv(shifted, self.taps, self._rested(), initial_state=state, resets=resets)
        return y.contiguous(), tail

    def step_(self, x: Tensor, pool: Tensor, slots: Tensor) -> Tensor:
        """One frame of every row, ``x (M, width)``; rows ``slots`` of ``pool`` advance in place."""
        return conv_step_(x - self.rest, self.taps, self._rested(), pool, slots)

    def _rested(self) -> Tensor:
        """The output where the input always was ``rest``, ``(width,)``."""
        return self.rest * self.taps.sum(1)
