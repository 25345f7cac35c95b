import numpy as np
import pytest

from audiomamba.audio.frontend import ChannelMode, FrontEnd
from audiomamba.audio.mel import MelConfig
from audiomamba.errors import AudioError


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 48000])
@pytest.mark.parametrize(("channels", "mode"), [(1, "mix"), (2, "mix"), (3, "first")])
@pytest.mark.parametrize("step", [1, 17, 1000])
def test_any_cut_and_any_hand_over_give_the_same_bits(
    rate: int, channels: int, mode: ChannelMode, step: int
) -> None:
    count = 1200 if step == 1 else rate // 4
    samples = np.random.default_rng(8).standard_normal((count, channels)).astype(np.float32)
    whole = FrontEnd(MelConfig(), rate, channels=channels, channel_mode=mode)
    expected = np.concatenate([whole.feed(samples), whole.finish()])
    front, parts = FrontEnd(MelConfig(), rate, channels=channels, channel_mode=mode), []
    for at in range(0, count, step):
        parts.append(front.feed(samples[at : at + step]))
        if at % (5 * step) == 0:
            state = front.state()
            front = FrontEnd(MelConfig(), rate, channels=channels, channel_mode=mode)
            front.load(state)
    parts.append(front.finish())
    np.testing.assert_array_equal(np.concatenate(parts), expected)


def test_channels_are_mixed_or_the_first_is_taken() -> None:
    left, right = np.random.default_rng(9).standard_normal((2, 4000)).astype(np.float32)
    both = np.stack([left, right], 1)
    one = FrontEnd(MelConfig()).feed(left)
    first = FrontEnd(MelConfig(), channels=2, channel_mode="first").feed(both)
    mixed = FrontEnd(MelConfig(), channels=2).feed(both)
    np.testing.assert_array_equal(first, one)
    np.testing.assert_array_equal(mixed, FrontEnd(MelConfig()).feed(both.mean(1)))


def test_a_large_feed_is_the_same_as_small_ones() -> None:
    samples = np.random.default_rng(10).standard_normal(150_000).astype(np.float32)
    small = FrontEnd(MelConfig(), 48000)
    parts = [small.feed(samples[at : at + 4800]) for at in range(0, len(samples), 4800)]
    large = FrontEnd(MelConfig(), 48000).feed(samples)
    np.testing.assert_array_equal(np.concatenate(parts), large)


@pytest.mark.parametrize("shape", [(10, 3), (10,), (2, 5, 2)])
def test_samples_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(AudioError, match=r"samples must be \(n, 2\)"):
        FrontEnd(MelConfig(), channels=2).feed(np.zeros(shape, np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(AudioError, match="finite"):
        FrontEnd(MelConfig()).feed(np.array([0.0, value], np.float32))


@pytest.mark.parametrize("channels", [0, 33])
def test_a_number_of_channels_out_of_range_is_refused(channels: int) -> None:
    with pytest.raises(AudioError, match="channels must be"):
        FrontEnd(MelConfig(), channels=channels)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
def test_so_many_samples_as_are_wanted_complete_the_frames_and_no_fewer_do(rate: int) -> None:
    draw = np.random.default_rng(2)
    front = FrontEnd(MelConfig(), rate)
    for frames in (1, 8, 3, 16, 1):
        front.feed(np.zeros(int(draw.integers(1, 3000)), np.float32))
        wanted = front.wanted(frames)
        assert wanted > 0
        made = len(front.feed(np.zeros(wanted - 1, np.float32)))
        assert made == frames - 1
        assert len(front.feed(np.zeros(1, np.float32))) == 1
