import numpy as np
import torch

from audiomamba.training.augment.filters import (
    BLOCK_TAPS,
    channel_response,
    convolve,
    plan_channels,
    spectra,
)
from audiomamba.training.augment.rooms import ROOM_TAPS


def test_blocks_give_what_one_convolution_gives() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 20_000)).astype(np.float32)
    h = (rng.standard_normal((2, ROOM_TAPS)) / 50).astype(np.float32)
    y = convolve(torch.from_numpy(x), torch.from_numpy(spectra(h)))
    size = 20_000 + ROOM_TAPS
    expected = np.fft.irfft(np.fft.rfft(x, size) * np.fft.rfft(h, size), size)[:, :20_000]
    np.testing.assert_allclose(y.numpy(), expected, atol=1e-4)


def test_a_telephone_keeps_its_band_and_nothing_else() -> None:
    line = torch.tensor([[0.0, 300.0, 3400.0]])
    gains = channel_response(line)[0]
    hz = torch.linspace(0, 8000, BLOCK_TAPS // 2 + 1)
    assert gains[(hz > 600) & (hz < 2800)].min() > 0.95
    assert gains[(hz > 4200) | (hz < 100)].max() < 0.01


def test_a_tilt_has_no_effect_at_one_kilohertz_and_stays_within_six_decibels() -> None:
    channels = torch.from_numpy(plan_channels(np.random.default_rng(0), 50, 1.0))
    channels[:, 1], channels[:, 2] = -1e5, 1e5
    gains_db = 20 * torch.log10(channel_response(channels))
    assert gains_db[:, BLOCK_TAPS // 16].abs().max() < 0.01
    assert gains_db[:, BLOCK_TAPS // 16 :].abs().max() < 6.01


def test_a_channel_does_not_delay() -> None:
    click = torch.zeros(30, 12_000)
    click[:, 6000] = 1
    channels = torch.from_numpy(plan_channels(np.random.default_rng(2), 30, 1.0))
    assert (convolve(click, channel_response(channels)).argmax(1) == 6000).all()
