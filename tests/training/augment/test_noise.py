from pathlib import Path

import numpy as np

from audiomamba.training.augment.noise import noise_bank
from audiomamba.training.corpus import Corpus, CorpusWriter


def test_recordings_come_first_at_level_one_and_rooms_are_left_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with CorpusWriter(tmp_path) as writer:
        for source, level in (("noise", 300), ("room", 900), ("music", 30)):
            writer.append(rng.normal(0, level, 8000).astype(np.int16), "", source=source)
    strip = noise_bank([Corpus(tmp_path)])
    assert len(strip) - len(noise_bank([])) == 16_000
    for lo in (0, 8000):
        np.testing.assert_allclose(np.square(strip[lo : lo + 8000]).mean(), 1, rtol=1e-3)


def test_made_noises_are_finite_and_at_level_one() -> None:
    strip = noise_bank([])
    assert np.isfinite(strip).all()
    np.testing.assert_allclose(np.square(strip).mean(), 1, rtol=1e-3)
