"""Numbers in words."""

import pytest

from audiomamba.text import numbers


@pytest.mark.parametrize(
    ("n", "words"),
    [
        (0, "zero"),
        (13, "thirteen"),
        (40, "forty"),
        (99, "ninety nine"),
        (100, "one hundred"),
        (1001, "one thousand one"),
        (1_000_000, "one million"),
    ],
)
def test_cardinals(n: int, words: str) -> None:
    assert numbers.cardinal(n) == words


@pytest.mark.parametrize(
    ("n", "words"),
    [(1, "first"), (2, "second"), (12, "twelfth"), (20, "twentieth"), (101, "one hundred first")],
)
def test_ordinals(n: int, words: str) -> None:
    assert numbers.ordinal(n) == words


@pytest.mark.parametrize(
    ("n", "words"),
    [(1999, "nineteen ninety nine"), (2000, "two thousand"), (1905, "nineteen oh five")],
)
def test_years(n: int, words: str) -> None:
    assert numbers.year(n) == words
