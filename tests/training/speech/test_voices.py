"""Speakers and their mixing."""

from pathlib import Path

import numpy as np
import pytest

from audiomamba.errors import ConfigError
from audiomamba.training.speech.voices import HELD_OUT, Voices, trim_tables, uneven

NAMES = (*HELD_OUT, "af_sky", "am_adam", "bf_lily", "bm_lewis", "ff_siwis", "zm_yunxi")


@pytest.fixture
def voices(tmp_path: Path) -> Voices:
    rng = np.random.default_rng(0)
    tables = {name: rng.standard_normal((30, 256)).astype(np.float16) for name in NAMES}
    np.savez(tmp_path / "all.npz", allow_pickle=False, **tables)
    trim_tables(tmp_path / "all.npz", tmp_path / "voices.npz", 20)
    return Voices.load(tmp_path / "voices.npz")


def test_tables_are_cut_to_the_rows_that_occur(voices: Voices) -> None:
    assert voices.tables.shape == (len(NAMES), 20, 256)


def test_held_out_voices_are_never_in_training(voices: Voices) -> None:
    held = [voices.names.index(name) for name in HELD_OUT]
    rng = np.random.default_rng(1)
    for i in range(400):
        speaker = voices.draw(rng, british=bool(i % 2))
        assert not speaker.timbre[held].any() and not speaker.prosody[held].any()
        assert speaker.timbre.sum() == pytest.approx(1, abs=1e-5)
        assert 0.75 <= speaker.speed <= 1.2
        assert 0.85 <= speaker.pitch <= 1.15


def test_a_quarter_of_the_speakers_are_stock_voices_of_the_right_accent(voices: Voices) -> None:
    rng = np.random.default_rng(2)
    stock = [voices.draw(rng, british=True).name for _ in range(400)]
    named = [name for name in stock if name]
    assert len(named) / len(stock) == pytest.approx(0.25, abs=0.06)
    assert {name[0] for name in named} == {"b"}
    assert voices.held_out(rng, british=False).name in ("af_bella", "am_michael")


def test_a_stock_voice_speaks_with_its_own_row(voices: Voices) -> None:
    rng = np.random.default_rng(3)
    speaker = voices.stock("af_sky", rng)
    table = voices.tables[voices.names.index("af_sky")]
    np.testing.assert_allclose(voices.style(speaker, 7), table[6], atol=1e-6)


def test_few_voices_are_of_both_sexes_and_accents(voices: Voices) -> None:
    assert voices.stock_names() == ["af_sky", "am_adam", "bf_lily", "bm_lewis"]
    rng = np.random.default_rng(4)
    assert {voices.one_of(2, rng).name for _ in range(50)} == {"af_sky", "am_adam"}
    for count in (0, 5):
        with pytest.raises(ConfigError, match="1 to 4"):
            voices.one_of(count, rng)


def test_tables_without_the_held_out_voices_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "few.npz", af_sky=np.zeros((2, 256), np.float16))
    with pytest.raises(ConfigError, match="af_bella"):
        Voices.load(tmp_path / "few.npz")


def test_uneven_lengths_keep_their_mean_and_both_ends() -> None:
    frames = np.array([12, *[4] * 4000, 1])
    changed = uneven(frames, 0.3, np.random.default_rng(4))
    assert (changed[0], changed[-1]) == (12, 1) and changed.min() >= 1
    assert changed[1:-1].mean() == pytest.approx(4 * np.exp(0.3**2 / 2), rel=0.03)
    assert changed[1:-1].std() > 0.8
    np.testing.assert_array_equal(uneven(frames, 0.0, np.random.default_rng(4)), frames)
