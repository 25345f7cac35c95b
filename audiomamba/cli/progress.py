"""A line on a terminal that says how far a recording is, how fast it goes and how long it takes."""

import shutil
import sys
import time
from collections.abc import Callable
from typing import TextIO

from audiomamba.cli.clock import clock

__all__ = ["Progress"]

REDRAW_S = 0.1
BAR = 20  # columns
CLEAR = "\r\x1b[2K"


class Progress:
    """Shows one recording at a time; says nothing where standard error is no terminal.

    Args:
        out: Where to; standard error.
        now: A clock in seconds.
    """

    def __init__(
        self, out: TextIO | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._out = out or sys.stderr
        self._now = now
        self.shown = self._out.isatty()
        self._label = ""
        self._total: float | None = None
        self._before = 0.0
        self._began = self._drawn = 0.0
        self._line = ""

    def begin(self, label: str, total_s: float | None, *, done_s: float = 0.0) -> None:
        """A recording of ``total_s`` seconds begins; None: of unknown length.

        ``done_s`` of it were done before, and say nothing of the speed.
        """
        self._label, self._total, self._before = label, total_s, done_s
        self._began, self._drawn = self._now(), float("-inf")
        self.at(done_s)

    def at(self, seconds: float) -> None:
        """So many seconds of the recording are done."""
        now = self._now()
        if self.shown and now - self._drawn >= REDRAW_S:
            self._drawn = now
            self._line = self._text(seconds, now - self._began)
            self._draw()

    def hide(self) -> None:
        """Take the line away: something else is written."""
        if self.shown and self._line:
            self._out.write(CLEAR)
            self._out.flush()

    def say(self, words: str) -> None:
        """Write a line that stays, in the place of the one that moves."""
        self.hide()
        self._line = ""
        print(words, file=self._out, flush=True)

    def _draw(self) -> None:
        self._out.write(CLEAR + self._line)
        self._out.flush()

    def _text(self, seconds: float, took: float) -> str:
        speed = (seconds - self._before) / took if took > 0 else 0.0
        parts = [f"{speed:.0f}x"] if speed else []
        if self._total:
            share = min(1.0, seconds / self._total)
            bar = ("━" * round(BAR * share)).ljust(BAR, "─")
            parts = [f"{bar} {share:4.0%}", f"{clock(seconds)} of {clock(self._total)}", *parts]
            if speed:
                parts.append(f"{clock(max(0.0, self._total - seconds) / speed)} left")
        else:
            parts = [clock(seconds), *parts]
        tail = "  ".join(parts)
        width = shutil.get_terminal_size().columns - 1
        room = max(8, width - len(tail) - 2)
        label = self._label if len(self._label) <= room else "…" + self._label[1 - room :]
        return f"{label}  {tail}"[:width]
