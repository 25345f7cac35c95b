"""Where words lie, and what a row of a batch is told of them."""

from typing import Any

import numpy as np
import torch

from audiomamba.training.wave.batches import Crops, WaveBatch
from audiomamba.training.wave.config import StringsConfig, WaveDataConfig
from audiomamba.training.wave.marks import Marks, other_rows
from audiomamba.training.wave.strings import strings
from audiomamba.training.wave.takes import Take, Word

RATE, STATES, PERIOD = 1_000, 2, 4
CPU = torch.device("cpu")
LABELS = ["a", "b"]
SILENT = len(LABELS) * STATES


def quiet(samples: int) -> np.ndarray:
    return np.full(samples, 128, np.uint8)


def marks(*takes: Take) -> Marks:
    return Marks(takes, labels=LABELS, states=STATES, period=PERIOD, device=CPU)


def rows(own: Marks, take: int, begin: int, speed: float = 1.0, periods: int = 8) -> list[int]:
    found = own.rows(torch.tensor([take]), torch.tensor([begin]), torch.tensor([speed]), periods)
    return found[0].tolist()


def test_a_recording_of_a_word_is_that_word_from_end_to_end() -> None:
    own = marks(Take(quiet(16), "b", None, False), Take(quiet(8), "a", None, False))
    assert rows(own, 0, 0) == [2, 2, 3, 3, 4, 4, 4, 4]
    assert rows(own, 0, -8) == [4, 4, 2, 2, 3, 3, 4, 4]
    assert rows(own, 1, 0) == [0, 1, 4, 4, 4, 4, 4, 4]
    assert rows(own, 0, 0, 2.0) == [2, 3, 4, 4, 4, 4, 4, 4]
    assert rows(own, 0, 0, 0.5) == [2, 2, 2, 2, 3, 3, 3, 3]


def test_parts_are_where_they_are_said_to_be() -> None:
    own = marks(
        Take(quiet(16), "b", None, False, words=(Word("b", 0, 16, (0.25,)),)),
        Take(quiet(40), None, None, False, words=(Word("a", 8, 24, (0.75,)), Word("b", 32, 40))),
    )
    assert rows(own, 0, 0) == [2, 3, 3, 3, 4, 4, 4, 4]
    assert rows(own, 0, 0, 0.5) == [2, 2, 3, 3, 3, 3, 3, 3]
    assert rows(own, 1, 0, periods=10) == [4, 4, 0, 0, 0, 1, 4, 4, 2, 3]


def test_words_of_a_string_are_where_they_lie_and_one_cut_off_is_not_squeezed() -> None:
    words = (Word("a", 4, 12), Word("b", 20, 52))
    own = marks(Take(quiet(36), None, None, False, words=words), Take(quiet(12), "c", None, False))
    assert rows(own, 0, 0, periods=10) == [4, 0, 1, 4, 4, 2, 2, 2, 2, 4]
    assert rows(own, 0, 24, periods=2) == [2, 2]
    assert rows(own, 1, 0, periods=2) == [-1, -1]  # a label that the model does not know
    assert rows(marks(Take(quiet(9), None, None, False)), 0, 0, periods=2) == [-1, -1]


def test_other_rows_are_the_same_parts_of_other_words() -> None:
    told = torch.tensor([[-1, 0, 1], [4, 5, 6]])
    assert other_rows(told, 3, 2).tolist() == [[-1, 2, 3], [0, 1, 6]]
    assert other_rows(torch.tensor([2, -1]), 3, 1).tolist() == [0, -1]


def crops(takes: list[Take], **data: Any) -> Crops:
    settings = {"length": 48, "batch": 64, "lead_s": 0.01, "drop_label": 0.0, "drop_speaker": 0.0}
    return Crops(
        takes, WaveDataConfig(**(settings | data)), labels=LABELS, speakers=["s"],
        sample_rate=RATE, label_states=STATES, period=PERIOD, device=CPU,
    )  # fmt: skip


def spelt() -> list[Take]:
    """Words whose samples say which word and which half it is: 10, 11 and 20, 21."""
    return [
        Take(np.repeat([10 * n, 10 * n + 1], half).astype(np.uint8), LABELS[n - 1], "s", False)
        for n in (1, 2)
        for half in (9, 14)
        for _ in range(10)
    ]


def agreement(batch: WaveBatch) -> float:
    """Share of samples that are told what they are, but for the two at a switch."""
    told = batch.labels.repeat_interleave(PERIOD, 1)
    code = batch.targets
    said = torch.where(code == 128, SILENT, (code // 10 - 1) * STATES + code % 10)
    return float((told == said).float().mean())


def test_labels_reach_the_samples_of_words_and_of_strings() -> None:
    words = spelt()
    config = StringsConfig(minutes=0.2, piece_s=1.0, pause_least_s=0.01, pause_most_s=0.02)
    for takes in (words, strings(words, config, RATE)):
        batch = crops(takes).batch(0)
        assert batch.labels.shape == (64, 12)
        assert sorted(batch.labels.unique().tolist()) == [0, 1, 2, 3, SILENT]
        # Switches are at most half a period off, one in ten samples or so.
        assert agreement(batch) > 0.85
        off = batch._replace(labels=batch.labels.roll(3, 1))
        assert agreement(off) < 0.7
        assert (batch.speakers == 0).all()
        told = batch.labels < SILENT
        others = other_rows(batch.labels, len(LABELS), STATES)
        assert ((others // STATES != batch.labels // STATES) == told).all()
        assert ((others % STATES == batch.labels % STATES) | ~told).all()


def test_labels_reach_the_samples_of_what_is_played_faster_or_slower() -> None:
    batch = crops(spelt(), speed=0.3, length=96).batch(0)
    told = batch.labels.repeat_interleave(PERIOD, 1)
    word = (batch.targets - 128).abs() > 60  # an interpolation rings at the edges
    assert float(((told < SILENT) == word).float().mean()) > 0.93


def test_rows_that_go_on_go_on_in_their_words() -> None:
    words = spelt()
    config = StringsConfig(minutes=0.2, piece_s=1.0, pause_least_s=0.01, pause_most_s=0.02)
    made = crops(strings(words, config, RATE), carry=2)
    for number in (0, 1):
        assert agreement(made.batch(number)) > 0.85


def test_strings_alone_are_not_told_at_times() -> None:
    words = spelt()
    config = StringsConfig(minutes=0.2, piece_s=1.0, pause_least_s=0.01, pause_most_s=0.02)
    strung = crops(strings(words, config, RATE), drop_label=0.5).batch(0)
    silent = (strung.labels < 0).all(1)
    assert 15 < int(silent.sum()) < 49
    assert not (crops(words, drop_label=0.5).batch(0).labels < 0).all(1).any()
