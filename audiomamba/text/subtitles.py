"""Words with times to subtitles: SubRip and WebVTT."""

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from audiomamba.text.events import Word

__all__ = ["srt", "vtt"]

COLUMNS = 42  # of a line
LINES = 2  # of a caption
LONGEST_S = 7.0  # a caption stays at most so long
SHORTEST_S = 1.0  # and at least so long, where the next one leaves room
PAUSE_S = 1.0  # a pause of this length starts a new caption


def srt(words: Sequence[Word]) -> str:
    """SubRip text; players want a number, times with a comma and an empty line a caption."""
    return "".join(
        f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{text}\n\n"
        for number, (start, end, text) in enumerate(_captions(words), 1)
    )


def vtt(words: Sequence[Word]) -> str:
    """WebVTT text."""
    cues = (
        f"{_clock(start, '.')} --> {_clock(end, '.')}\n{text}\n\n"
        for start, end, text in _captions(words)
    )
    return "WEBVTT\n\n" + "".join(cues)


def _captions(words: Sequence[Word]) -> Iterator[tuple[float, float, str]]:
    """Start, end and text of each caption."""
    groups = list(_groups(words))
    for group, following in zip_longest(groups, groups[1:]):
        start, end = group[0].start, max(group[-1].end, group[0].start + SHORTEST_S)
        if following is not None:
            end = min(end, following[0].start)
        yield start, max(end, start + 0.001), "\n".join(_wrap(group))


def _groups(words: Sequence[Word]) -> Iterator[list[Word]]:
    group: list[Word] = []
    for word in words:
        if group and (
            len(_wrap([*group, word])) > LINES
            or word.end - group[0].start > LONGEST_S
            or word.start - group[-1].end >= PAUSE_S
        ):
            yield group
            group = []
        group.append(word)
    if group:
        yield group


def _wrap(words: Sequence[Word]) -> list[str]:
    lines = [""]
    for word in words:
        joined = f"{lines[-1]} {word.word}".lstrip()
        if len(joined) > COLUMNS and lines[-1]:
            lines.append(word.word)
        else:
            lines[-1] = joined
    return lines


def _clock(seconds: float, point: str) -> str:
    total = round(seconds * 1000)
    hours, rest = divmod(total, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{point}{rest % 1000:03}"
