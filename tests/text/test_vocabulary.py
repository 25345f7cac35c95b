"""Text to pieces and back."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiomamba.errors import ModelError
from audiomamba.models.registry import find
from audiomamba.text.vocabulary import BLANK, WORD_START, Vocabulary

TOKENIZER = find("listen-en") / "tokenizer.model"
VOCABULARY = Vocabulary.load(TOKENIZER)
WORDS = st.lists(st.text("abcdefghijklmnopqrstuvwxyz'", min_size=1, max_size=12), max_size=8)


@given(WORDS)
def test_any_normalised_text_comes_back(words: list[str]) -> None:
    text = " ".join(words)
    ids = VOCABULARY.encode(text)
    assert BLANK not in ids
    assert VOCABULARY.decode(ids) == text


def test_digits_and_commands_are_pieces() -> None:
    for word in "zero one two three four five six seven eight nine yes no stop go left".split():
        assert [VOCABULARY.pieces[i] for i in VOCABULARY.encode(word)] == [WORD_START + word]


def test_what_is_not_normalised_is_refused() -> None:
    with pytest.raises(ModelError, match="not normalised"):
        VOCABULARY.encode("Ünïcode")


def test_it_can_be_written_and_read_again(tmp_path: Path) -> None:
    VOCABULARY.save(tmp_path / "tokenizer.model")
    assert Vocabulary.load(tmp_path / "tokenizer.model").pieces == VOCABULARY.pieces


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "wrong.model").write_bytes(b"not a model")
    with pytest.raises(ModelError):
        Vocabulary.load(tmp_path / "wrong.model")
    with pytest.raises(ModelError, match="cannot read"):
        Vocabulary.load(tmp_path / "missing.model")
