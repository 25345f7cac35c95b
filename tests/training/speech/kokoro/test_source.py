"""The excitation, the short transforms and the resampler."""

import math

import torch

from audiomamba.training.speech.kokoro.segments import pack_segments
from audiomamba.training.speech.kokoro.source import Source, analyse, resample_16k, synthesise

CPU = torch.device("cpu")


def test_the_pitch_is_heard() -> None:
    segments = pack_segments([40], 44, CPU)
    f0 = torch.zeros(88)
    f0[4:84] = 200.0
    source = Source().requires_grad_(False)
    source.l_linear.weight.copy_(torch.tensor([[1.0] + [0.0] * 8]))
    source.l_linear.bias.zero_()
    wave = source(f0, segments, noise=False)
    assert wave.shape == (44 * 600,)
    assert not wave[: 2 * 600].any() and not wave[42 * 600 :].any()
    spectrum = torch.fft.rfft(wave[2 * 600 : 42 * 600]).abs()
    assert int(spectrum.argmax()) == 200  # a second of 24,000 samples: a bin is 1 Hz


def test_each_utterance_starts_at_phase_zero() -> None:
    torch.manual_seed(0)
    pair, single = pack_segments([9, 12], 27, CPU), pack_segments([12], 16, CPU)
    first, second = torch.rand(18) * 100 + 80, torch.rand(24) * 100 + 80
    f0 = torch.zeros(54)
    f0[4:22], f0[26:50] = first, second
    alone = torch.zeros(32)
    alone[4:28] = second
    source = Source().requires_grad_(False)
    both, one = source(f0, pair, noise=False), source(alone, single, noise=False)
    torch.testing.assert_close(
        both[13 * 600 : 25 * 600], one[2 * 600 : 14 * 600], rtol=0, atol=2e-3
    )


def test_analysis_is_torchs_own_of_each_utterance() -> None:
    torch.manual_seed(0)
    segments = pack_segments([3], 7, CPU)
    wave = torch.zeros(7 * 600)
    wave[1200:3000] = torch.randn(1800)
    window = torch.hann_window(20, periodic=True)
    wanted = torch.stft(wave[1200:3000], 20, 5, 20, window, return_complex=True).t()
    found = analyse(wave, window, segments)[240 : 240 + 361]
    torch.testing.assert_close(found[:, :11], wanted.abs(), rtol=1e-4, atol=1e-4)
    turned = torch.polar(found[:, :11], found[:, 11:])
    torch.testing.assert_close(turned, wanted, rtol=1e-3, atol=1e-4)


def test_synthesis_is_torchs_own_inside_an_utterance() -> None:
    torch.manual_seed(0)
    window = torch.hann_window(20, periodic=True)
    x = torch.randn(240, 22)
    spectrum = torch.polar(x[:, :11].exp(), torch.sin(x[:, 11:]))
    wanted = torch.istft(spectrum.t(), 20, 5, 20, window)
    found = synthesise(x, window)
    torch.testing.assert_close(found[20:1170], wanted[20:1170], rtol=1e-3, atol=1e-3)


def test_the_resampler_keeps_speech_and_stops_what_would_fold() -> None:
    t = torch.arange(24_000, dtype=torch.float64) / 24_000
    low = resample_16k(0.5 * torch.sin(2 * math.pi * 1_000 * t).float()).float() / 32_767
    wanted = 0.5 * torch.sin(2 * math.pi * 1_000 * torch.arange(16_000) / 16_000)
    torch.testing.assert_close(low[200:-200], wanted[200:-200], rtol=0, atol=1e-3)
    high = resample_16k(0.5 * torch.sin(2 * math.pi * 9_500 * t).float()).float() / 32_767
    assert high[200:-200].abs().max() < 1e-3
