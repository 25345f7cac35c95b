"""Which features a configuration means, and that samples reach the model as they are."""

import numpy as np

from audiomamba.audio.features import streaming_features
from audiomamba.audio.frontend import FrontEnd
from audiomamba.audio.mel import MelConfig, StreamingMel
from audiomamba.audio.waveform import StreamingWaveform, WaveformConfig


def test_each_configuration_has_its_stream() -> None:
    assert isinstance(streaming_features(MelConfig()), StreamingMel)
    assert isinstance(streaming_features(WaveformConfig()), StreamingWaveform)


def test_quiet_samples_are_not_raised() -> None:
    samples = np.random.default_rng(0).standard_normal(800).astype(np.float32) * np.float32(1e-3)
    front = FrontEnd(WaveformConfig())
    np.testing.assert_array_equal(front.feed(samples).ravel(), samples)


def test_a_front_end_of_samples_goes_on_at_another_rate() -> None:
    samples = np.random.default_rng(0).standard_normal(4410).astype(np.float32)
    whole = FrontEnd(WaveformConfig(), 44_100)
    wanted = np.concatenate([whole.feed(samples), whole.finish()])
    front, parts = FrontEnd(WaveformConfig(), 44_100), []
    for start in range(0, 4410, 700):
        state = front.state()
        front = FrontEnd(WaveformConfig(), 44_100)
        front.load(state)
        parts.append(front.feed(samples[start : start + 700]))
    parts.append(front.finish())
    np.testing.assert_array_equal(np.concatenate(parts), wanted)
    assert len(wanted) == 10
