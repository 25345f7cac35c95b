import io
import re

import pytest
from rich.console import Console

from audiomamba.cli.captions import Captions
from audiomamba.cli.clock import clock


def show(*, terminal: bool) -> str:
    out = io.StringIO()
    console = Console(
        file=out, force_terminal=terminal, width=60, highlight=False, legacy_windows=False
    )
    with Captions(console) as captions:
        captions.status("live · test")
        captions.partial(0.5, "hello ", "wor")
        captions.final(0.5, "hello world")
        captions.partial(61.0, "", "again")
        captions.final(61.0, "again [and] again")
    return out.getvalue()


def test_a_pipe_gets_the_finals_alone() -> None:
    assert show(terminal=False) == "hello world\nagain [and] again\n"


def test_a_terminal_shows_what_may_change_dimly() -> None:
    out = show(terminal=True)
    assert "hello \x1b[2mwor\x1b[0m" in out
    assert "live · test" in out
    assert "1:01" in out and "again [and] again" in out  # text is text, not markup


class Screen:
    """A terminal that understands what a redraw is made of."""

    def __init__(self, width: int, height: int) -> None:
        self.console = Console(
            file=io.StringIO(), force_terminal=True, width=width, height=height, highlight=False,
            legacy_windows=False, soft_wrap=True, color_system=None,
        )  # fmt: skip
        self.width = width

    @property
    def rows(self) -> list[str]:
        assert isinstance(self.console.file, io.StringIO)
        rows, at = [""], 0
        for part in re.split(r"(\n|\r|\x1b\[[\d;?]*[A-Za-z])", self.console.file.getvalue()):
            if part == "\n":
                at += 1
                rows += [""] * (at + 1 - len(rows))
            elif part == "\x1b[1A":
                at -= 1
            elif part == "\x1b[2K":
                rows[at] = ""
            elif part and part != "\r" and not part.startswith("\x1b"):
                rows[at] += part
        return rows


def test_a_long_utterance_is_redrawn_in_its_place_and_hangs_under_its_text() -> None:
    screen = Screen(30, 12)
    words = [f"word{i}" for i in range(12)]
    with Captions(screen.console) as captions:
        captions.status("live · a recording with a long name · model")
        for i in range(len(words)):
            captions.partial(5.0, " ".join(words[:i]) + " " * bool(i), words[i])
        drawn = [row for row in screen.rows if row.strip()]
        assert drawn[0] == "   0:05  word0 word1 word2"
        assert drawn[1] == "         word3 word4 word5"
        assert drawn[-2].strip() == "word9 word10 word11"
        assert drawn[-1].strip().startswith("live · ") and drawn[-1].endswith("…")
        assert all(len(row) <= 30 for row in drawn) and len(drawn) == 5
        captions.final(5.0, "word0 word1")
    assert [row for row in screen.rows if row.strip()] == ["   0:05  word0 word1"]


def test_what_does_not_fit_the_screen_is_cut_at_its_beginning() -> None:
    screen = Screen(30, 4)
    with Captions(screen.console) as captions:
        captions.status("live")
        for i in range(40):
            captions.partial(5.0, "", " ".join(f"w{j}" for j in range(i)))
        drawn = [row for row in screen.rows if row.strip()]
        assert len(drawn) == 3 and drawn[-2].endswith("w38")


@pytest.mark.parametrize(("seconds", "shown"), [(0.9, "0:00"), (75.0, "1:15"), (3675.2, "1:01:15")])
def test_clocks_show_hours_only_where_there_are_any(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown
