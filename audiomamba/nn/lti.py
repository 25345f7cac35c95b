"""Time-invariant dynamics (S4D): diagonal linear filters, the same at all times."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiomamba.kernels.lti import System, lti, sample, sampled_step_
from audiomamba.nn.config import LayerConfig

__all__ = ["Lti"]


class Lti(nn.Module):
    """``channels`` filters of ``state_size / 2`` complex states each, gated by ``silu(z)``.

    ``values="real"`` makes them ``state_size`` real states: decays without oscillation, of as many
    parameters; the ops see imaginary parts of zero.

    Source: Gu, Gupta, Goel and Ré, "On the Parameterization and Initialization of Diagonal State
    Space Models", 2022; S4D-Lin: Re A = -1/2, Im A = pi n, B = 1; S4D-Real: A = -(n + 1).
    """

    B: Tensor

    def __init__(self, channels: int, width: int, config: LayerConfig) -> None:
        super().__init__()
        self.is_real = config.values == "real"
        pairs = config.state_size if self.is_real else config.state_size // 2
        self.channels, self.pairs = channels, pairs
        self.discretization = config.discretization
        low, high = math.log(config.dt_min), math.log(config.dt_max)
        self.log_dt = nn.Parameter(torch.rand(channels) * (high - low) + low)
        if self.is_real:
            decays = torch.arange(1, pairs + 1).float()
            self.A_log_real = nn.Parameter(torch.log(decays).repeat(channels, 1))
            self.C = nn.Parameter(torch.randn(channels, pairs) * math.sqrt(0.5))
        else:
            self.A_log_real = nn.Parameter(torch.full((channels, pairs), math.log(0.5)))
            self.A_imag = nn.Parameter(math.pi * torch.arange(pairs).float().repeat(channels, 1))
            self.C = nn.Parameter(torch.randn(channels, pairs, 2) * math.sqrt(0.5))
        self.D = nn.Parameter(torch.ones(channels))
        self._kept: tuple[tuple[tuple[int, int], ...], System] | None = None
        self.register_buffer("B", torch.ones(channels, pairs, dtype=torch.cfloat), persistent=False)

    def init_state(
        self, batch: int, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Zeros, ``(batch, channels, pairs, 2)``: real and imaginary part last."""
        return torch.zeros(batch, self.channels, self.pairs, 2, device=device, dtype=dtype)

    def forward(
        self, u: Tensor, z: Tensor, state: Tensor | None, resets: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """``u``, ``z (B, T, channels)`` to ``y (B, T, channels)``, gated by ``silu(z)``."""
        A, C, dt = self._system()
        y, state = lti(
            u,
            A,
            self.B,
            C,
            dt,
            D=self.D.float(),
            discretization=self.discretization,
            initial_state=state,
            resets=resets,
        )
        return y * F.silu(z), state

    def step_(self, u: Tensor, z: Tensor, pool: Tensor, slots: Tensor) -> Tensor:
        """One frame of every row, ``u``, ``z (M, channels)``; rows ``slots`` advance in place."""
        return sampled_step_(u, self.sampled(), pool, slots) * F.silu(z)

    def sampled(self) -> System:
        """The sampled system as steps take it; made anew where a parameter was
        written to or exchanged."""
        parameters = tuple(self.parameters())
        key = tuple((p.data_ptr(), p._version) for p in parameters)
        if self._kept is None or self._kept[0] != key:
            A, C, dt = self._system()
            system = sample(A, self.B, C, dt, D=self.D.float(), discretization=self.discretization)
            self._kept = key, system
        return self._kept[1]

    def _system(self) -> tuple[Tensor, Tensor, Tensor]:
        decay, C, dt = -torch.exp(self.A_log_real.float()), self.C.float(), torch.exp(self.log_dt)
        if self.is_real:
            nothing = torch.zeros_like(decay)
            return torch.complex(decay, nothing), torch.complex(C, nothing), dt.float()
        A = torch.complex(decay, self.A_imag.float())
        return A, torch.view_as_complex(C.contiguous()), dt.float()
