"""Frames of samples: nothing is lost, and cuts do not matter."""

import numpy as np
import pytest

from audiomamba.audio.waveform import StreamingWaveform, WaveformConfig
from audiomamba.errors import ConfigError


@pytest.mark.parametrize("chunk", [1, 159, 160, 161, 1000])
def test_any_chunking_gives_the_samples_frame_by_frame(chunk: int) -> None:
    samples = np.random.default_rng(0).standard_normal(1234).astype(np.float32)
    stream = StreamingWaveform()
    frames = np.concatenate(
        [stream.feed(samples[start : start + chunk]) for start in range(0, 1234, chunk)]
    )
    np.testing.assert_array_equal(frames.ravel(), samples[:1120])
    assert frames.shape == (7, 160) and frames.dtype == np.float32


def test_it_wants_what_a_frame_is_short_of() -> None:
    stream = StreamingWaveform()
    assert stream.wanted(1) == 160
    stream.feed(np.zeros(100, np.float32))
    assert (stream.wanted(1), stream.wanted(3)) == (60, 380)
    assert len(stream.feed(np.zeros(60, np.float32))) == 1


def test_a_state_goes_on_elsewhere_and_what_is_no_frame_is_dropped_at_the_end() -> None:
    here, there = StreamingWaveform(), StreamingWaveform()
    samples = np.arange(300, dtype=np.float32)
    here.feed(samples[:200])
    there.load(here.state())
    np.testing.assert_array_equal(there.feed(samples[200:]), here.feed(samples[200:]))
    assert len(there.feed(samples[:20])) == 1 and there.finish().shape == (0, 160)
    assert there.wanted(1) == 160


def test_a_frame_has_samples() -> None:
    with pytest.raises(ConfigError, match="waveform: sample_rate and hop"):
        WaveformConfig(hop=0)
