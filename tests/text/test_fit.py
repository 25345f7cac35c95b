"""Fitting a vocabulary to a pool of text."""

import io
import json
import lzma
import tarfile
from pathlib import Path

import pytest

from audiomamba.errors import ModelError
from audiomamba.text.fit import fit, main, pool_sentences
from audiomamba.text.vocabulary import Vocabulary

SENTENCES = ["the cat sat on the mat", "a dog ran after the cat", "it's late", "go home now"]


def pool(folder: Path) -> Path:
    content = lzma.compress("\n".join(SENTENCES * 20).encode())
    with tarfile.open(folder / "text.tar", "w") as tar:
        info = tarfile.TarInfo("books.txt.xz")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return folder / "text.tar"


def test_every_letter_is_a_piece() -> None:
    vocabulary = Vocabulary(fit(SENTENCES * 10, size=34))
    assert len(vocabulary) == 34
    assert vocabulary.decode(vocabulary.encode("xylophone quiz")) == "xylophone quiz"


def test_too_little_text_is_refused() -> None:
    with pytest.raises(ModelError, match="cannot fit"):
        fit(["hi"], size=5000)


def test_a_file_can_be_thinned(tmp_path: Path) -> None:
    path = pool(tmp_path)
    assert len(list(pool_sentences(path))) == 80
    assert len(list(pool_sentences(path, {"books": 8}))) == 10


def test_the_command_writes_a_vocabulary(tmp_path: Path) -> None:
    extra = tmp_path / "extra.jsonl"
    extra.write_text(json.dumps({"text": "marvin"}) + "\n" + json.dumps({"text": None}) + "\n")
    out = tmp_path / "out" / "tokenizer.model"
    main([str(pool(tmp_path)), "--extra", str(extra), "--size", "34", "--out", str(out)])
    assert len(Vocabulary.load(out)) == 34
