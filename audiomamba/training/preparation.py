"""From a batch of sound to what the loop trains on: features, targets, counts."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from audiomamba.audio.features import FeatureConfig
from audiomamba.audio.features_torch import features_of_samples
from audiomamba.models.subsample import FACTOR
from audiomamba.training.losses import IGNORE, Targets, count
from audiomamba.training.parallel import Parallel
from audiomamba.training.prefetch import Prepared

__all__ = ["SoundBatch", "feature_statistics", "features_of", "prepare"]


class SoundBatch(Protocol):
    """Utterances of about one length, with all that is known about them."""

    @property
    def samples(self) -> Tensor: ...  # (B, S) float32, 16 kHz, on the device

    @property
    def num_samples(self) -> Tensor: ...  # (B,) int64

    @property
    def targets(self) -> Tensor: ...  # (B, L) int64

    @property
    def target_lengths(self) -> Tensor: ...  # (B,) int64

    @property
    def phones(self) -> Tensor: ...  # (B, T) int64, IGNORE where not known

    @property
    def activity(self) -> Tensor: ...  # (B, T) 0..1

    @property
    def seconds(self) -> float: ...


def features_of(batch: SoundBatch, config: FeatureConfig) -> tuple[Tensor, Tensor]:
    """Features ``(B, 4 T, bins)`` and, on the CPU, the encoder frames that hold audio, ``(B,)``."""
    features = features_of_samples(batch.samples, config)
    frames = features.shape[1] // FACTOR
    lengths = ((batch.num_samples.cpu() - config.window) // config.hop + 1) // FACTOR
    return features[:, : frames * FACTOR], lengths.clamp(min=1, max=frames)


def prepare(
    batch: SoundBatch,
    config: FeatureConfig,
    *,
    augment: Callable[[Tensor], Tensor] | None = None,
    views: int = 1,
) -> Prepared:
    """Make features and targets of a batch.

    Args:
        batch: Sound and labels.
        config: Features of the model.
        augment: Changes the features: other voices, hidden parts.
        views: So many times each row is there, ``B`` rows after ``B`` rows, each changed anew.
    """
    features, lengths = features_of(batch, config)
    device = features.device
    frames = features.shape[1] // FACTOR
    features, lengths = features.repeat(views, 1, 1), lengths.repeat(views)
    if augment is not None:
        features = augment(features)
    rows = lengths.to(device, non_blocking=True)
    counted = torch.arange(frames, device=device)[None] < rows[:, None]
    targets = Targets(
        tokens=batch.targets.to(device).repeat(views, 1),
        token_lengths=batch.target_lengths.cpu().repeat(views),
        frame_lengths=lengths,
        phones=_fit(batch.phones.to(device), frames, IGNORE).repeat(views, 1),
        activity=_fit(batch.activity.to(device).float(), frames, 0).repeat(views, 1),
        counted=counted,
    )
    return Prepared(features, targets, count(targets), batch.seconds)


def feature_statistics(
    make: Callable[[int], SoundBatch], config: FeatureConfig, batches: int, parallel: Parallel
) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each bin over the audio of some batches, padding left out."""
    sums: Tensor | None = None
    for step in range(batches):
        features, lengths = features_of(make(step), config)
        device = features.device
        inside = (
            torch.arange(features.shape[1], device=device) < FACTOR * lengths.to(device)[:, None]
        )
        x = features.double() * inside[..., None]
        part = torch.stack([x.sum((0, 1)), (x * x).sum((0, 1)), inside.sum().expand(x.shape[2])])
        sums = part if sums is None else sums + part
    assert sums is not None
    parallel.mean_(sums)
    mean = sums[0] / sums[2]
    std = (sums[1] / sums[2] - mean * mean).clamp(min=1e-6).sqrt()
    return mean.float(), std.float()


def _fit(labels: Tensor, frames: int, fill: int) -> Tensor:
    """Cut or fill ``(B, T)`` to ``frames``: the last window may not be whole."""
    return F.pad(labels[:, :frames], (0, max(0, frames - labels.shape[1])), value=fill)
