"""The native search: what the one in Python comes to, to the bit."""

import json
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch

from audiomamba.kernels import native
from audiomamba.models.language import LanguageModel, LanguageModelConfig
from audiomamba.models.piece_language import NativePieceLanguage
from audiomamba.nn import LayerConfig, StackConfig
from audiomamba.text.beam import BeamConfig, BeamSearch, PieceLanguage
from audiomamba.text.fit_ngram import fit
from audiomamba.text.native_beam import NativeSearch, make_search
from audiomamba.text.ngram import NgramModel

BUILT = pytest.mark.skipif(native.why_not() is not None, reason=f"native: {native.why_not()}")
STARTS = (np.arange(40) % 3 == 0).astype(float)


@lru_cache(maxsize=1)
def large_model() -> NgramModel:
    draw = np.random.default_rng(11)
    return fit(draw.integers(1, 40, (400, 12)).tolist(), 40, order=4, nodes=100_000)


@BUILT
def test_the_native_library_links_ngrams_as_numpy_does(monkeypatch: pytest.MonkeyPatch) -> None:
    trie = large_model().trie
    linked = NgramModel(trie)
    monkeypatch.setattr(native, "why_not", lambda: "not asked")
    alone = NgramModel(trie)
    assert alone.start == linked.start
    draw = np.random.default_rng(5)
    contexts = [np.full(500, alone.start)] * 2
    for _ in range(8):
        pieces = draw.integers(1, 40, 500)
        results = [m.score(c, pieces) for m, c in zip((alone, linked), contexts, strict=True)]
        np.testing.assert_array_equal(results[0][0], results[1][0])
        contexts = [after for _, after in results]
        np.testing.assert_array_equal(contexts[0], contexts[1])


@lru_cache(maxsize=1)
def neural_model() -> PieceLanguage:
    """Untrained, with logits that differ enough to decide."""
    torch.manual_seed(3)
    layers = [
        LayerConfig(count=2, state_size=4, ffn=1.0),
        LayerConfig(dynamics="lti", state_size=8, ffn=0.0),
    ]
    config = LanguageModelConfig(vocabulary=40, stack=StackConfig(width=32, layers=layers))
    model = LanguageModel(config)
    with torch.no_grad():
        model.embedding.weight.mul_(20)
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    return NativePieceLanguage(asdict(config), weights, fingerprint=1)


@BUILT
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("coded", [False, True])
@pytest.mark.parametrize("neural", [False, True])
def test_the_native_search_is_the_one_in_python_to_the_bit(
    seed: int, coded: bool, neural: bool, tmp_path: Path
) -> None:
    model = large_model()
    if coded:  # as one that was read from a file
        model.save(tmp_path / "pieces.ngram")
        model = NgramModel.load(tmp_path / "pieces.ngram")
    config = BeamConfig(
        weight=0.5, neural_weight=0.6, piece_bonus=0.3, beam=16, candidates=8, margin=9.0
    )
    language = neural_model() if neural else None
    one, other = (kind(model, STARTS, config, language) for kind in (BeamSearch, NativeSearch))
    draw = np.random.default_rng(seed)
    for t in range(150):
        logits = draw.standard_normal(40) * 3
        row = logits - np.log(np.exp(logits).sum())
        act = draw.integers(12)
        for search in (one, other):
            if act == 0:
                search.rest()
            search.step(row, t)
            path = search.path()
            if act == 1 and path:
                search.keep_only(path[len(path) // 2].depth)
            before = [heard.depth for heard in path if heard.depth < search.shared]
            if act == 2 and before:
                search.settle(before[-1])
            if act == 3 and t % 5 == 0:
                search.restart()
            if act == 4:
                search.load(json.loads(json.dumps(search.state())))
        assert one.path() == other.path()
        assert one.state() == other.state()
        assert (one.shared, one.last_heard, one.empty) == (
            other.shared,
            other.last_heard,
            other.empty,
        )


@BUILT
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("nodes", [[0, 1, 0, 0, 0.0]]),
        ("nodes", [[-1, 99, 0, 0, 0.0]]),
        ("tips", [7]),
        ("tips", []),
        ("said", [40]),
    ],
)
def test_a_state_that_points_nowhere_is_refused(key: str, value: list[object]) -> None:
    search = NativeSearch(large_model(), STARTS, BeamConfig())
    with pytest.raises(ValueError, match="search|zip"):  # StateError is one
        search.load(search.state() | {key: value})


def test_a_stream_gets_the_native_search_where_it_is_built() -> None:
    kind = NativeSearch if native.why_not() is None else BeamSearch
    assert isinstance(make_search(large_model(), STARTS, BeamConfig()), kind)
