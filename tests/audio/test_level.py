"""Quiet speech is raised, loud speech never, and any cut of time gives the same gains."""

import numpy as np
import pytest

from audiomamba.audio.level import LevelConfig, LevelControl
from audiomamba.errors import ConfigError


def _power(db: float) -> float:
    return float(10.0 ** (db / 10))


def test_quiet_frames_are_raised_to_the_target() -> None:
    control = LevelControl(LevelConfig(target_db=-24, most_db=14))
    gains = control.gains(np.full(50, _power(-34), np.float32))
    np.testing.assert_allclose(10 * np.log10(gains), 10.0, atol=1e-4)


def test_the_gain_has_a_limit() -> None:
    gains = LevelControl(LevelConfig(most_db=14)).gains(np.zeros(10, np.float32))
    np.testing.assert_allclose(10 * np.log10(gains), 14.0, atol=1e-4)


def test_loud_frames_are_left_alone_from_the_first_one_on() -> None:
    gains = LevelControl().gains(np.full(10, _power(-10), np.float32))
    np.testing.assert_array_equal(gains, 1.0)


def test_a_loud_frame_is_forgotten_slowly() -> None:
    control = LevelControl(LevelConfig(target_db=-24, most_db=14, release_db_s=1.0))
    control.gains(np.array([_power(-24)], np.float32))
    gains = control.gains(np.zeros(500, np.float32))
    np.testing.assert_allclose(10 * np.log10(gains[[99, 499]]), [1.0, 5.0], atol=1e-3)


def test_any_cut_of_time_gives_the_same_gains() -> None:
    energies = np.random.default_rng(0).lognormal(-8, 2, 200).astype(np.float32)
    whole = LevelControl().gains(energies)
    control, parts = LevelControl(), []
    for part in np.split(energies, [1, 7, 7, 150]):
        parts.append(control.gains(part))
        other = LevelControl()
        other.load(control.state())
        control = other
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_negative_gain_is_refused() -> None:
    with pytest.raises(ConfigError, match="most_db"):
        LevelConfig(most_db=-1)
