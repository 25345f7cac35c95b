"""Words with times to subtitles: SubRip and WebVTT.

The usual rule of broadcasters: at most two lines of 42 characters, 1 to 7 seconds on the screen,
never two captions at once. Captions are made as words come, one caption behind them.

Source of the formats: WebVTT, W3C Candidate Recommendation 2019, section 4; SubRip has none, its
players want numbers from 1, times with a comma and an empty line after each caption.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from audiomamba.text.events import Word

__all__ = ["Caption", "captions", "srt", "srt_parts", "vtt", "vtt_parts"]

COLUMNS = 42  # of a line
LINES = 2  # of a caption
LONGEST_S = 7.0  # a caption stays at most so long
SHORTEST_S = 1.0  # and at least so long
PAUSE_S = 1.0  # a pause of this length starts a new caption


@dataclass(frozen=True, slots=True)
class Caption:
    """What is on the screen from ``start`` to ``end``, in seconds."""

    start: float
    end: float
    lines: tuple[str, ...]


def srt(words: Iterable[Word]) -> str:
    """SubRip text."""
    return "".join(srt_parts(words))


def vtt(words: Iterable[Word]) -> str:
    """WebVTT text."""
    return "".join(vtt_parts(words))


def srt_parts(words: Iterable[Word]) -> Iterator[str]:
    """SubRip text, a caption a part."""
    for number, caption in enumerate(captions(words), 1):
        text = "\n".join(caption.lines).replace("-->", "->")  # an arrow is the format's own
        yield f"{number}\n{_clock(caption.start, ',')} --> {_clock(caption.end, ',')}\n{text}\n\n"


def vtt_parts(words: Iterable[Word]) -> Iterator[str]:
    """WebVTT text: its header, then a caption a part."""
    yield "WEBVTT\n\n"
    for caption in captions(words):
        text = "\n".join(caption.lines)
        for plain, written in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
            text = text.replace(plain, written)
        yield f"{_clock(caption.start, '.')} --> {_clock(caption.end, '.')}\n{text}\n\n"


def captions(words: Iterable[Word]) -> Iterator[Caption]:
    """Captions in order, each as soon as the word is known that begins the next one."""
    free = 0.0  # from when on the screen is empty
    for group, following in _with_next(_unhurried(_groups(words))):
        start = max(group[0].start, free)
        shortest = start + SHORTEST_S
        end = max(group[-1].end, shortest)
        if following is not None:
            # Where words come too fast for a second a caption, the next one waits for its turn.
            end = min(end, max(following[0].start, shortest))
        free = min(end, start + LONGEST_S)
        yield Caption(start, free, tuple(_wrap(group)))


def _groups(words: Iterable[Word]) -> Iterator[list[Word]]:
    group: list[Word] = []
    for word in words:
        if group and (word.start - group[-1].end >= PAUSE_S or not _fits([*group, word])):
            yield group
            group = []
        group.append(word)
    if group:
        yield group


def _unhurried(groups: Iterable[list[Word]]) -> Iterator[list[Word]]:
    """A group that would be gone within a second is put together with the next, if that fits."""
    last: list[Word] | None = None
    for group in groups:
        if last is None:
            last = group
        elif group[0].start - last[0].start < SHORTEST_S and _fits([*last, *group]):
            last = [*last, *group]
        else:
            yield last
            last = group
    if last is not None:
        yield last


def _with_next(groups: Iterable[list[Word]]) -> Iterator[tuple[list[Word], list[Word] | None]]:
    last: list[Word] | None = None
    for group in groups:
        if last is not None:
            yield last, group
        last = group
    if last is not None:
        yield last, None


def _fits(words: list[Word]) -> bool:
    return len(_wrap(words)) <= LINES and words[-1].end - words[0].start <= LONGEST_S


def _wrap(words: list[Word]) -> list[str]:
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
