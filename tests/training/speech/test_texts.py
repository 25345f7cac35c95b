"""What the synthetic voices say."""

import io
import itertools
import lzma
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from audiomamba.training.speech.texts import COMMANDS, MIXTURE, lines, pieces, speak


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    path = tmp_path / "text.tar"
    with tarfile.open(path, "w") as tar:
        for name in ("books", "prompts", "dialogue", "speeches"):
            text = "\n".join(f"This is {name} sentence number {i}." for i in range(500))
            packed = lzma.compress(text.encode())
            info = tarfile.TarInfo(f"{name}.txt.xz")
            info.size = len(packed)
            tar.addfile(info, io.BytesIO(packed))
    return path


@pytest.mark.parametrize(
    ("sentence", "text", "spoken"),
    [
        ("Well , no -- wait!", "well no wait", "well, no, wait!"),
        ("It leaves at 3:45 pm.", "it leaves at three forty five p m", None),
        ("Mr. Hill paid $3, twice.", "mister hill paid three dollars twice",
         "mister hill paid three dollars, twice."),
        ("I do n't know; it 's late.", "i don't know it's late", "i don't know; it's late."),
    ],
)  # fmt: skip
def test_label_and_spoken_form_are_the_same_words(
    sentence: str, text: str, spoken: str | None
) -> None:
    (piece,) = pieces(sentence)
    line = speak(piece, "books")
    assert line is not None
    assert line.text == text
    assert line.spoken == (spoken or f"{text}.")


def test_long_sentences_are_cut_at_clause_marks() -> None:
    clause = "the ship went down the river to the sea,"
    cut = list(pieces(" ".join([clause] * 6)))
    assert [len(piece.split()) for piece in cut] == [18, 18, 18]
    assert cut[0].endswith("sea,")


@pytest.mark.parametrize(
    "sentence", ["CHAPTER THE FIRST OF ALL", "He met Mr.", "Too short", "naïve café life here"]
)
def test_what_cannot_be_read_is_left_out(sentence: str) -> None:
    assert list(pieces(sentence)) == []


def test_the_mixture_has_its_shares(pool: Path) -> None:
    drawn = list(itertools.islice(lines(pool, 3), 4000))
    kinds = Counter(line.kind for line in drawn)
    assert sum(MIXTURE.values()) == pytest.approx(1)
    for kind, share in MIXTURE.items():
        assert kinds[kind] / len(drawn) == pytest.approx(share, abs=0.03), kind
    assert all(set(line.text) <= set("abcdefghijklmnopqrstuvwxyz' ") for line in drawn)
    single = {line.text for line in drawn if line.kind == "commands" and " " not in line.text}
    assert single <= set(COMMANDS)


def test_the_same_seed_gives_the_same_lines(pool: Path) -> None:
    first = list(itertools.islice(lines(pool, 5), 50))
    assert first == list(itertools.islice(lines(pool, 5), 50))
    assert first != list(itertools.islice(lines(pool, 6), 50))
