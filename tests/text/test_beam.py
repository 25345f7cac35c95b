"""The search: its sums are CTC's, and the language model has its say; in Python and natively."""

import itertools
import json

import numpy as np
import pytest
from numpy.typing import NDArray

from audiomamba.errors import ConfigError
from audiomamba.kernels import native
from audiomamba.text.beam import BeamConfig, BeamSearch, Search
from audiomamba.text.fit_ngram import fit
from audiomamba.text.native_beam import NativeSearch

V = 4
MODEL = fit([[1, 2, 3], [1, 2, 1], [3, 2, 1]] * 4, V, order=2, nodes=100)
STARTS = np.array([0.0, 1.0, 0.0, 1.0])
WIDE = {"beam": 1000, "candidates": V, "piece_margin": 1e9, "margin": 1e9, "blank": 1.0}

NATIVE = pytest.param(
    NativeSearch,
    marks=pytest.mark.skipif(native.why_not() is not None, reason=f"native: {native.why_not()}"),
)
EACH = pytest.mark.parametrize("kind", [BeamSearch, NATIVE])
Kind = type[BeamSearch] | type[NativeSearch]


def frames(count: int, seed: int = 0) -> NDArray[np.float64]:
    logits = np.random.default_rng(seed).standard_normal((count, V)) * 2
    out: NDArray[np.float64] = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return out


def pieces_of(search: Search) -> list[int]:
    return [heard.piece for heard in search.path()]


def collapsed(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(p for p, _ in itertools.groupby(path) if p)


@EACH
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("weight", "bonus"), [(0.0, 0.0), (0.7, 0.5)])
def test_a_wide_beam_finds_what_trying_everything_finds(
    kind: Kind, seed: int, weight: float, bonus: float
) -> None:
    log_probs = frames(5, seed)
    scores: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(V), repeat=5):
        total = float(sum(log_probs[t, p] for t, p in enumerate(path)))
        text = collapsed(path)
        scores[text] = float(np.logaddexp(scores.get(text, -np.inf), total))
    for text in scores:
        context = np.array([MODEL.start])
        for piece in text:
            score, context = MODEL.score(context, np.array([piece]))
            scores[text] += weight * float(score[0]) + bonus * STARTS[piece]
    config = BeamConfig(weight=weight, word_bonus=bonus, **WIDE)  # type: ignore[arg-type]
    search = kind(MODEL, STARTS, config)
    for t in range(5):
        search.step(log_probs[t], t)
    assert tuple(pieces_of(search)) == max(scores, key=lambda text: scores[text])
    if isinstance(search, BeamSearch):
        found = search.hypotheses()
        assert found[0][0] == pieces_of(search) and len(found) == len(scores)
        best = found[0][1] - max(scores.values())  # ranks are shifted, all alike
        for pieces, rank in found:
            assert rank - best == pytest.approx(scores[tuple(pieces)], abs=1e-6)


@EACH
def test_a_narrow_beam_stays_narrow(kind: Kind) -> None:
    search = kind(MODEL, STARTS, BeamConfig(beam=3))
    for t, row in enumerate(frames(40)):
        search.step(row, t)
        assert 1 <= len(search.state()["tips"]) <= 3


@EACH
def test_what_all_share_can_be_let_go_and_nothing_changes(kind: Kind) -> None:
    rows = frames(60, seed=3)
    whole, cut = (kind(MODEL, STARTS, BeamConfig(beam=4)) for _ in range(2))
    given: list[int] = []
    for t, row in enumerate(rows):
        whole.step(row, t)
        cut.step(row, t)
        settled = [heard for heard in cut.path() if heard.depth < cut.shared]
        if settled:
            given += [heard.piece for heard in settled]
            cut.settle(settled[-1].depth)
    assert given + pieces_of(cut) == pieces_of(whole)
    assert len(cut.state()["nodes"]) < len(whole.state()["nodes"])


@EACH
def test_a_state_goes_on_as_the_search_would_have(kind: Kind) -> None:
    rows = frames(30, seed=5)
    first, second = (kind(MODEL, STARTS, BeamConfig()) for _ in range(2))
    for t, row in enumerate(rows[:15]):
        first.step(row, t)
    second.load(json.loads(json.dumps(first.state())))
    for search in (first, second):
        for t, row in enumerate(rows[15:], 15):
            search.step(row, t)
    assert first.state() == second.state()


@EACH
def test_a_piece_is_noted_where_it_is_clear_not_where_it_was_guessed(kind: Kind) -> None:
    search = kind(MODEL, STARTS, BeamConfig(weight=0.0))
    for t, p in enumerate([0.1, 0.9, 0.8, 0.01]):
        row = np.full(V, 1e-3)
        row[0], row[1] = 1 - p, p
        search.step(np.log(row), t)
    [heard] = search.path()
    assert (heard.piece, heard.first, heard.last) == (1, 1, 2)
    assert search.last_heard == 2
    assert heard.score == pytest.approx(np.log(0.9))


@EACH
def test_a_hypothesis_left_behind_does_not_move_what_a_better_one_has_said(kind: Kind) -> None:
    search = kind(MODEL, STARTS, BeamConfig(weight=0.0, word_bonus=0.0))
    for t, said in enumerate([1, 0, 2, 0, 1, 1, 1]):
        row = np.full(V, 1e-3)
        row[0], row[said] = 0.06, 0.9
        search.step(np.log(row), t)
    # "1" alone, all that follows unheard, hears its piece in the last frames too.
    assert [(h.piece, h.first, h.last) for h in search.path()] == [(1, 0, 0), (2, 2, 2), (1, 4, 6)]


@EACH
def test_old_words_are_decided_by_the_best(kind: Kind) -> None:
    search = kind(MODEL, STARTS, BeamConfig(weight=0.0, beam=8))
    for t, row in enumerate(frames(12, seed=7)):
        search.step(row, t)
    path = search.path()
    assert search.shared < path[2].depth
    search.keep_only(path[2].depth)
    assert search.path() == path and search.shared >= path[2].depth
    search.settle(path[1].depth)
    assert search.path() == path[2:] and not search.empty
    search.restart()
    assert search.empty and search.path() == [] and search.last_heard == -1


@pytest.mark.parametrize("wrong", [{"beam": 0}, {"weight": -1.0}, {"blank": 0.0}])
def test_a_wrong_setting_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="beam"):
        BeamConfig(**wrong)  # type: ignore[arg-type]
