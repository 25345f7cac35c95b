"""The neural language model of a search: one folder, two engines, any company in a batch."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from audiomamba.errors import ModelError
from audiomamba.kernels import native
from audiomamba.models.checkpoint import save_weights
from audiomamba.models.checkpoint_files import write_config
from audiomamba.models.language import LanguageModel, LanguageModelConfig
from audiomamba.models.piece_language import load_piece_language
from audiomamba.models.torch_piece_language import TorchPieceLanguage
from audiomamba.nn import Dynamics, LayerConfig, StackConfig
from audiomamba.text.beam import PieceLanguage

BUILT = pytest.mark.skipif(native.why_not() is not None, reason=f"native: {native.why_not()}")
V = 24


def saved(
    folder: Path, dynamics: Dynamics = "selective", width: int = 32, tied: bool = True
) -> Path:
    torch.manual_seed(1)
    layers = [LayerConfig(dynamics=dynamics, count=2, state_size=4, ffn=1.5, head_width=16)]
    stack = StackConfig(width=width, layers=layers)
    config = LanguageModelConfig(vocabulary=V, tie_embeddings=tied, stack=stack)
    model = LanguageModel(config)
    with torch.no_grad():
        model.embedding.weight.mul_(20)  # so that pieces differ
    save_weights(folder, model.state_dict())
    write_config(folder, {"kind": "language", "model": asdict(config)})
    return folder


def read(model: PieceLanguage, text: list[int]) -> np.ndarray:
    state = model.init_state(1)
    return np.stack([model.next(np.array([piece]), state)[0] for piece in text])


@BUILT
def test_both_engines_know_the_same(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    engine = load_piece_language(folder, V)
    assert engine.native is not None
    text = np.random.default_rng(0).integers(0, V, 40).tolist()
    expected = read(TorchPieceLanguage.from_folder(folder, 0), text)
    assert np.ptp(expected, axis=1).mean() > 1.0  # else any two would agree
    np.testing.assert_allclose(read(engine, text), expected, atol=0.1)


@BUILT
def test_a_text_comes_out_the_same_whatever_is_beside_it(tmp_path: Path) -> None:
    model = load_piece_language(saved(tmp_path), V)
    texts = np.random.default_rng(2).integers(0, V, (7, 12))
    states = model.init_state(7)
    together = np.stack([model.next(pieces, states) for pieces in texts.T], 1)
    for row, text in zip(together, texts, strict=True):
        np.testing.assert_array_equal(row, read(model, text.tolist()))


@pytest.mark.parametrize(
    ("dynamics", "tied"), [("ssd", True), ("mamba3", True), ("selective", False)]
)
def test_what_the_engine_does_not_run_torch_does(
    tmp_path: Path, dynamics: Dynamics, tied: bool
) -> None:
    model = load_piece_language(saved(tmp_path, dynamics, tied=tied), V)
    assert model.native is None
    states = model.init_state(3)
    log_probs = model.next(np.array([1, 2, 1]), states)
    np.testing.assert_allclose(np.exp(log_probs).sum(1), 1.0, rtol=1e-4)
    np.testing.assert_allclose(log_probs[0], log_probs[2], rtol=1e-5)


def test_a_model_of_other_pieces_or_another_kind_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    with pytest.raises(ModelError, match="over 24 pieces, the transcriber has 512"):
        load_piece_language(folder, 512)
    write_config(folder, {"kind": "wave"})
    with pytest.raises(ModelError, match="wants a language model"):
        load_piece_language(folder, V)
    write_config(folder, {"kind": "language", "model": {"vocabulary": V}})
    with pytest.raises(ModelError, match="damaged"):
        load_piece_language(folder, V)


@BUILT
def test_a_size_that_the_engine_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="multiple"):
        load_piece_language(saved(tmp_path, width=24), V)
