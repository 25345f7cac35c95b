"""Batches have the features that streams have."""

import numpy as np
import pytest
import torch

from audiomamba.audio.features import FeatureConfig, streaming_features
from audiomamba.audio.features_torch import features_of_samples
from audiomamba.audio.mel import MelConfig
from audiomamba.audio.waveform import WaveformConfig
from audiomamba.errors import ShapeError


@pytest.mark.parametrize("config", [MelConfig(), WaveformConfig()], ids=["mel", "waveform"])
def test_a_batch_has_the_frames_of_its_streams(config: FeatureConfig) -> None:
    samples = np.random.default_rng(0).standard_normal((2, 2000)).astype(np.float32)
    batched = features_of_samples(torch.from_numpy(samples), config)
    assert batched.shape == (2, 1 + (2000 - config.window) // config.hop, config.bins)
    for row, stream in zip(batched.numpy(), samples, strict=True):
        np.testing.assert_allclose(row, streaming_features(config).feed(stream), atol=2e-3)


@pytest.mark.parametrize("shape", [(160,), (1, 159), (1, 1, 400)])
def test_what_is_no_frame_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="features: wants"):
        features_of_samples(torch.zeros(shape), WaveformConfig())
