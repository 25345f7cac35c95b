import io

import pytest

from audiomamba.cli.progress import CLEAR, Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    @property
    def lines(self) -> list[str]:
        return [line for line in self.getvalue().split(CLEAR) if line]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


def test_speed_and_time_left_are_shown() -> None:
    clock, out = Clock(), Terminal()
    progress = Progress(out, clock)
    progress.begin("talk.flac", 600.0)
    clock.now = 5.0
    progress.at(150.0)
    assert out.lines[-1] == "talk.flac  ━━━━━───────────────  25%  2:30 of 10:00  30x  0:15 left"


def test_what_was_done_before_says_nothing_of_the_speed() -> None:
    clock, out = Clock(), Terminal()
    progress = Progress(out, clock)
    progress.begin("a.wav", 600.0, done_s=300.0)
    assert out.lines[-1].endswith("50%  5:00 of 10:00")
    clock.now = 10.0
    progress.at(330.0)
    assert out.lines[-1].endswith("55%  5:30 of 10:00  3x  1:30 left")


def test_a_recording_of_unknown_length_shows_what_was_done() -> None:
    clock, out = Clock(), Terminal()
    progress = Progress(out, clock)
    progress.begin("standard input", None)
    clock.now = 2.0
    progress.at(90.0)
    assert out.lines[-1] == "standard input  1:30  45x"


def test_a_long_name_is_cut_in_front_and_the_line_never_wraps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for columns in (20, 60, 80):
        monkeypatch.setenv("COLUMNS", str(columns))
        clock, out = Clock(), Terminal()
        progress = Progress(out, clock)
        progress.begin("recordings/" * 12 + "the last.flac", 10_000.0)
        clock.now = 1.0
        progress.at(33.0)
        assert all(len(line) < columns for line in out.lines)
    assert out.lines[-1].startswith("…") and "last.flac" in out.lines[-1]


def test_it_is_drawn_ten_times_a_second_at_most() -> None:
    clock, out = Clock(), Terminal()
    progress = Progress(out, clock)
    progress.begin("a", 10.0)
    for i in range(1000):
        clock.now = i / 1000
        progress.at(i / 100)
    assert len(out.lines) <= 11


def test_a_pipe_hears_only_what_is_said() -> None:
    out = io.StringIO()
    progress = Progress(out)
    progress.begin("a", 10.0)
    progress.at(5.0)
    progress.hide()
    progress.say("done")
    assert out.getvalue() == "done\n"


def test_what_is_said_takes_the_place_of_the_line() -> None:
    out = Terminal()
    progress = Progress(out, Clock())
    progress.begin("a", 10.0)
    progress.say("done")
    assert out.getvalue().endswith(f"{CLEAR}done\n")
