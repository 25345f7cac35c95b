"""Chance that depends on seed and place alone."""

import numpy as np
import pytest

from audiomamba.errors import ConfigError
from audiomamba.models.wave.sampling import Sampling, stream_seeds, uniforms


def test_numbers_depend_on_seed_and_place_alone() -> None:
    seeds = stream_seeds(7, 3)
    whole = uniforms(seeds, [0, 5, 0], 40)
    parts = [uniforms(seeds, [at, 5 + at, at], n) for at, n in ((0, 1), (1, 30), (31, 9))]
    np.testing.assert_array_equal(np.concatenate(parts, 1), whole)
    np.testing.assert_array_equal(uniforms(seeds[1:2], [5], 40)[0], whole[1])


def test_numbers_are_even_and_those_of_two_streams_have_nothing_in_common() -> None:
    u = uniforms(stream_seeds(0, 2), [0, 0], 20_000)
    assert (u >= 0).all() and (u < 1).all()
    counts = np.histogram(u[0], 20, (0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 45  # chi square with 19 degrees, p < 0.001
    assert abs(np.corrcoef(u[0], u[1]).item(1)) < 0.03
    assert abs(np.corrcoef(u[0, 1:], u[0, :-1]).item(1)) < 0.03


def test_the_first_stream_of_several_is_the_one_made_alone() -> None:
    assert stream_seeds(5, 4)[0] == stream_seeds(5, 1)[0]
    assert len(set(stream_seeds(5, 100).tolist() + stream_seeds(6, 100).tolist())) == 200
    assert len(stream_seeds(-1, 2)) == 2


@pytest.mark.parametrize(
    ("setting", "says"),
    [({"temperature": -1}, "temperature"), ({"top_p": 0}, "top_p"), ({"guidance": 99}, "guidance")],
)
def test_a_setting_out_of_range_is_one_clear_error(setting: dict[str, float], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Sampling(**setting)
