"""The feed-forward part: SwiGLU, with a causal convolution on its gate where asked for."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiomamba.kernels.conv import conv, conv_step_
from audiomamba.nn.projection import from_time_contiguous, to_time_contiguous_pair

__all__ = ["FeedForward", "FeedForwardState"]

FeedForwardState = Tensor | tuple[()]
"""(B, taps - 1, hidden), the last inputs of the gate's convolution; nothing where there is none."""


class FeedForward(nn.Module):
    """``W_out (silu(gate) * value)``, gate and value both linear in the input.

    Args:
        width: Of input and output.
        hidden: Of gate and value.
        conv_taps: Of a depthwise causal convolution on the gate; 0 for none. A local convolution
            here is what makes one-way state-space encoders of speech as good as Conformers.

    Source: Shazeer, "GLU Variants Improve Transformer", 2020, equation 6.
    """

    def __init__(self, width: int, hidden: int, conv_taps: int = 0) -> None:
        super().__init__()
        self.hidden, self.conv_taps = hidden, conv_taps
        self.in_proj = nn.Linear(width, 2 * hidden, bias=False)
        self.out_proj = nn.Linear(hidden, width, bias=False)
        if conv_taps:
            bound = conv_taps**-0.5
            self.conv_weight = nn.Parameter(torch.empty(hidden, conv_taps).uniform_(-bound, bound))
            self.conv_bias = nn.Parameter(torch.zeros(hidden))

    def init_state(
        self, batch: int, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
    ) -> FeedForwardState:
        """The state before the first frame of ``batch`` streams."""
        if not self.conv_taps:
            return ()
        return torch.zeros(
            batch, self.conv_taps - 1, self.hidden, device=device, dtype=torch.float32
        )

    def forward(
        self, x: Tensor, state: FeedForwardState | None = None, *, resets: Tensor | None = None
    ) -> tuple[Tensor, FeedForwardState]:
        """``x (B, T, width)``, any T, to ``y (B, T, width)`` and the state after it."""
        if not self.conv_taps:
            gate, value = (F.linear(x, w) for w in self.in_proj.weight.chunk(2))
            return F.linear(F.silu(gate) * value, self.out_proj.weight), ()
        gate, value = to_time_contiguous_pair(x, self.in_proj.weight)
        tail = state.to(gate.dtype) if isinstance(state, Tensor) else None
        gate, tail = conv(
            gate,
            self.conv_weight.to(gate.dtype),
            self.conv_bias.to(gate.dtype),
            activation="silu",
            initial_state=tail,
            resets=resets,
        )
        return from_time_contiguous(gate * value, self.out_proj.weight), tail

    def step_(self, x: Tensor, pool: FeedForwardState, slots: Tensor) -> Tensor:
        """One frame of every row, ``x (M, width)``; rows ``slots`` of ``pool`` advance in place."""
        gate, value = self.in_proj(x).chunk(2, dim=-1)
        if isinstance(pool, Tensor):
            gate = conv_step_(
                gate, self.conv_weight, self.conv_bias, pool, slots, activation="silu"
            )
        else:
            gate = F.silu(gate)
        return F.linear(gate * value, self.out_proj.weight)
