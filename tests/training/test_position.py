"""Joining clips to one recording, and scoring each by its time."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

import audiomamba as am
from audiomamba.text.events import Word
from audiomamba.training.clips import Clip
from audiomamba.training.position import Placed, join, said_in, table

SPOKEN = Path(__file__).parent.parent / "recordings" / "zero_one_five.flac"


def clip(name: str, seconds: float) -> Clip:
    return Clip(name, "clear", "one", np.zeros(round(16_000 * seconds), np.float32))


def test_clips_follow_each_other_with_pauses_and_all_come_before_one_comes_again() -> None:
    placed = join([clip("a", 2), clip("b", 3), clip("c", 1)], 60)
    assert {p.clip.name for p in placed[:3]} == {"a", "b", "c"}
    assert placed[-1].end <= 60
    for before, after in zip(placed, placed[1:], strict=False):
        assert 1 <= after.start - before.end <= 3
    assert placed == join([p.clip for p in sorted(placed[:3], key=lambda p: p.clip.name)], 60)


def test_words_belong_to_the_clip_in_whose_time_they_are() -> None:
    words = [Word(w, t, t + 0.2, 1.0) for w, t in [("a", 0.5), ("b", 5.0), ("c", 6.1), ("d", 8.0)]]
    assert said_in(words, Placed(clip("x", 1.2), 4.9, 6.1)) == "b c"


def test_a_long_recording_is_scored_by_stretch_beside_each_clip_alone() -> None:
    samples, _ = soundfile.read(SPOKEN, dtype="float32")
    spoken = Clip("a", "words", "zero one five", samples)
    rows = table(am.load("listen-en"), [spoken], 1.2).splitlines()
    assert rows[2].startswith("| 0–1 | 0.0 | 0.0 | ")
    assert rows[3].startswith("| 1–10 | 0.0 | 0.0 | ")
    assert sum(int(row.split("|")[4]) for row in rows[2:]) == pytest.approx(3 * 14, abs=6)
