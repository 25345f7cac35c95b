import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiomamba.audio.mel import MelConfig, StreamingMel, mel_filterbank
from audiomamba.errors import ConfigError

CONFIGS = [MelConfig(), MelConfig(bins=40, fft=1024, low_hz=0.0, high_hz=8000.0)]


@pytest.mark.parametrize("config", CONFIGS, ids=["default", "wide"])
def test_the_filterbank_is_librosas(config: MelConfig) -> None:
    theirs = librosa.filters.mel(
        sr=config.sample_rate,
        n_fft=config.fft,
        n_mels=config.bins,
        fmin=config.low_hz,
        fmax=config.high_hz,
    )
    np.testing.assert_allclose(mel_filterbank(config), theirs, atol=2e-8)


def test_features_are_librosas() -> None:
    c = MelConfig()
    samples = 0.1 * np.random.default_rng(5).standard_normal(8000).astype(np.float32)
    # librosa centres a short window in the transform; ours stands at its start. Power is the same.
    padded = np.pad(samples, ((c.fft - c.window) // 2, c.fft))
    power = librosa.feature.melspectrogram(
        y=padded, sr=c.sample_rate, n_fft=c.fft, win_length=c.window, hop_length=c.hop,
        n_mels=c.bins, fmin=c.low_hz, fmax=c.high_hz, center=False, power=2.0,
    )  # fmt: skip
    ours = StreamingMel(c).feed(samples)
    theirs = np.log(np.maximum(power.T[: len(ours)], c.floor))
    assert len(ours) == 1 + (8000 - c.window) // c.hop
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(cuts=st.lists(st.integers(0, 2500), max_size=12), ones=st.integers(0, 500))
def test_any_cut_gives_the_same_bits(cuts: list[int], ones: int) -> None:
    samples = np.random.default_rng(6).standard_normal(2500).astype(np.float32)
    edges = sorted({0, 2500, *cuts, *range(ones)})
    mel, parts = StreamingMel(), []
    for start, end in zip(edges, edges[1:], strict=False):
        parts.append(mel.feed(samples[start:end]))
        fresh = StreamingMel()
        fresh.load(mel.state())
        mel = fresh
    np.testing.assert_array_equal(np.concatenate(parts), StreamingMel().feed(samples))


def test_a_frame_comes_with_its_last_sample_and_not_before() -> None:
    mel = StreamingMel()
    assert len(mel.feed(np.zeros(399, np.float32))) == 0
    assert len(mel.feed(np.zeros(1, np.float32))) == 1
    assert len(mel.feed(np.zeros(159, np.float32))) == 0
    assert len(mel.feed(np.zeros(1, np.float32))) == 1


def test_silence_is_the_floor() -> None:
    features = StreamingMel().feed(np.zeros(4000, np.float32))
    np.testing.assert_allclose(features, np.log(1e-5), rtol=1e-6)


def test_the_end_leaves_the_stream_as_new() -> None:
    mel = StreamingMel()
    mel.feed(np.ones(1000, np.float32))
    assert mel.finish().shape == (0, 80)
    assert len(mel.state()["tail"]) == 0


@pytest.mark.parametrize(
    "wrong", [{"hop": 0}, {"hop": 401}, {"window": 513}, {"high_hz": 8001.0}, {"low_hz": 7600.0}]
)
def test_a_configuration_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="mel: wants"):
        MelConfig(**wrong)  # type: ignore[arg-type]


def test_another_rate_has_windows_of_the_same_length() -> None:
    assert MelConfig.at(16_000, 80) == MelConfig()
    other = MelConfig.at(8_000, 40)
    assert (other.window, other.hop, other.fft, other.bins, other.high_hz) == (
        200,
        80,
        256,
        40,
        3800,
    )
