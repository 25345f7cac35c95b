"""Written English to what a reader says."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiomamba.text.normalize import normalize


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("Mr. Knightley paid $3.50.", "mister knightley paid three dollars and fifty cents"),
        ("on May 3rd, 1999", "on may third nineteen ninety nine"),
        ("It's 50% off", "it's fifty percent off"),
        ("The 1990s", "the nineteen nineties"),
        ("1,234,567", "one million two hundred thirty four thousand five hundred sixty seven"),
        ("3.14", "three point one four"),
        ("well-known -- café", "well known cafe"),
        ("Dr. O'Neil said 'yes'.", "doctor o'neil said yes"),
        ("22nd", "twenty second"),
        ("", ""),
        ("?!", ""),
    ],
)
def test_it_is_spelled_as_it_is_said(written: str, spoken: str) -> None:
    assert normalize(written) == spoken


@given(st.text(max_size=80))
def test_nothing_but_letters_apostrophes_and_single_spaces_is_left(written: str) -> None:
    spoken = normalize(written)
    assert re.fullmatch(r"([a-z]+('[a-z]+)*'?( |$))*", spoken) or spoken == ""
    assert normalize(spoken) == spoken
