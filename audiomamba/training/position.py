"""Errors by position in one long recording: does what comes late suffer from what came before?::

    python -m audiomamba.training.position dev.jsonl --minutes 60

The clips are joined in a random order, again and again, with pauses between them, into a single
stream that is never reset; each is scored by the words that fall into its time. A row is a stretch
of the recording, beside the same clips each heard in a stream of its own.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audiomamba.models.listener import Listener
from audiomamba.text.events import Final, Word
from audiomamba.training.clips import Clip, read_clips

__all__ = ["Placed", "join", "main", "said_in", "table"]

RATE = 16_000
STRETCHES = ((0, 1), (1, 10), (10, 20), (20, 30), (30, 40), (40, 50), (50, 60))
"""Minutes."""
_MARGIN_S = 0.4
"""A word belongs to a clip from so long before it to so long after, at most half of the pause."""
Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Placed:
    """A clip and where it lies, in seconds."""

    clip: Clip
    start: float
    end: float


def join(clips: Sequence[Clip], seconds: float, *, seed: int = 0) -> list[Placed]:
    """Place clips one after the other, all of them in a new order each round, 1 to 3 s apart."""
    random = np.random.default_rng(seed)
    placed: list[Placed] = []
    at = 1.0
    while at < seconds:
        for i in random.permutation(len(clips)):
            length = len(clips[i].samples) / RATE
            if at + length > seconds:
                return placed
            placed.append(Placed(clips[i], at, at + length))
            at += length + float(random.uniform(1, 3))
    return placed


def said_in(words: Sequence[Word], placed: Placed) -> str:
    """The words whose middle falls into a clip's time."""
    low, high = placed.start - _MARGIN_S, placed.end + _MARGIN_S
    return " ".join(w.word for w in words if low <= (w.start + w.end) / 2 < high)


def table(
    listener: Listener, clips: Sequence[Clip], minutes: float, *, lm: bool | None = None
) -> str:
    """Word error rates by stretch of one recording of ``minutes``."""
    import jiwer

    placed = join(clips, minutes * 60)
    events = listener.events(((RATE, block) for block in _sound(placed)), lm=lm)
    words = [word for event in events if isinstance(event, Final) for word in event.words]
    alone = {p.clip.name: p.clip for p in placed}
    single = {name: listener.transcribe(clip.samples, lm=lm).text for name, clip in alone.items()}
    rows = ["| minutes | WER % | each clip alone | words |", "|---|---:|---:|---:|"]
    for low, high in STRETCHES:
        here = [p for p in placed if low * 60 <= p.start < high * 60]
        if not here:
            continue
        references = [p.clip.text for p in here]
        joined = 100 * float(jiwer.wer(references, [said_in(words, p) for p in here]))
        apart = 100 * float(jiwer.wer(references, [single[p.clip.name] for p in here]))
        count = sum(len(text.split()) for text in references)
        rows.append(f"| {low}–{high} | {joined:.1f} | {apart:.1f} | {count} |")
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the module's docstring."""
    from audiomamba.models.loading import load

    parser = argparse.ArgumentParser(prog="python -m audiomamba.training.position")
    parser.add_argument("manifests", nargs="+", type=Path, metavar="MANIFEST")
    parser.add_argument("--model", default="listen-en", help="name or folder")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--group", nargs="*", help="clips of these groups alone, such as clear")
    parser.add_argument("--greedy", action="store_true", help="without language model")
    options = parser.parse_args(arguments)
    clips = [clip for manifest in options.manifests for clip in read_clips(manifest)]
    if options.group:
        clips = [clip for clip in clips if clip.group.split("/")[0] in options.group]
    print(f"{len(clips)} clips", file=sys.stderr)
    listener = load(options.model)
    print(table(listener, clips, options.minutes, lm=False if options.greedy else None))


def _sound(placed: Sequence[Placed]) -> Iterator[Samples]:
    """The recording, a pause and a clip at a time."""
    random = np.random.default_rng(0)
    at = 0
    for one in placed:
        start = round(one.start * RATE)
        yield (1e-4 * random.standard_normal(start - at)).astype(np.float32)
        yield one.clip.samples
        at = start + len(one.clip.samples)
    yield (1e-4 * random.standard_normal(RATE)).astype(np.float32)


if __name__ == "__main__":
    main()
