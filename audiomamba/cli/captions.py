"""Live captions in a terminal: finals scroll up, the present utterance grows on the last line."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from audiomamba.cli.clock import clock

__all__ = ["Captions"]

INDENT = 9  # columns of the time before a line
STATUS_ROWS = 1


class Captions:
    """Shows captions on standard output.

    On a terminal: stable text normal, unstable text dim, a line of status below. Elsewhere: the
    text of each final, a line each, so that the output can be piped; the status goes nowhere.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._live: Live | None = None
        self._present = Text()
        self._status = ""
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def partial(self, start: float, stable: str, unstable: str) -> None:
        if self._live:
            rows = max(1, self._console.height - STATUS_ROWS - 1)
            self._present = self._hung(start, Text.assemble(stable, (unstable, "dim")), rows)
            self._draw()

    def final(self, start: float, text: str) -> None:
        self._present = Text()
        if self._live:
            self._console.print(self._hung(start, Text(text)))
        else:
            self._console.file.write(text + "\n")
            self._console.file.flush()
        self._draw()

    def status(self, text: str) -> None:
        self._status = text
        self._draw()

    def _hung(self, start: float, text: Text, rows: int | None = None) -> Text:
        """Time and text, further rows under the text; of many rows the last ``rows``.

        What is redrawn must fit the screen: rows that scrolled off it could not be taken back.
        """
        lines = list(text.wrap(self._console, max(8, self._console.width - INDENT)))
        for line in lines:
            line.rstrip()
        if rows is not None:
            lines = lines[-rows:]
        head = Text(f"{clock(start):>7}  ", style="cyan")
        return Text.assemble(head, Text("\n" + " " * INDENT).join(lines))

    def _draw(self) -> None:
        if self._live:
            status = Text(" " * INDENT + self._status, style="dim")
            status.truncate(self._console.width - 1, overflow="ellipsis")
            body = Text("\n").join([self._present, status]) if self._present else status
            self._live.update(body, refresh=True)
