import numpy as np
import pytest
import torch

from audiomamba.audio.mel import MelConfig
from audiomamba.audio.waveform import WaveformConfig
from audiomamba.errors import ConfigError
from audiomamba.training.augment import Augmenter, noise_bank, room_bank
from audiomamba.training.batches import BatchConfig, Batches, Part, SpeechPool


def encode(text: str) -> list[int]:
    return [ord(letter) - 96 for letter in text if letter != " "]


@pytest.fixture(scope="module")
def pool(parts: list[Part]) -> SpeechPool:
    return SpeechPool.load(parts, encode)


@pytest.fixture(scope="module")
def augmenter() -> Augmenter:
    return Augmenter(room_bank([], count=4), noise_bank([]))


def config(**changes: object) -> BatchConfig:
    values = {"batch_seconds": 40.0, "augment_until": 0, "noise_rows": 0.1}
    return BatchConfig(**(values | changes))  # type: ignore[arg-type]


def test_a_batch_is_a_function_of_seed_and_number(pool: SpeechPool, augmenter: Augmenter) -> None:
    first, again = (Batches(pool, config(), augmenter, seed=5) for _ in range(2))
    again.batch(2)
    one, two = first.batch(7), again.batch(7)
    for name in ("samples", "targets", "target_lengths", "phones", "activity"):
        torch.testing.assert_close(getattr(one, name), getattr(two, name), atol=0, rtol=0)
    assert not torch.equal(one.samples[0, :4000], first.batch(8).samples[0, :4000])


def test_shapes_agree_and_nothing_is_lost_to_nan(pool: SpeechPool, augmenter: Augmenter) -> None:
    batches = Batches(pool, config(), augmenter)
    for number in range(6):
        batch = batches.batch(number)
        B, S = batch.samples.shape
        frames = (1 + (S - 400) // 160) // 4
        assert batch.phones.shape == batch.activity.shape == (B, frames)
        assert batch.targets.shape[0] == B and (batch.num_samples == S).all()
        assert (batch.target_lengths <= batch.targets.shape[1]).all()
        assert batch.samples.isfinite().all() and batch.samples.abs().max() <= 1
        assert ((batch.targets > 0).sum(1) == batch.target_lengths).all()


def test_targets_are_the_texts_of_the_row_in_order(pool: SpeechPool, parts: list[Part]) -> None:
    planned = Batches(pool, config()).plan(3)
    texts = [u.text for part in parts for u in part.corpus]
    for row in range(planned.shape.rows):
        count = planned.rows.counts[row]
        said = [t for i in planned.rows.utterances[row, :count] for t in encode(texts[i])]
        assert planned.targets[row, : len(said)].tolist() == said
        assert planned.target_lengths[row] == len(said)


def test_phones_say_what_sounds(pool: SpeechPool) -> None:
    """The synthetic corpus sounds at a height that names its phone, so audio shows the target."""
    quiet = config(real_share=0.0, real_share_start=0.0, phone_delay_s=0.0)
    batches = Batches(pool, quiet)
    planned = batches.plan(1)
    batch = batches.assemble(planned)
    rows, checked = planned.rows, 0
    for row in np.flatnonzero(rows.counts):
        for i in range(batch.phones.shape[1]):
            at = 640 * i + 200
            place = np.searchsorted(rows.blocks[row] * 80, at, side="right") - 1
            near = batch.samples[row, max(at - 40, 0) : at + 40]
            if place < 0 or batch.phones[row, i] == 0 or near.max() - near.min() > 1e-4:
                continue  # silence, or the border of two phones
            gain = float(planned.placed.gains[row, place])
            assert round(float(batch.samples[row, at]) / gain * 256) == int(batch.phones[row, i])
            checked += 1
    assert checked > 100


def test_a_row_without_speech_has_no_target_and_is_not_silent(
    pool: SpeechPool, augmenter: Augmenter
) -> None:
    batches = Batches(pool, config(noise_rows=1.0), augmenter)
    batch = batches.batch(0)
    assert not batch.target_lengths.any() and not batch.phones.any() and not batch.activity.any()
    assert (batch.samples.square().mean(1) > 0).all()


def test_the_share_of_recordings_is_kept(pool: SpeechPool) -> None:
    batches = Batches(pool, config(batch_seconds=400.0, real_share=0.35))
    real = speech = 0
    for number in range(12):
        rows = batches.plan(number).rows
        real += rows.lengths[rows.utterances >= 60].sum()
        speech += rows.lengths.sum()
    assert abs(real / speech - 0.35) < 0.12


def test_the_share_of_recordings_moves_with_the_step() -> None:
    schedule = config(real_share_start=0.1, real_share=0.5, real_from=100, real_until=200)
    assert [schedule.real_share_at(n) for n in (0, 150, 900)] == pytest.approx([0.1, 0.3, 0.5])


def test_masks_hide_parts_and_come_again(pool: SpeechPool) -> None:
    batches = Batches(pool, config())
    features = torch.randn(4, 200, 80)
    hidden = batches.augment_features(features, MelConfig(), 3)
    assert 0.1 < (hidden != features).float().mean() < 0.8
    torch.testing.assert_close(hidden, batches.augment_features(features, MelConfig(), 3))


def test_of_samples_stretches_of_time_are_silent_and_differ_between_views(
    pool: SpeechPool,
) -> None:
    room, noise = np.zeros((1, 8), np.float32), np.ones(100, np.float32)
    batches = Batches(pool, config(augment_until=0), Augmenter(room, noise))
    features = torch.randn(4, 200, 160)
    views = features.repeat(2, 1, 1)
    hidden = batches.augment_features(views, WaveformConfig(), 3)
    silent = hidden.eq(0).all(2)
    assert torch.equal(hidden[~silent], views[~silent])
    assert 0.05 < silent.float().mean() < 0.5
    assert (silent[:4] != silent[4:]).any(1).all()
    torch.testing.assert_close(hidden, batches.augment_features(views, WaveformConfig(), 3))


def test_augmented_rows_speak_in_other_voices(pool: SpeechPool) -> None:
    room, noise = np.zeros((1, 8), np.float32), np.ones(100, np.float32)
    room[0, 0] = 1
    features = torch.randn(4, 200, 80)
    plain = Batches(pool, config(augment_until=0)).augment_features(features, MelConfig(), 3)
    other = Batches(pool, config(augment_until=0), Augmenter(room, noise))
    heard = other.augment_features(features, MelConfig(), 3)
    shown = (plain == features) & (heard != features.mean((0, 1)))
    assert (heard[shown] != plain[shown]).float().mean() > 0.9
    torch.testing.assert_close(heard, other.augment_features(features, MelConfig(), 3))


def test_an_unknown_source_is_refused(pool: SpeechPool) -> None:
    with pytest.raises(ConfigError, match="nobody"):
        Batches(pool, config(source_weights={"nobody": 2.0}))


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="row_weights"):
        config(row_weights=[1.0])
    with pytest.raises(ConfigError, match="real_share"):
        config(real_share=1.5)
