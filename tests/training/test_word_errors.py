"""Word and character error rates by group."""

import pytest

from audiomamba.training.word_errors import Result, line, rates, table


def test_errors_are_counted_over_all_words_of_a_group() -> None:
    measured = rates(
        [
            Result("a", "clear", "one two three", "one too three", 2.0),
            Result("b", "clear", "four", "four", 1.0),
            Result("c", "accented/adults", "five six", "", 1.0),
            Result("d", "accented/children", "seven eight", "seven eight", 1.0),
        ]
    )
    assert list(measured) == ["accented", "accented/adults", "accented/children", "clear"]
    assert measured["clear"].wer == pytest.approx(25.0)
    assert (measured["clear"].words, measured["clear"].clips) == (4, 2)
    assert measured["clear"].seconds == 3.0
    assert measured["clear"].cer == pytest.approx(100 / 17)
    assert measured["accented"].wer == pytest.approx(50.0)
    assert "clear 25.0/5.9" in line(measured)
    assert len(table(measured).splitlines()) == 5
