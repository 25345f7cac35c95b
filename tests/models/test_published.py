"""Published Mamba checkpoints give the logits that their own code gives."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from audiomamba.errors import ModelError
from audiomamba.kernels.testing import relative_error
from audiomamba.models.published import load_published

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def transformers() -> Any:
    """The library. It looks for a distribution called ``kernels``, so the checkout's folder of that
    name must not lie on the path while it is imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [p for p in sys.path if Path(p or ".").resolve() != ROOT])
        module = pytest.importorskip("transformers")
        importlib.import_module("transformers.models.mamba.modeling_mamba")
    return module


def _hugging_face(transformers: Any, folder: Path) -> tuple[torch.nn.Module, Tensor]:
    torch.manual_seed(0)
    config = transformers.MambaConfig(
        vocab_size=61, hidden_size=32, num_hidden_layers=2, state_size=8, use_mambapy=False
    )
    model = transformers.MambaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # its own start leaves many at zero
            parameter.add_(0.02 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model, torch.randint(0, 61, (2, 19))


@torch.no_grad()
def test_hugging_faces_mamba_gives_the_same_logits(transformers: Any, tmp_path: Path) -> None:
    theirs, tokens = _hugging_face(transformers, tmp_path)
    ours = load_published(tmp_path)
    logits, _ = ours(tokens)
    assert relative_error(logits, theirs(tokens).logits) < 1e-5


@torch.no_grad()
def test_state_spaces_mamba_gives_the_same_logits(transformers: Any, tmp_path: Path) -> None:
    theirs, tokens = _hugging_face(transformers, tmp_path / "hf")
    weights = {
        name.replace("backbone.embeddings.", "backbone.embedding."): tensor
        for name, tensor in theirs.state_dict().items()
    }
    torch.save(weights, tmp_path / "pytorch_model.bin")
    config = {
        "d_model": 32,
        "n_layer": 2,
        "vocab_size": 61,
        "ssm_cfg": {"d_state": 8},
        "rms_norm": True,
        "residual_in_fp32": True,
        "fused_add_norm": True,
        "pad_vocab_size_multiple": 1,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    logits, _ = load_published(tmp_path)(tokens)
    assert relative_error(logits, theirs(tokens).logits) < 1e-5


def test_a_checkpoint_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps({"d_model": 8, "n_layer": 1, "vocab_size": 8, "ssm_cfg": {"layer": "Mamba2"}})
    )
    with pytest.raises(ModelError, match="Mamba-1"):
        load_published(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="neither"):
        load_published(tmp_path)
