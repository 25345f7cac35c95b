"""Subtitles that players accept."""

import random
import re
from collections.abc import Iterator

import pytest

from audiomamba.text.events import Word
from audiomamba.text.subtitles import COLUMNS, captions, srt, srt_parts, vtt


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


SRT = re.compile(r"(\d+)\n(\d\d:\d\d:\d\d,\d{3}) --> (\d\d:\d\d:\d\d,\d{3})\n((?:.+\n){1,2})\n")
VTT = re.compile(
    r"(\d\d+:[0-5]\d:[0-5]\d\.\d{3}) --> (\d\d+:[0-5]\d:[0-5]\d\.\d{3})\n((?:.+\n){1,2})\n"
)


def talk(seed: int) -> list[Word]:
    """Bursts of words and pauses, some words very short."""
    draw = random.Random(seed)
    words, now = [], draw.random()
    for _ in range(draw.randrange(1, 120)):
        start = now
        now += 0.08 + draw.random() * 0.5
        words.append(Word("abcdefghijklmno"[: draw.randrange(1, 13)], start, now, 0.9))
        now += draw.random() * 0.3 if draw.random() < 0.9 else 3 * draw.random()
    return words


@pytest.mark.parametrize("seed", range(40))
def test_any_talk_becomes_captions_that_can_be_read(seed: int) -> None:
    words, last = talk(seed), 0.0
    made = list(captions(words))
    for caption in made:
        assert last - 1e-9 <= caption.start
        assert 1.0 - 1e-9 <= caption.end - caption.start <= 7.0 + 1e-9
        assert len(caption.lines) <= 2 and all(len(line) <= COLUMNS for line in caption.lines)
        last = caption.end
    assert " ".join(" ".join(c.lines) for c in made) == " ".join(w.word for w in words)


@pytest.mark.parametrize("seed", range(5))
def test_both_formats_keep_their_grammar_to_the_last_byte(seed: int) -> None:
    text = srt(talk(seed))
    blocks = list(SRT.finditer(text))
    assert "".join(block[0] for block in blocks) == text
    assert [int(block[1]) for block in blocks] == list(range(1, len(blocks) + 1))
    text = vtt(talk(seed))
    assert text.startswith("WEBVTT\n\n")
    cues = list(VTT.finditer(text))
    assert "WEBVTT\n\n" + "".join(cue[0] for cue in cues) == text
    starts = [cue[1] for cue in cues]
    assert starts == sorted(starts) and all(cue[1] < cue[2] for cue in cues)


def test_marks_of_the_formats_in_words_are_written_as_what_they_mean() -> None:
    odd = [Word("a<b>&c", 0.0, 2.0, 1.0), Word("-->", 2.0, 3.0, 1.0)]
    assert "\na&lt;b&gt;&amp;c --&gt;\n" in vtt(odd)
    assert "\na<b>&c ->\n" in srt(odd)


def test_a_word_that_is_gone_at_once_is_put_together_with_the_next() -> None:
    (caption,) = captions([Word("yes", 0.0, 0.3, 1.0), Word("indeed", 0.8, 1.4, 1.0)])
    assert (caption.start, caption.end, caption.lines) == (0.0, 1.4, ("yes indeed",))


def test_a_caption_comes_as_soon_as_the_next_one_begins() -> None:
    taken = 0

    def spoken() -> Iterator[Word]:
        nonlocal taken
        for word in words(500):
            taken += 1
            yield word

    assert next(srt_parts(spoken())).startswith("1\n")
    assert taken < 60


def _seconds(clock: str) -> float:
    hours, minutes, seconds = clock.replace(",", ".").split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
