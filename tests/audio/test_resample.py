import numpy as np
import pytest
import soxr  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from audiomamba.audio.resample import Resampler
from audiomamba.errors import AudioError

RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
Samples = NDArray[np.float32]


def _whole(samples: Samples, from_rate: int, to_rate: int) -> Samples:
    resampler = Resampler(from_rate, to_rate)
    return np.concatenate([resampler.feed(samples), resampler.finish()])


def _tone(hz: float, rate: int, seconds: float) -> Samples:
    return np.sin(2 * np.pi * hz * np.arange(round(rate * seconds)) / rate).astype(np.float32)


def _inside(samples: Samples) -> Samples:
    """Without the ends, where filters see different silence."""
    return samples[len(samples) // 8 : -len(samples) // 8]


@pytest.mark.parametrize("rate", RATES)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(cuts=st.lists(st.integers(0, 900), max_size=12), ones=st.integers(0, 60))
def test_any_cut_gives_the_same_bits(rate: int, cuts: list[int], ones: int) -> None:
    samples = np.random.default_rng(3).standard_normal(900).astype(np.float32)
    edges = sorted({0, 900, *cuts, *range(ones)})
    resampler, parts = Resampler(rate, 16000), []
    for start, end in zip(edges, edges[1:], strict=False):
        parts.append(resampler.feed(samples[start:end]))
        fresh = Resampler(rate, 16000)
        fresh.load(resampler.state())
        resampler = fresh
    parts.append(resampler.finish())
    np.testing.assert_array_equal(np.concatenate(parts), _whole(samples, rate, 16000))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("count", [0, 1, 2, 161, 8000])
def test_the_length_is_that_of_the_same_time(rate: int, count: int) -> None:
    assert len(_whole(np.zeros(count, np.float32), rate, 16000)) == -(-count * 16000 // rate)


def _band_limited(rate: int) -> tuple[Samples, Samples]:
    """A second of noise below 0.85 of the lower Nyquist frequency, at ``rate`` and at 16 kHz.

    It repeats every second, so both are exact sums of the same sines.
    """
    spectrum = np.zeros(24001, np.complex128)
    below = int(0.85 * min(rate, 16000) / 2)  # lines of 1 Hz
    rng = np.random.default_rng(4)
    spectrum[1:below] = rng.standard_normal(below - 1) + 1j * rng.standard_normal(below - 1)
    at_rate, at_16k = (np.fft.irfft(spectrum[: r // 2 + 1], r) * r for r in (rate, 16000))
    loudness = 0.1 / at_16k.std()
    return (at_rate * loudness).astype(np.float32), (at_16k * loudness).astype(np.float32)


@pytest.mark.parametrize("rate", RATES)
def test_what_both_rates_can_hold_comes_out_as_it_was(rate: int) -> None:
    samples, exact = _band_limited(rate)
    error = _inside(_whole(samples, rate, 16000)) - _inside(exact)
    assert np.sqrt(np.mean(error**2)) < 1e-4 * 0.1


@pytest.mark.parametrize("rate", RATES)
def test_speech_band_noise_comes_out_as_from_soxr(rate: int) -> None:
    samples, exact = _band_limited(rate)
    theirs = soxr.resample(samples, rate, 16000, "VHQ")
    ours = _inside(_whole(samples, rate, 16000))
    difference = np.sqrt(np.mean((ours - _inside(theirs)) ** 2))
    # soxr is itself 1e-4 off the exact sum at the rates of the compact disc.
    own = np.sqrt(np.mean((_inside(theirs) - _inside(exact)) ** 2))
    assert difference < 0.1 * 1e-4 + own


@pytest.mark.parametrize("rate", RATES)
def test_tones_agree_with_torchaudio(rate: int) -> None:
    functional = pytest.importorskip("torchaudio.functional", exc_type=ImportError)
    import torch

    samples = _tone(1000, rate, 0.3) + _tone(333, rate, 0.3)
    theirs = functional.resample(torch.from_numpy(samples), rate, 16000, lowpass_filter_width=64)
    ours = _whole(samples, rate, 16000)
    count = min(len(ours), len(theirs))
    error = _inside(ours[:count]) - _inside(theirs.numpy()[:count])
    assert np.abs(error).max() < 2e-3


@pytest.mark.parametrize("rate", [22050, 24000, 32000, 44100, 48000])
def test_what_the_lower_rate_cannot_hold_is_gone(rate: int) -> None:
    for hz in (8050, 9000, 10500):
        left = _inside(_whole(_tone(hz, rate, 0.3), rate, 16000))
        assert 20 * np.log10(np.abs(left).max()) < -80


@pytest.mark.parametrize("rate", [8000, 11025])
def test_a_higher_rate_gets_no_mirror_image(rate: int) -> None:
    out = _inside(_whole(_tone(0.4 * rate, rate, 0.5), rate, 16000)) * 1.0
    spectrum = np.abs(np.fft.rfft(out * np.blackman(len(out))))
    image = np.abs(np.fft.rfftfreq(len(out), 1 / 16000) - 0.6 * rate) < 50
    assert spectrum[image].max() < 1e-4 * spectrum.max()


def test_one_rate_changes_nothing() -> None:
    samples = _tone(440, 16000, 0.1)
    np.testing.assert_array_equal(_whole(samples, 16000, 16000), samples)


def test_memory_does_not_grow() -> None:
    resampler, sizes = Resampler(44100, 16000), set()
    for _ in range(40):
        resampler.feed(np.zeros(4410, np.float32))
        sizes.add(len(resampler.state()["kept"]))
    assert max(sizes) - min(sizes) <= 4


@pytest.mark.parametrize("rate", [0, -16000, 3999, 192001])
def test_a_rate_out_of_range_is_refused(rate: int) -> None:
    with pytest.raises(AudioError, match="sample rate must be"):
        Resampler(rate, 16000)


def test_a_ratio_without_a_table_is_refused() -> None:
    with pytest.raises(AudioError, match="too odd"):
        Resampler(44101, 16001)
