"""What a model hears, as its configuration says: log-mel, or the samples themselves."""

from audiomamba.audio.level import LevelControl
from audiomamba.audio.mel import MelConfig, StreamingMel
from audiomamba.audio.waveform import StreamingWaveform, WaveformConfig

__all__ = ["FeatureConfig", "StreamingFeatures", "streaming_features"]

FeatureConfig = MelConfig | WaveformConfig
StreamingFeatures = StreamingMel | StreamingWaveform


def streaming_features(config: FeatureConfig) -> StreamingFeatures:
    """Features of one stream. Quiet log-mel is raised; samples stay as they are.

    A gain that follows the frames would put a step between any two of them, which is a click.
    Models of samples take logarithms instead.
    """
    if isinstance(config, WaveformConfig):
        return StreamingWaveform(config)
    return StreamingMel(config, LevelControl())
