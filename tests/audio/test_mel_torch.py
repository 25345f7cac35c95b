import numpy as np
import pytest
import torch

from audiomamba.audio.mel import MelConfig, StreamingMel
from audiomamba.audio.mel_torch import log_mel
from audiomamba.errors import ShapeError


@pytest.mark.parametrize("count", [400, 559, 560, 16000])
def test_batched_features_are_the_streams(count: int) -> None:
    rng = np.random.default_rng(7)
    samples = (rng.uniform(0.001, 0.5, (3, 1)) * rng.standard_normal((3, count))).astype(np.float32)
    batched = log_mel(torch.from_numpy(samples), MelConfig())
    assert batched.shape == (3, 1 + (count - 400) // 160, 80)
    for row, features in zip(samples, batched.numpy(), strict=True):
        np.testing.assert_allclose(features, StreamingMel().feed(row), atol=1e-4)


@pytest.mark.parametrize("shape", [(400,), (2, 399), (1, 1, 400)])
def test_what_holds_no_frame_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="log_mel: wants"):
        log_mel(torch.zeros(shape), MelConfig())
