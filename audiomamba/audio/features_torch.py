"""Features of whole batches, for training: the same numbers as a stream's."""

from torch import Tensor

from audiomamba.audio.features import FeatureConfig
from audiomamba.audio.mel_torch import log_mel
from audiomamba.audio.waveform import WaveformConfig
from audiomamba.errors import ShapeError

__all__ = ["features_of_samples"]


def features_of_samples(samples: Tensor, config: FeatureConfig) -> Tensor:
    """Features ``(B, 1 + (S - window) // hop, bins)`` of ``samples (B, S)`` float32.

    Raises:
        ShapeError: not two axes, or fewer samples than a window.
    """
    if not isinstance(config, WaveformConfig):
        return log_mel(samples, config)
    if samples.dim() != 2 or samples.shape[1] < config.window:
        raise ShapeError(
            f"features: wants (B, S) with S >= {config.window}, got {tuple(samples.shape)}"
        )
    frames = samples.shape[1] // config.hop
    return samples[:, : frames * config.hop].float().reshape(len(samples), frames, config.hop)
