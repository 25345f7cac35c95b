"""The whole voice, with weights of a fixed seed."""

import numpy as np
import pytest
import torch
from torch import nn

from audiomamba.training.speech.kokoro.model import Kokoro, Planned


@pytest.fixture(scope="module")
def model() -> Kokoro:
    torch.manual_seed(0)
    voice = Kokoro()
    for name, parameter in voice.named_parameters():
        if "alpha" not in name and parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.5 / parameter[0].numel() ** 0.5)
    return voice.eval().requires_grad_(False)


@pytest.mark.slow
def test_a_line_sounds_the_same_alone_and_in_company(model: Kokoro) -> None:
    rng = np.random.default_rng(0)
    ids = [rng.integers(43, 150, n).astype(np.uint8) for n in (2, 3)]
    style = torch.from_numpy(rng.standard_normal((2, 256)).astype(np.float32))
    speed = torch.tensor([6.0, 8.0])
    both = model.plan(ids, style, speed)
    parts = [model.plan([ids[i]], style[i : i + 1], speed[i : i + 1]) for i in range(2)]
    np.testing.assert_array_equal(both.frames, Planned.join(parts).frames)
    frames = both.line_frames()
    together = model.speak(both, [0, 1], int(frames.sum()) + 6, noise=False)
    for i in range(2):
        alone = model.speak(parts[i], [0], int(frames[i]) + 4, noise=False)
        assert alone.frames == [together.frames[i]] == [frames[i]]
        begin, end = together.starts[i] * 600, (together.starts[i] + frames[i]) * 600
        single = alone.wave[2 * 600 : (2 + int(frames[i])) * 600]
        error = (together.wave[begin:end] - single)[50:-50]
        assert error.square().mean() < 1e-4 * single.square().mean()
