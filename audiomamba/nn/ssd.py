"""The mixer of Mamba-2: state-space duality between one projection, one convolution and a norm."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiomamba.errors import ConfigError
from audiomamba.kernels.conv import conv, conv_step_
from audiomamba.kernels.norm import norm
from audiomamba.kernels.ssd import ssd, ssd_step_
from audiomamba.nn.config import LayerConfig
from audiomamba.nn.mixer import MixerState

__all__ = ["SsdMixer"]


class SsdMixer(nn.Module):
    """One projection makes gate, input, both state weights and step size of all heads.

    The short convolution runs over input and state weights alike; after the recurrence comes an
    RMS norm of the gated output, over each group of heads by itself.

    Source: Dao and Gu, "Transformers are SSMs", 2024, figure 6 and section 7.
    """

    def __init__(self, width: int, config: LayerConfig, *, eps: float) -> None:
        super().__init__()
        channels = config.expand * width
        if channels % config.head_width:
            raise ConfigError(
                f"ssd: heads of {config.head_width} do not divide {channels} channels"
            )
        self.channels, self.head_width = channels, config.head_width
        self.heads, self.groups, self.states = (
            channels // config.head_width,
            config.groups,
            config.state_size,
        )
        self.delta_limit = (config.dt_floor, config.dt_ceiling or math.inf)
        self.convolved = channels + 2 * self.groups * self.states
        self.in_proj = nn.Linear(width, channels + self.convolved + self.heads, bias=False)
        bound = config.conv_taps**-0.5
        self.conv_weight = nn.Parameter(
            torch.empty(self.convolved, config.conv_taps).uniform_(-bound, bound)
        )
        self.conv_bias = nn.Parameter(torch.empty(self.convolved).uniform_(-bound, bound))
        self.A_log = nn.Parameter(torch.empty(self.heads).uniform_(1, 16).log_())
        self.D = nn.Parameter(torch.ones(self.heads))
        low, high = math.log(config.dt_min), math.log(config.dt_max)
        dt = torch.exp(torch.rand(self.heads) * (high - low) + low)
        self.dt_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))  # the inverse of softplus
        self.norm_weight = nn.Parameter(torch.ones(channels))
        self.eps = eps
        self.out_proj = nn.Linear(channels, width, bias=False)

    def init_state(
        self, batch: int, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
    ) -> MixerState:
        """The state before the first frame of ``batch`` streams."""
        taps = self.conv_weight.shape[1]
        return MixerState(
            torch.zeros(batch, taps - 1, self.convolved, device=device, dtype=torch.float32),
            torch.zeros(
                batch, self.heads, self.head_width, self.states, device=device, dtype=dtype
            ),
        )

    def forward(
        self, x: Tensor, state: MixerState | None = None, *, resets: Tensor | None = None
    ) -> tuple[Tensor, MixerState]:
        """``x (B, T, width)``, any T, to ``y (B, T, width)`` and the state after it.

        ``resets (B, T)`` bool: where a new sequence starts inside a row.
        """
        z, u, dt = self._project(x)
        u, tail = conv(
            u,
            self.conv_weight.to(u.dtype),
            self.conv_bias.to(u.dtype),
            activation="silu",
            initial_state=None if state is None else state.conv.to(u.dtype),
            resets=resets,
        )
        u, B, C = self._split(u)
        y, last = ssd(
            u,
            dt,
            -torch.exp(self.A_log.float()),
            B,
            C,
            D=self.D.float(),
            delta_bias=self.dt_bias.float(),
            delta_limit=self.delta_limit,
            initial_state=None if state is None else state.dynamics,
            resets=resets,
        )
        return self._finish(y, z), MixerState(tail, last)

    def step_(self, x: Tensor, pool: MixerState, slots: Tensor) -> Tensor:
        """One frame of every row, ``x (M, width)``; rows ``slots`` of ``pool`` advance in place."""
        z, u, dt = self._project(x)
        u = conv_step_(u, self.conv_weight, self.conv_bias, pool.conv, slots, activation="silu")
        u, B, C = self._split(u)
        y = ssd_step_(
            u,
            dt,
            -torch.exp(self.A_log.float()),
            B,
            C,
            pool.dynamics,
            slots,
            D=self.D.float(),
            delta_bias=self.dt_bias.float(),
            delta_limit=self.delta_limit,
        )
        return self._finish(y, z)

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z, u, dt = self.in_proj(x).split([self.channels, self.convolved, self.heads], dim=-1)
        return z, u, dt

    def _split(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Convolved channels to x (..., H, P), B and C (..., G, N)."""
        shared = self.groups * self.states
        x, B, C = u.split([self.channels, shared, shared], dim=-1)
        return (
            x.unflatten(-1, (self.heads, self.head_width)),
            B.unflatten(-1, (self.groups, self.states)),
            C.unflatten(-1, (self.groups, self.states)),
        )

    def _finish(self, y: Tensor, z: Tensor) -> Tensor:
        """Gate, norm and project y (..., H, P)."""
        y, _ = norm(
            y.flatten(-2),
            self.norm_weight,
            eps=self.eps,
            gate=z,
            norm_before_gate=False,
            group_size=self.channels // self.groups,
        )
        return F.linear(y, self.out_proj.weight)
