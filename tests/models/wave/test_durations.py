"""How long words and their parts are."""

import math

import numpy as np
import pytest

from audiomamba.config import from_mapping, to_mapping
from audiomamba.errors import ConfigError
from audiomamba.models.wave.durations import Durations


def test_lengths_are_measured_by_label_and_speaker() -> None:
    words: list[tuple[str, str | None, float]] = [
        (label, who, seconds * pace * factor)
        for label, seconds in (("yes", 0.2), ("no", 0.4))
        for who, pace in (("ann", 2.0), ("bob", 0.5))
        for factor in (0.9, 1 / 0.9)
    ]
    found = Durations.measured(words)
    assert found.labels["yes"] == pytest.approx([math.log(0.2), -math.log(0.9)], abs=1e-3)
    assert found.speakers == pytest.approx({"ann": math.log(2), "bob": -math.log(2)}, abs=1e-3)
    rng = np.random.default_rng(0)
    drawn = [found.draw("no", "ann", rng) for _ in range(200)]
    assert np.mean(np.log(drawn)) == pytest.approx(math.log(0.8), abs=0.02)
    assert max(drawn) < 0.8 * 0.9**-1.6
    assert from_mapping(Durations, to_mapping(found)) == found
    assert found.own == {}  # of four words each
    assert Durations.measured([]) == Durations.measured([("yes", None, 0.0)]) == Durations()


def test_words_can_be_longer_and_differ_less() -> None:
    known = Durations(
        labels={"yes": [math.log(0.2), 0.3]}, own={"ann": {"yes": [math.log(0.4), 0.2]}},
        speakers={"bob": 0.1}, parts={"yes": [0.5]},
    )  # fmt: skip
    found = known.scaled(1.5, 0.5)
    assert found.labels["yes"] == pytest.approx([math.log(0.3), 0.15], abs=1e-4)
    assert found.own["ann"]["yes"] == pytest.approx([math.log(0.6), 0.1], abs=1e-4)
    assert (found.speakers, found.parts) == (known.speakers, known.parts)


def test_a_speaker_who_says_a_word_often_has_lengths_of_it() -> None:
    words: list[tuple[str, str | None, float]] = [
        ("yes", who, seconds * factor)
        for who, seconds in (("ann", 0.8), ("bob", 0.2), (None, 0.4))
        for factor in [0.9, 1 / 0.9] * 6
    ]
    found = Durations.measured([*words, ("no", "ann", 0.5)])
    assert list(found.own) == ["ann", "bob"] and list(found.own["ann"]) == ["yes"]
    assert found.own["ann"]["yes"] == pytest.approx([math.log(0.8), -math.log(0.9)], abs=1e-3)
    told = Durations(labels={"yes": [5.0, 1.0]}, speakers={"ann": 2.0}, own=found.own)
    drawn = [told.draw("yes", "ann", np.random.default_rng(seed)) for seed in range(200)]
    assert np.mean(np.log(drawn)) == pytest.approx(math.log(0.8), abs=0.02)
    assert told.draw("yes", "eve", np.random.default_rng(0)) == 3.0
    assert from_mapping(Durations, to_mapping(found)) == found


@pytest.mark.parametrize(
    "wrong",
    [
        {"labels": {"yes": [0.1]}},
        {"labels": {"yes": 0.1}},
        {"labels": {"yes": [0.1, -1.0]}},
        {"labels": {"yes": [math.nan, 0.1]}},
        {"speakers": {"ann": math.inf}},
        {"own": {"ann": {"yes": [0.1, -1.0]}}},
        {"own": {"ann": [0.1, 0.1]}},
        {"parts": {"yes": 0.5}},
        {"own_parts": {"ann": [0.5]}},
    ],
)
def test_damaged_lengths_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="durations"):
        from_mapping(Durations, wrong, where="durations")


@pytest.mark.parametrize("shares", [[0.5, 0.4, 0.6], [0.0, 0.4, 0.6], [0.2, 0.4, 1.0]])
def test_shares_out_of_order_or_out_of_the_word_are_an_error(shares: list[float]) -> None:
    with pytest.raises(ConfigError, match="own_parts.ann: 'yes' wants shares of a word in order"):
        Durations(own_parts={"ann": {"yes": shares}})
