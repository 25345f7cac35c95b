"""From 100 feature frames a second to 25: two strided convolutions that keep the past alone."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiomamba.errors import ShapeError
from audiomamba.models.transcriber_config import FACTOR

__all__ = ["FACTOR", "Subsampler", "SubsamplerState"]


class SubsamplerState(NamedTuple):
    first: Tensor  # (B, 1, bins): the last feature frame
    second: Tensor  # (B, channels * bins / 2): the last output of the first convolution


class Subsampler(nn.Module):
    """Feature frames ``(B, 4 T, bins)`` to encoder frames ``(B, T, width)``.

    Both convolutions are 3 x 3 with stride 2. Along time they see the pair they stand for and the
    frame before it, so output t is ready with feature frame 4 t + 3 and nothing is looked ahead.
    """

    def __init__(self, bins: int, width: int, channels: tuple[int, int]) -> None:
        super().__init__()
        self.bins, self.channels = bins, channels
        self.first = nn.Conv2d(1, channels[0], 3, stride=2)
        self.second = nn.Conv2d(channels[0], channels[1], 3, stride=2)
        self.project = nn.Linear(channels[1] * (bins // 4), width)

    def init_state(
        self, batch: int, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
    ) -> SubsamplerState:
        """The state before the first frame of ``batch`` streams."""
        return SubsamplerState(
            torch.zeros(batch, 1, self.bins, device=device, dtype=dtype),
            torch.zeros(batch, self.channels[0] * (self.bins // 2), device=device, dtype=dtype),
        )

    def forward(
        self, features: Tensor, state: SubsamplerState | None = None
    ) -> tuple[Tensor, SubsamplerState]:
        """``features (B, 4 T, bins)``, normalised; any T >= 0.

        Raises:
            ShapeError: the frames are no multiple of 4, or the bins are others.
        """
        B, frames, bins = features.shape
        if frames % FACTOR or bins != self.bins:
            raise ShapeError(
                f"subsampler: wants (B, n * {FACTOR}, {self.bins}), got {tuple(features.shape)}"
            )
        if state is None:
            state = self.init_state(B, device=features.device, dtype=features.dtype)
        if frames == 0:
            return features.new_zeros(B, 0, self.project.out_features), state
        x = torch.cat([state.first.to(features.dtype), features], 1)[:, None]
        x = F.silu(self.first(F.pad(x, (1, 1))))  # (B, C1, 2 T, bins / 2)
        before = state.second.to(x.dtype).view(B, self.channels[0], 1, bins // 2)
        after = SubsamplerState(features[:, -1:].float(), x[:, :, -1].reshape(B, -1).float())
        x = F.silu(self.second(F.pad(torch.cat([before, x], 2), (1, 1))))  # (B, C2, T, bins / 4)
        return self.project(x.transpose(1, 2).flatten(2)), after
