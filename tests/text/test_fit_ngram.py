"""Fitting the language model: counts, discounts, and texts that must stay unknown."""

import io
import json
import lzma
import tarfile
from pathlib import Path

import numpy as np
import pytest

from audiomamba.errors import ConfigError
from audiomamba.models.registry import find
from audiomamba.text.fit_ngram import fit, main, spoken_lists, without
from audiomamba.text.ngram import NgramModel
from audiomamba.text.vocabulary import Vocabulary


def test_interpolated_kneser_ney_of_a_text_counted_by_hand() -> None:
    # Bigrams 0 1, 1 2 and 2 0, twice each; so little text has discounts of 0.5 and 1.
    model = fit([[1, 2], [1, 2]], 3, order=2, nodes=100)
    scores, _ = model.score(np.array([model.start]), np.array([1]))
    # Each piece follows one other: (1 - 0.5) / 3, and a third of the half that is left.
    unigram = 0.5 / 3 + 0.5 / 3
    assert np.exp(scores[0]) == pytest.approx((2 - 1) / 2 + 1 / 2 * unigram)


def test_a_word_after_many_contexts_is_likelier_than_one_as_frequent_after_one() -> None:
    # 3 follows 1, 2, 4 and 5 once each; 6 follows 7 four times.
    sentences = [[1, 3], [2, 3], [4, 3], [5, 3], [7, 6], [7, 6], [7, 6], [7, 6]]
    model = fit(sentences, 9, order=2, nodes=1000)
    scores, _ = model.score(np.array([0, 0]), np.array([3, 6]))
    assert scores[0] > scores[1] + 0.5


def test_an_order_that_does_not_fit_a_key_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"order in 1\.\.7"):
        fit([[1]], 512, order=8, nodes=10)


def test_sentences_that_share_a_run_with_a_reference_are_left_out() -> None:
    held = "a b c d e f g h i"
    kept = list(without(["x a b c d e f g h y", "a b c d e f g", held, "one", "x y z"], [held]))
    assert kept == ["a b c d e f g", "one", "x y z"]


def test_a_short_reference_does_not_forbid_its_words() -> None:
    assert list(without(["seven", "set the table now"], ["seven", "set the table now"])) == [
        "seven"
    ]


def test_lists_are_the_same_every_time() -> None:
    lists = list(spoken_lists(50))
    assert lists == list(spoken_lists(50))
    assert all(1 <= len(text.split()) <= 8 for text in lists)
    assert any(set(text.split()) <= {"zero", "one", "two", "three"} for text in lists)


def test_the_command_writes_a_model_of_the_pool(tmp_path: Path) -> None:
    text = lzma.compress(b"the cat sat on the mat\nthe dog sat on the cat\n" * 20)
    with tarfile.open(tmp_path / "text.tar", "w") as tar:
        info = tarfile.TarInfo("books.txt.xz")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
    (tmp_path / "held.jsonl").write_text(json.dumps({"text": "the dog sat on the cat"}) + "\n")
    tokenizer = find("listen-en") / "tokenizer.model"
    out = tmp_path / "pieces.ngram"
    main(
        [str(tmp_path / "text.tar"), "--tokenizer", str(tokenizer), "--order", "4"]
        + ["--exclude", str(tmp_path / "held.jsonl"), "--megabytes", "1", "--out", str(out)]
    )
    vocabulary, model = Vocabulary.load(tokenizer), NgramModel.load(out)
    seen = model.perplexity([vocabulary.encode("the cat sat on the mat")])
    assert seen < 3 < model.perplexity([vocabulary.encode("the dog sat on the cat")])
