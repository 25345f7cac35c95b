"""A transcriber and a source of batches small enough to train in a test."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from audiomamba.audio.features import FeatureConfig
from audiomamba.models.transcriber import Transcriber, TranscriberConfig
from audiomamba.nn import LayerConfig, StackConfig


@dataclass(frozen=True)
class TinyBatch:
    samples: Tensor
    num_samples: Tensor
    targets: Tensor
    target_lengths: Tensor
    phones: Tensor
    activity: Tensor
    seconds: float


class TinySource:
    """Noise whose loudness says which token is meant; a pure function of the number."""

    def __init__(self, rows: int = 2, samples: int = 5200, *, merged: int = 1) -> None:
        self.rows, self.samples, self.merged = rows, samples, merged
        self.asked: list[int] = []

    def batch(self, number: int) -> TinyBatch:
        """``merged`` neighbouring batches in one, as one process would see those of several."""
        self.asked.append(number)
        numbers = range(number * self.merged, (number + 1) * self.merged)
        parts = [self._part(n) for n in numbers]
        joined = {name: torch.cat([getattr(p, name) for p in parts]) for name in TINY_FIELDS}
        return TinyBatch(**joined, seconds=sum(p.seconds for p in parts))

    def augment_features(self, features: Tensor, config: FeatureConfig, number: int) -> Tensor:
        return features

    def _part(self, number: int) -> TinyBatch:
        draw = torch.Generator().manual_seed(number)
        token = torch.randint(1, 4, (self.rows, 1), generator=draw)
        noise = torch.randn(self.rows, self.samples, generator=draw)
        frames = ((self.samples - 400) // 160 + 1) // 4
        # The second batch of a pair holds more tokens, so that means of means would be wrong.
        lengths = torch.full((self.rows,), 1 + number % 2)
        return TinyBatch(
            noise * 0.1 * token,
            torch.full((self.rows,), self.samples),
            token.repeat(1, 2),
            lengths,
            token.repeat(1, frames) if number % 2 else torch.full((self.rows, frames), -1),
            torch.ones(self.rows, frames),
            self.rows * self.samples / 16_000,
        )


TINY_FIELDS = ("samples", "num_samples", "targets", "target_lengths", "phones", "activity")


@pytest.fixture
def tiny_source() -> Callable[..., TinySource]:
    return TinySource


@pytest.fixture
def tiny_model() -> Callable[..., Transcriber]:
    """Makes the same model each time."""

    def make(*, dropout: float = 0.1, inter: int = 1, phone: int = 1) -> Transcriber:
        torch.manual_seed(0)
        layers = [
            LayerConfig(dynamics="lti", state_size=4, ffn_conv_taps=3),
            LayerConfig(dynamics="selective", state_size=4),
        ]
        return Transcriber(
            TranscriberConfig(
                vocabulary=8,
                phones=5,
                subsample_channels=[2, 4],
                inter_layer=inter,
                phone_layer=phone,
                stack=StackConfig(width=16, layers=layers, dropout=dropout),
            )
        )

    return make
