"""Words one after another, of one speaker, with pauses."""

import dataclasses

import numpy as np
import pytest

from audiomamba.audio.mulaw import SILENCE
from audiomamba.errors import ConfigError
from audiomamba.training.wave.config import StringsConfig, WaveDataConfig
from audiomamba.training.wave.run import gather_takes
from audiomamba.training.wave.strings import strings
from audiomamba.training.wave.takes import Take

RATE = 8_000


def words(speaker: str | None, loudness: int, count: int = 20, **changes: object) -> list[Take]:
    word = np.full(400, loudness, np.uint8)
    return [Take(word, "one", speaker, **({"held_out": False} | changes)) for _ in range(count)]  # type: ignore[arg-type]


def test_a_string_is_one_speakers_words_with_pauses_in_range() -> None:
    takes = words("ann", 200, 60) + words("bob", 50)
    config = StringsConfig(minutes=0.4, piece_s=3.0, pause_least_s=0.05, pause_most_s=0.2)
    made = strings(takes, config, RATE)
    assert [take.speaker for take in made] == ["ann"] * 6 + ["bob"] * 2
    for take in made:
        assert len(take.codes) == 3 * RATE and take.label is None and not take.held_out
        loud = take.codes != SILENCE
        assert loud[0] and set(take.codes[loud]) == {200 if take.speaker == "ann" else 50}
        edges = np.flatnonzero(np.diff(np.concatenate([[0], loud, [0]])))
        gaps = edges[2::2] - edges[1:-1:2]
        whole = gaps[:-1] if not loud[-1] else gaps
        assert len(whole) > 5 and whole.min() >= 400 and whole.max() <= 1600
        assert len(set(whole.tolist())) > 3


def test_strings_differ_and_come_again_with_their_seed() -> None:
    config = StringsConfig(minutes=0.2, piece_s=3.0)
    first, again = (strings(words("ann", 200), config, RATE) for _ in range(2))
    other = strings(words("ann", 200), StringsConfig(minutes=0.2, piece_s=3.0, seed=1), RATE)
    for one, same, another in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(one.codes, same.codes)
        assert not np.array_equal(one.codes, another.codes)
    assert not np.array_equal(first[0].codes, first[1].codes)


@pytest.mark.parametrize(
    "takes",
    [words(None, 9), words("ann", 9, 19), words("ann", 9, held_out=True), words("ann", 9, 0)],
)
def test_nobodys_few_or_held_out_words_make_no_string(takes: list[Take]) -> None:
    assert strings(takes, StringsConfig(minutes=1.0), RATE) == []


def test_none_are_made_unless_asked_for() -> None:
    assert strings(words("ann", 9), StringsConfig(), RATE) == []
    assert gather_takes(WaveDataConfig(), RATE) == []


@pytest.mark.parametrize(
    "wrong", [{"minutes": -1}, {"piece_s": 0}, {"pause_least_s": 1.0}, {"pause_least_s": -0.1}]
)
def test_wrong_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"data\.strings"):
        StringsConfig(**wrong)  # type: ignore[arg-type]


def test_a_string_keeps_where_its_words_lie() -> None:
    words = [
        Take(np.full(300 + 20 * n, n, np.uint8), f"w{n}", "ann", held_out=False) for n in range(20)
    ]
    [made, *_] = strings(words, StringsConfig(minutes=0.05, piece_s=3.0), RATE)
    assert made.label is None and made.spoken == made.words and len(made.words) > 3
    for word in made.words:
        own = made.codes[word.begin : word.end]
        assert word.end - word.begin == 300 + 20 * int(word.label[1:])
        assert (own == int(word.label[1:])).all() and len(own)
    said = sum(min(word.end, 3 * RATE) - word.begin for word in made.words)
    assert said == (made.codes != SILENCE).sum()


def test_whose_words_weigh_more_has_more_strings() -> None:
    light = [dataclasses.replace(take, weight=0.25) for take in words("bob", 50, 80)]
    made = strings(words("ann", 200, 60) + light, StringsConfig(minutes=0.4, piece_s=3.0), RATE)
    assert [take.speaker for take in made] == ["ann"] * 6 + ["bob"] * 2
