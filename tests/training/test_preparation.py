"""From a batch of sound to features and targets."""

from collections.abc import Callable
from typing import Any

import torch

from audiomamba.audio.mel import MelConfig
from audiomamba.audio.waveform import WaveformConfig
from audiomamba.training.parallel import Parallel
from audiomamba.training.preparation import feature_statistics, features_of, prepare

Source = Callable[..., Any]
ALONE = Parallel(0, 1, torch.device("cpu"))


def test_frames_are_whole_and_fit_the_labels(tiny_source: Source) -> None:
    batch = tiny_source(samples=5200).batch(1)  # 31 feature frames, so 7 of the encoder
    prepared = prepare(batch, MelConfig())
    assert prepared.features.shape == (2, 28, 80)
    assert prepared.targets.phones.shape == prepared.targets.activity.shape == (2, 7)
    assert prepared.targets.frame_lengths.tolist() == [7, 7]
    assert prepared.counts.tokens == 4
    assert prepared.counts.phones == prepared.counts.frames == 14


def test_padding_is_not_counted(tiny_source: Source) -> None:
    batch = tiny_source(samples=5200).batch(1)
    batch.num_samples[1] = 2000  # 11 feature frames, so 2 of the encoder
    prepared = prepare(batch, MelConfig())
    assert prepared.targets.frame_lengths.tolist() == [7, 2]
    assert prepared.targets.counted[1].tolist() == [True] * 2 + [False] * 5
    assert prepared.counts.frames == 9


def test_labels_that_are_too_few_are_filled_as_unknown(tiny_source: Source) -> None:
    batch = tiny_source(samples=5840).batch(1)
    object.__setattr__(batch, "phones", batch.phones[:, :5])
    phones = prepare(batch, MelConfig()).targets.phones
    assert phones.shape == (2, 8)
    assert phones[:, 5:].eq(-1).all()


def test_augmentation_has_the_last_word_on_the_features(tiny_source: Source) -> None:
    seen = []

    def augment(features: torch.Tensor) -> torch.Tensor:
        seen.append(features.shape)
        return torch.zeros_like(features)

    prepared = prepare(tiny_source().batch(0), MelConfig(), augment=augment)
    assert seen == [(2, 28, 80)]
    assert not prepared.features.any()


def test_views_are_rows_of_their_own_to_the_augmentation(tiny_source: Source) -> None:
    one = prepare(tiny_source().batch(0), MelConfig())
    two = prepare(
        tiny_source().batch(0), MelConfig(), augment=lambda x: x + torch.arange(4)[:, None, None],
        views=2,
    )  # fmt: skip
    torch.testing.assert_close(two.features[3], one.features[1] + 3)
    for single, double in zip(one.targets, two.targets, strict=True):
        assert torch.equal(double, torch.cat([single, single]))
    assert two.counts.tokens == 2 * one.counts.tokens and two.seconds == one.seconds


def test_samples_are_frames_of_the_same_clock(tiny_source: Source) -> None:
    batch = tiny_source(samples=5200).batch(1)  # 32 whole frames, so 8 of the encoder
    batch.num_samples[1] = 2000
    prepared = prepare(batch, WaveformConfig(), views=2)
    assert prepared.features.shape == (4, 32, 160)
    torch.testing.assert_close(prepared.features[2].flatten(), batch.samples[0, :5120])
    assert prepared.targets.frame_lengths.tolist() == [8, 3, 8, 3]
    assert prepared.targets.phones.shape == (4, 8)


def test_statistics_normalise_what_they_were_measured_on(tiny_source: Source) -> None:
    source = tiny_source()
    mean, std = feature_statistics(source.batch, MelConfig(), 3, ALONE)
    x = torch.cat([features_of(source.batch(i), MelConfig())[0].flatten(0, 1) for i in range(3)])
    torch.testing.assert_close(mean, x.mean(0))
    torch.testing.assert_close(std, x.std(0, unbiased=False))
