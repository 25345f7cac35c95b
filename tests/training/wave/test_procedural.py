"""Sound made by rule."""

import numpy as np
import pytest

from audiomamba.errors import ConfigError
from audiomamba.training.wave.procedural import KINDS, make, pluck

RATE = 8_000


@pytest.mark.parametrize("kind", KINDS)
def test_a_piece_is_sound_and_its_seed_fixes_it(kind: str) -> None:
    piece = make(kind, 3, 2.0, RATE)
    assert piece.shape == (2 * RATE,) and piece.dtype == np.float32
    assert np.isfinite(piece).all() and np.abs(piece).max() <= 1
    blocks = piece.reshape(-1, RATE // 4)
    assert (blocks.std(1) > 1e-3).all()
    np.testing.assert_array_equal(piece, make(kind, 3, 2.0, RATE))
    assert (make(kind, 4, 2.0, RATE) != piece).any()


def test_a_string_has_the_pitch_that_was_asked_for_and_dies_away() -> None:
    string = pluck(np.random.default_rng(0), 220.0, 1.0, RATE, damping=0.996)
    spectrum = np.abs(np.fft.rfft(string[2000:6000]))
    hz = np.argmax(spectrum) * RATE / 4000
    assert min(abs(hz - k * 220) / (k * 220) for k in (1, 2, 3)) < 0.02
    assert string[-1000:].std() < 0.5 * string[:1000].std()


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="there are"):
        make("silence", 0, 1.0, RATE)
