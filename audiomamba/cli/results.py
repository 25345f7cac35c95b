"""Transcripts as text, JSON and subtitles, written while they are made.

Each writer takes what is heard as it becomes final, so that a transcript that is broken off is a
valid one of its beginning, and a pipe has the words as soon as they are known.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Literal, get_args

from audiomamba.text import subtitles
from audiomamba.text.events import Final, Word

__all__ = ["FORMATS", "Format", "Heard", "write"]

Format = Literal["txt", "json", "srt", "vtt"]
FORMATS: tuple[Format, ...] = get_args(Format)
Write = Callable[[str], object]


@dataclass(slots=True)
class Heard:
    """What is known of a recording besides its words; ``seconds`` grows as it is read."""

    name: str
    model: str
    seconds: float = 0.0
    began: float = field(default_factory=time.perf_counter)

    @property
    def took(self) -> float:
        """Seconds since it was begun."""
        return time.perf_counter() - self.began


def write(
    form: Format, finals: Iterable[Final], heard: Heard, out: Write, *, named: bool = False
) -> None:
    """Write a transcript in a format.

    Args:
        form: ``txt`` is a line a recording, ``json`` an object a line.
        finals: As they come.
        heard: Of the recording; read after the last final.
        out: Takes the parts.
        named: Begin a line of text with the name of its recording and a tab.
    """
    if form == "txt":
        _txt(finals, f"{heard.name}\t" if named else "", out)
    elif form == "json":
        out(_json(list(_words(finals)), heard) + "\n")
    else:
        _subtitles(finals, subtitles.srt_parts if form == "srt" else subtitles.vtt_parts, out)


def _txt(finals: Iterable[Final], head: str, out: Write) -> None:
    begun = False
    try:
        for final in finals:
            if final.text:
                out((" " if begun else head) + final.text)
                begun = True
        if not begun:
            out(head)
            begun = True
    finally:
        if begun:
            out("\n")  # also of a line that is broken off


def _subtitles(
    finals: Iterable[Final], parts: Callable[[Iterable[Word]], Iterator[str]], out: Write
) -> None:
    broken: BaseException | None = None

    def words() -> Iterator[Word]:
        nonlocal broken
        try:
            yield from _words(finals)
        except (KeyboardInterrupt, Exception) as error:
            broken = error  # an end like any other for the captions that are still open

    for part in parts(words()):
        out(part)
    if broken is not None:
        raise broken


def _words(finals: Iterable[Final]) -> Iterator[Word]:
    for final in finals:
        yield from final.words


def _json(words: list[Word], heard: Heard) -> str:
    return json.dumps(
        {
            "file": heard.name,
            "seconds": round(heard.seconds, 3),
            "text": " ".join(word.word for word in words),
            "words": [asdict(word) for word in words],
            "model": heard.model,
            "realtime_factor": round(heard.took / max(heard.seconds, 1e-9), 4),
        },
        ensure_ascii=False,
    )
