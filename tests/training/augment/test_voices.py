"""Moved formants and changed colours."""

import numpy as np
import torch

from audiomamba.audio.mel import MelConfig, StreamingMel
from audiomamba.training.augment.voices import disguise, plan_colours, plan_warps

MEL = MelConfig()


def tone(hz: float) -> torch.Tensor:
    """Features ``(1, F, bins)`` of a tone."""
    time = np.arange(8000) / MEL.sample_rate
    samples = 0.1 * np.sin(2 * np.pi * hz * time)
    return torch.from_numpy(StreamingMel(MEL).feed(samples.astype(np.float32)))[None]


def test_a_tone_moves_by_the_factor() -> None:
    rng = np.random.default_rng(0)
    warps = plan_warps(rng, 64, MEL, 0.2)
    unmoved = plan_warps(np.random.default_rng(0), 64, MEL, 0.0)
    assert np.abs(unmoved - np.arange(MEL.bins)).max() < 1e-3
    silent = torch.zeros(64, MEL.bins)
    moved = disguise(tone(1500.0).expand(64, -1, -1), torch.from_numpy(warps), silent)
    peaks = moved.mean(1).argmax(1).numpy()
    factors = np.exp(np.random.default_rng(0).uniform(-1, 1, 64) * np.log1p(0.2))
    # Reading at f * factor, one finds a tone of 1500 Hz at 1500 / factor.
    places = [int(tone(1500.0 / factor).mean(1).argmax()) for factor in factors]
    assert np.abs(peaks - places).max() <= 1
    assert len(set(places)) > 5


def test_a_colour_is_smooth_and_as_strong_as_asked_for() -> None:
    colours = plan_colours(np.random.default_rng(1), 2000, 80, 3.0)
    deviation_db = colours[:, [0, -1]].std() * 10 / np.log(10)
    assert abs(deviation_db - 3.0) < 0.15
    assert np.abs(np.diff(colours, axis=1)).max() < 0.5
    assert not plan_colours(np.random.default_rng(1), 5, 80, 0.0).any()


def test_a_colour_is_the_same_in_every_frame_of_a_row() -> None:
    features = torch.randn(3, 7, MEL.bins)
    colours = torch.from_numpy(plan_colours(np.random.default_rng(2), 3, MEL.bins, 4.0))
    places = torch.arange(MEL.bins, dtype=torch.float32).expand(3, -1)
    changed = disguise(features, places, colours) - features
    torch.testing.assert_close(changed, colours[:, None].expand_as(changed), atol=1e-5, rtol=0)
