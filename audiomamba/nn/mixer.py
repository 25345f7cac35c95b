"""The gated mixer: in-projection, short causal convolution, dynamics, gate, out-projection."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiomamba.kernels.conv import conv, conv_step_
from audiomamba.kernels.layer_step import LayerWeights
from audiomamba.nn.config import LayerConfig
from audiomamba.nn.lti import Lti
from audiomamba.nn.projection import from_time_contiguous, to_time_contiguous_pair
from audiomamba.nn.selective import Selective

__all__ = ["Mixer", "MixerState"]

DYNAMICS: dict[str, type[Lti] | type[Selective]] = {"lti": Lti, "selective": Selective}


class MixerState(NamedTuple):
    conv: Tensor  # (B, conv_taps - 1, channels): the last inputs of the convolution
    dynamics: Tensor  # (B, channels, ...): the recurrent state, float32


class Mixer(nn.Module):
    """Mixes a sequence along time with the dynamics that ``config.dynamics`` names.

    The block around the dynamics is Mamba's (Gu and Dao, 2023, figure 3) for all of them, so that
    layers differ in nothing but the recurrence.
    """

    def __init__(self, width: int, config: LayerConfig) -> None:
        super().__init__()
        channels = config.expand * width
        self.channels = channels
        self.in_proj = nn.Linear(width, 2 * channels, bias=False)
        bound = config.conv_taps**-0.5
        self.conv_weight = nn.Parameter(
            torch.empty(channels, config.conv_taps).uniform_(-bound, bound)
        )
        self.conv_bias = nn.Parameter(torch.empty(channels).uniform_(-bound, bound))
        self.dynamics: Lti | Selective = DYNAMICS[config.dynamics](channels, width, config)
        self.out_proj = nn.Linear(channels, width, bias=False)

    def init_state(
        self, batch: int, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
    ) -> MixerState:
        """The state before the first frame of ``batch`` streams."""
        taps = self.conv_weight.shape[1]
        tail = torch.zeros(batch, taps - 1, self.channels, device=device, dtype=torch.float32)
        return MixerState(tail, self.dynamics.init_state(batch, device=device, dtype=dtype))

    def forward(
        self, x: Tensor, state: MixerState | None = None, *, resets: Tensor | None = None
    ) -> tuple[Tensor, MixerState]:
        """``x (B, T, width)``, any T, to ``y (B, T, width)`` and the state after it.

        ``resets (B, T)`` bool: where a new sequence starts inside a row.
        """
        u, z = to_time_contiguous_pair(x, self.in_proj.weight)
        tail = None if state is None else state.conv.to(u.dtype)
        u, tail = conv(
            u,
            self.conv_weight.to(u.dtype),
            self.conv_bias.to(u.dtype),
            activation="silu",
            initial_state=tail,
            resets=resets,
        )
        y, last = self.dynamics(u, z, None if state is None else state.dynamics, resets)
        return from_time_contiguous(y, self.out_proj.weight), MixerState(tail, last)

    def layer_weights(self, norm: Tensor) -> LayerWeights | None:
        """What ``kernels.layer_step`` takes, with the norm before; None for other dynamics."""
        inner = self.dynamics
        if not isinstance(inner, Selective):
            return None
        return LayerWeights(
            norm=norm,
            in_proj=self.in_proj.weight,
            conv=self.conv_weight,
            conv_bias=self.conv_bias,
            x_proj=inner.x_proj.weight,
            dt_proj=inner.dt_proj.weight,
            dt_bias=inner.dt_proj.bias,
            A_log=inner.A_log,
            skip=inner.D,
            out_proj=self.out_proj.weight,
        )

    def step_(self, x: Tensor, pool: MixerState, slots: Tensor) -> Tensor:
        """One frame of every row, ``x (M, width)``; rows ``slots`` of ``pool`` advance in place."""
        u, z = self.in_proj(x).chunk(2, dim=-1)
        u = conv_step_(u, self.conv_weight, self.conv_bias, pool.conv, slots, activation="silu")
        return F.linear(self.dynamics.step_(u, z, pool.dynamics, slots), self.out_proj.weight)
