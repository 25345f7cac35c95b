"""Subtitles that players accept."""

import re

from audiomamba.text.events import Word
from audiomamba.text.subtitles import COLUMNS, srt, vtt


def words(count: int, pace: float = 0.3) -> list[Word]:
    return [Word(f"word{i}", i * pace, i * pace + 0.2, 0.9) for i in range(count)]


def test_srt_has_numbers_times_and_text() -> None:
    assert srt(words(2)) == "1\n00:00:00,000 --> 00:00:01,000\nword0 word1\n\n"


def test_vtt_has_its_header_and_points_in_times() -> None:
    assert vtt(words(1)).startswith("WEBVTT\n\n00:00:00.000 --> 00:00:01.000\nword0\n")


def test_lines_are_short_captions_brief_and_in_order() -> None:
    blocks = srt(words(200)).strip().split("\n\n")
    ends = 0.0
    for number, block in enumerate(blocks, 1):
        head, times, *lines = block.split("\n")
        assert int(head) == number
        assert len(lines) <= 2 and all(len(line) <= COLUMNS for line in lines)
        start, end = (_seconds(t) for t in times.split(" --> "))
        assert ends <= start < end <= start + 7.001
        ends = end
    assert re.sub(r"\s+", " ", " ".join(b.split("\n", 2)[2] for b in blocks)).count("word") == 200


def test_hours_are_written() -> None:
    assert "01:00:00,000" in srt([Word("late", 3600.0, 3600.2, 1.0)])


def test_nothing_said_is_no_caption() -> None:
    assert srt([]) == "" and vtt([]) == "WEBVTT\n\n"


def _seconds(clock: str) -> float:
    hours, minutes, seconds = clock.replace(",", ".").split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
