import io

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


@pytest.mark.parametrize(("seconds", "shown"), [(0.9, "0:00"), (75.0, "1:15"), (3675.2, "1:01:15")])
def test_clocks_show_hours_only_where_there_are_any(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown
