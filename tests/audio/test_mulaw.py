"""256 classes of loudness, and back."""

import numpy as np

from audiomamba.audio.mulaw import CLASSES, SILENCE, compand, expand


def test_every_class_is_found_again() -> None:
    codes = np.arange(CLASSES, dtype=np.uint8)
    np.testing.assert_array_equal(compand(expand(codes)), codes)


def test_classes_are_in_order_of_their_samples() -> None:
    levels = expand(np.arange(CLASSES, dtype=np.uint8))
    assert (np.diff(levels) > 0).all()
    assert levels[0] == -1 and levels[-1] == 1


def test_silence_and_what_is_too_loud() -> None:
    assert compand(np.zeros(3, np.float32)).tolist() == [SILENCE] * 3
    assert abs(expand(np.array([SILENCE], np.uint8))[0]) < 1e-4
    assert compand(np.array([-9.0, 9.0], np.float32)).tolist() == [0, CLASSES - 1]


def test_the_error_is_small_where_the_sound_is_quiet() -> None:
    x = np.linspace(-1, 1, 9001, dtype=np.float32)
    error = np.abs(expand(compand(x)) - x)
    assert error.max() < 0.023
    assert error[np.abs(x) < 0.01].max() < 4e-4
