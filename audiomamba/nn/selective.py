"""Selective dynamics (S6): the step size and both projections of the state depend on the input."""

import math

import torch
from torch import Tensor, nn

from audiomamba.kernels.scan import scan, scan_step_
from audiomamba.nn.config import LayerConfig
from audiomamba.nn.projection import from_time_contiguous, to_time_contiguous

__all__ = ["Selective"]


class Selective(nn.Module):
    """The recurrence of Mamba-1 over ``channels`` with ``state_size`` real states each.

    Source: Gu and Dao, "Mamba", 2023, algorithm 2; initial values as in section 3.6.
    """

    def __init__(self, channels: int, width: int, config: LayerConfig) -> None:
        super().__init__()
        N = config.state_size
        self.channels, self.state_size = channels, N
        self.dt_rank = config.dt_rank or math.ceil(width / 16)
        self.x_proj = nn.Linear(channels, self.dt_rank + 2 * N, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, channels)
        self.A_log = nn.Parameter(torch.log(torch.arange(1, N + 1).float()).repeat(channels, 1))
        self.D = nn.Parameter(torch.ones(channels))
        with torch.no_grad():
            bound = self.dt_rank**-0.5
            self.dt_proj.weight.uniform_(-bound, bound)
            low, high = math.log(config.dt_min), math.log(config.dt_max)
            dt = torch.exp(torch.rand(channels) * (high - low) + low)
            self.dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # the inverse of softplus

    def init_state(
        self, batch: int, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Zeros, ``(batch, channels, state_size)``."""
        return torch.zeros(batch, self.channels, self.state_size, device=device, dtype=dtype)

    def forward(
        self, u: Tensor, z: Tensor, state: Tensor | None, resets: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """``u``, ``z (B, T, channels)`` to ``y (B, T, channels)``, gated by ``silu(z)``."""
        low, B, C = self._split(from_time_contiguous(u, self.x_proj.weight))
        return scan(
            u,
            to_time_contiguous(low, self.dt_proj.weight),
            -torch.exp(self.A_log.float()),
            B.unsqueeze(2),
            C.unsqueeze(2),
            D=self.D.float(),
            z=z,
            delta_bias=self.dt_proj.bias.float(),
            initial_state=state,
            resets=resets,
        )

    def step_(self, u: Tensor, z: Tensor, pool: Tensor, slots: Tensor) -> Tensor:
        """One frame of every row, ``u``, ``z (M, channels)``; rows ``slots`` advance in place."""
        low, B, C = self._split(self.x_proj(u))
        return scan_step_(
            u,
            torch.mm(low, self.dt_proj.weight.t()),
            -torch.exp(self.A_log.float()),
            B.unsqueeze(1),
            C.unsqueeze(1),
            pool,
            slots,
            D=self.D.float(),
            z=z,
            delta_bias=self.dt_proj.bias.float(),
        )

    def _split(self, projected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        low, B, C = projected.split([self.dt_rank, self.state_size, self.state_size], dim=-1)
        return low, B, C
