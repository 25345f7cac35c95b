"""The mixer of Mamba-3: no convolution; the state turns and sees two samples at a time."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiomamba.errors import ConfigError
from audiomamba.kernels.mamba3 import Mamba3State, mamba3, mamba3_step_
from audiomamba.kernels.norm import norm
from audiomamba.nn.config import LayerConfig

__all__ = ["Mamba3Mixer"]


class Mamba3Mixer(nn.Module):
    """One projection makes all that the recurrence takes; the output is gated by ``silu(z)``.

    The projections of the state are normed over their ``state_size`` and get a bias that starts at
    1; it does the work of the short convolution that Mamba-1 and 2 have.

    Source: the single-input form of Mamba-3 as mamba-ssm 2.3 has it.
    """

    def __init__(self, width: int, config: LayerConfig, *, eps: float) -> None:
        super().__init__()
        channels = config.expand * width
        heads = channels // config.head_width
        if channels % config.head_width or heads % config.groups:
            raise ConfigError(
                f"mamba3: {channels} channels want heads of a width that divides them, in "
                f"{config.groups} equal groups; got head_width {config.head_width}"
            )
        self.head_width, self.groups, self.states = (
            config.head_width,
            config.groups,
            config.state_size,
        )
        self.angles = max(1, round(config.rotation * self.states / 2))
        self.eps = eps
        shared = self.groups * self.states
        # z, x, B, C, delta, A, mix, angle
        self.widths = [channels, channels, shared, shared, heads, heads, heads, self.angles]
        self.in_proj = nn.Linear(width, sum(self.widths), bias=False)
        self.B_norm_weight = nn.Parameter(torch.ones(self.states))
        self.C_norm_weight = nn.Parameter(torch.ones(self.states))
        self.B_bias = nn.Parameter(torch.ones(heads, self.states))
        self.C_bias = nn.Parameter(torch.ones(heads, self.states))
        self.D = nn.Parameter(torch.ones(heads))
        low, high = math.log(config.dt_min), math.log(config.dt_max)
        dt = torch.exp(torch.rand(heads) * (high - low) + low)
        self.dt_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))  # the inverse of softplus
        self.out_proj = nn.Linear(channels, width, bias=False)

    def init_state(
        self, batch: int, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
    ) -> Mamba3State:
        """The state before the first frame of ``batch`` streams; matrices alone are ``dtype``."""

        def zeros(*shape: int, of: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(batch, len(self.D), *shape, device=device, dtype=of)

        return Mamba3State(
            zeros(self.angles),
            zeros(self.head_width, self.states, of=dtype),
            zeros(self.states),
            zeros(self.head_width),
        )

    def forward(
        self, x: Tensor, state: Mamba3State | None = None, *, resets: Tensor | None = None
    ) -> tuple[Tensor, Mamba3State]:
        """``x (B, T, width)``, any T, to ``y (B, T, width)`` and the state after it.

        ``resets (B, T)`` bool: where a new sequence starts inside a row.
        """
        z, u, delta, A, mix, angle, B, C = self._project(x)
        y, last = mamba3(
            u,
            delta,
            A,
            mix,
            angle,
            B,
            C,
            z=z,
            D=self.D.float(),
            delta_bias=self.dt_bias.float(),
            initial_state=state,
            resets=resets,
        )
        return F.linear(y.flatten(-2), self.out_proj.weight), last

    def step_(self, x: Tensor, pool: Mamba3State, slots: Tensor) -> Tensor:
        """One frame of every row, ``x (M, width)``; rows ``slots`` of ``pool`` advance in place."""
        z, u, delta, A, mix, angle, B, C = self._project(x)
        y = mamba3_step_(
            u,
            delta,
            A,
            mix,
            angle,
            B,
            C,
            pool,
            slots,
            z=z,
            D=self.D.float(),
            delta_bias=self.dt_bias.float(),
        )
        return F.linear(y.flatten(-2), self.out_proj.weight)

    def _project(self, x: Tensor) -> tuple[Tensor, ...]:
        """z, x, delta, A, mix, angle, B and C, in the recurrence's shapes."""
        z, u, B, C, delta, A, mix, angle = self.in_proj(x).split(self.widths, dim=-1)
        return (
            z.unflatten(-1, (-1, self.head_width)),
            u.unflatten(-1, (-1, self.head_width)),
            delta,
            A,
            mix,
            angle,
            self._of_heads(B, self.B_norm_weight, self.B_bias),
            self._of_heads(C, self.C_norm_weight, self.C_bias),
        )

    def _of_heads(self, shared: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Norm (..., G·N) over each N and give every head of a group its bias: (..., H, N)."""
        normed, _ = norm(shared.unflatten(-1, (self.groups, self.states)), weight, eps=self.eps)
        biases = bias.to(normed.dtype).view(self.groups, -1, self.states)
        return (normed.unsqueeze(-2) + biases).flatten(-3, -2)
