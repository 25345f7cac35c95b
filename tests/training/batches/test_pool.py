import numpy as np
import pytest

from audiomamba.errors import AudioError
from audiomamba.training.batches import Part, SpeechPool
from audiomamba.training.batches import pool as pool_module
from audiomamba.training.batches.pool import UNKNOWN_PHONE


def encode(text: str) -> list[int]:
    return [ord(letter) - 96 for letter in text if letter != " "]


def test_every_utterance_is_where_the_index_says(parts: list[Part]) -> None:
    pool = SpeechPool.load(parts, encode)
    everyone = [u for part in parts for u in part.corpus]
    for start, length, said in zip(pool.starts, pool.lengths, everyone, strict=True):
        np.testing.assert_array_equal(pool.samples[start : start + length].numpy(), said.audio)


def test_levels_do_not_depend_on_the_blocks_they_are_summed_in(
    parts: list[Part], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "_COPY_SAMPLES", 10_007)
    pool = SpeechPool.load(parts, encode)
    everyone = [u.audio.astype(float) / 32768 for part in parts for u in part.corpus]
    expected = [max(np.sqrt(np.mean(x**2)), 1e-4) for x in everyone]
    np.testing.assert_allclose(pool.levels, expected, rtol=1e-4)


def test_phones_stand_in_their_frames_and_are_unknown_in_recordings(parts: list[Part]) -> None:
    pool = SpeechPool.load(parts, encode)
    ids, frames = parts[0].corpus.phones(7)
    at = pool.frame_starts[7]
    labels = pool.phones[at : at + pool.frame_counts[7]].numpy()
    np.testing.assert_array_equal(labels, np.repeat(ids, frames))
    assert (pool.phones[pool.frame_starts[60] :] == UNKNOWN_PHONE).all()


def test_noise_is_active_and_zeros_are_not(parts: list[Part]) -> None:
    pool = SpeechPool.load(parts, encode)
    last = pool.frame_starts[-1]
    assert not pool.active[last:].any()
    assert pool.active[pool.frame_starts[60] : last].float().mean() > 0.95


def test_groups_are_sorted_and_leave_out_what_has_no_text(parts: list[Part]) -> None:
    pool = SpeechPool.load(parts, encode)
    assert [group.name for group in pool.groups] == ["made", "big", "small"]
    for group in pool.groups:
        assert (np.diff(group.lengths) >= 0).all()
        np.testing.assert_array_equal(pool.lengths[group.members], group.lengths)


def test_corpora_without_text_are_refused(parts: list[Part]) -> None:
    with pytest.raises(AudioError, match="no utterance"):
        SpeechPool.load(parts, lambda text: [])
