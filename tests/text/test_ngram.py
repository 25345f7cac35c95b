"""The language model: probabilities, back-off, and the file."""

from pathlib import Path

import numpy as np
import pytest

from audiomamba.errors import ModelError
from audiomamba.text.fit_ngram import fit
from audiomamba.text.ngram import BOUNDARY, NgramModel, Trie, alike

V = 6
SENTENCES = [[1, 2, 3], [1, 2, 4], [2, 3, 1], [1, 2, 3, 5], [5, 1, 2, 3]] * 5


@pytest.fixture(scope="module")
def model() -> NgramModel:
    return fit(SENTENCES, V, order=3, nodes=1000)


def chances(model: NgramModel, *history: int) -> np.ndarray:
    """Probabilities of every piece after a sentence's start and ``history``."""
    context = np.array([model.start])
    for piece in history:
        _, context = model.score(context, np.array([piece]))
    scores, _ = model.score(np.repeat(context, V), np.arange(V))
    return np.exp(scores)


@pytest.mark.parametrize("history", [(), (1,), (1, 2), (4,), (5, 5), (1, 2, 3, 5)])
def test_probabilities_after_any_context_sum_to_one(
    model: NgramModel, history: tuple[int, ...]
) -> None:
    assert chances(model, *history).sum() == pytest.approx(1.0, abs=1e-4)


def test_what_was_seen_is_likely_and_what_was_not_is_possible(model: NgramModel) -> None:
    after = chances(model, 1, 2)
    assert after.argmax() == 3
    assert 0 < after[5] < after[4] < after[3]


def test_a_pruned_model_still_sums_to_one() -> None:
    small = fit(SENTENCES, V, order=3, nodes=12)
    assert len(small.trie.pieces) < len(fit(SENTENCES, V, order=3, nodes=1000).trie.pieces)
    for history in ((), (1,), (1, 2), (3, 1)):
        assert chances(small, *history).sum() == pytest.approx(1.0, abs=1e-4)


def test_many_at_once_are_scored_as_one_by_one(model: NgramModel) -> None:
    random = np.random.default_rng(0)
    contexts = np.array([model.start] * 40)
    for _ in range(4):
        pieces = random.integers(1, V, 40)
        scores, after = model.score(contexts, pieces)
        for i in range(40):
            one, context = model.score(contexts[i : i + 1], pieces[i : i + 1])
            assert (one[0], context[0]) == (scores[i], after[i])
        contexts = after


def test_a_file_gives_back_nearly_the_same(model: NgramModel, tmp_path: Path) -> None:
    size = model.save(tmp_path / "a.ngram")
    assert size == (tmp_path / "a.ngram").stat().st_size
    again = NgramModel.load(tmp_path / "a.ngram")
    np.testing.assert_allclose(chances(again, 1, 2), chances(model, 1, 2), rtol=0.05)
    again.save(tmp_path / "b.ngram")
    assert NgramModel.load(tmp_path / "b.ngram").fingerprint == again.fingerprint


def test_perplexity_is_lower_on_what_was_learned(model: NgramModel) -> None:
    assert model.perplexity([[1, 2, 3]]) < model.perplexity([[4, 4, 4]])


def test_what_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot read"):
        NgramModel.load(tmp_path / "missing.ngram")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ModelError, match="not a language model"):
        NgramModel.load(tmp_path / "text")
    fit(SENTENCES, V, order=2, nodes=100).save(tmp_path / "cut.ngram")
    cut = (tmp_path / "cut.ngram").read_bytes()
    (tmp_path / "cut.ngram").write_bytes(cut[:-5])
    with pytest.raises(ModelError, match="damaged"):
        NgramModel.load(tmp_path / "cut.ngram")


def test_columns_that_are_no_trie_are_refused(model: NgramModel) -> None:
    t = model.trie
    short = Trie(V, 3, t.pieces[:-1], t.children, t.log_probs, t.backoffs)
    with pytest.raises(ModelError, match="trie"):
        NgramModel(short)
    turned = Trie(V, 3, t.pieces[::-1], t.children, t.log_probs, t.backoffs)
    with pytest.raises(ModelError, match="order"):
        NgramModel(turned)
    assert BOUNDARY == 0


def test_a_model_that_says_nothing_says_the_same_of_every_piece() -> None:
    for history in ((), (1,), (3, 2, 5)):
        np.testing.assert_allclose(chances(alike(V), *history), 1 / V, rtol=1e-6)
