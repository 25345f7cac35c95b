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
        for name in ("mamba", "mamba2"):
            importlib.import_module(f"transformers.models.{name}.modeling_{name}")
    return module


SHAPE = {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2}
MAMBA = {"state_size": 8, "use_mambapy": False}
MAMBA_2 = {
    "state_size": 8,
    "head_dim": 16,
    "num_heads": 4,
    "n_groups": 2,
    "chunk_size": 8,
    "time_step_limit": (0.01, 0.9),
}


def _theirs(transformers: Any, kind: str, folder: Path) -> tuple[torch.nn.Module, Tensor]:
    """A model of Hugging Face's with random weights, saved to a folder, and tokens for it."""
    torch.manual_seed(0)
    if kind == "mamba":
        config = transformers.MambaConfig(**SHAPE, **MAMBA)
        model = transformers.MambaForCausalLM(config).eval()
    else:
        config = transformers.Mamba2Config(**SHAPE, **MAMBA_2)
        model = transformers.Mamba2ForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # its own start leaves many at zero
            parameter.add_(0.02 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model, torch.randint(0, 61, (2, 19))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["mamba", "mamba2"])
def test_hugging_faces_checkpoint_gives_the_same_logits(
    transformers: Any, tmp_path: Path, kind: str
) -> None:
    theirs, tokens = _theirs(transformers, kind, tmp_path)
    logits, _ = load_published(tmp_path)(tokens)
    assert relative_error(logits, theirs(tokens).logits) < 1e-5


SSM = {
    "mamba": {"d_state": 8},
    "mamba2": {
        "layer": "Mamba2",
        "d_state": 8,
        "headdim": 16,
        "ngroups": 2,
        "dt_limit": [0.01, 0.9],
    },
}


@torch.no_grad()
@pytest.mark.parametrize("kind", ["mamba", "mamba2"])
def test_state_spaces_checkpoint_gives_the_same_logits(
    transformers: Any, tmp_path: Path, kind: str
) -> None:
    theirs, tokens = _theirs(transformers, kind, tmp_path / "hf")
    weights = {
        name.replace("backbone.embeddings.", "backbone.embedding."): tensor
        for name, tensor in theirs.state_dict().items()
    }
    torch.save(weights, tmp_path / "pytorch_model.bin")
    config = {
        "d_model": 32,
        "n_layer": 2,
        "vocab_size": 61,
        "ssm_cfg": SSM[kind],
        "rms_norm": True,
        "residual_in_fp32": True,
        "fused_add_norm": True,
        "pad_vocab_size_multiple": 1,
        "tie_embeddings": kind == "mamba",
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    logits, _ = load_published(tmp_path)(tokens)
    assert relative_error(logits, theirs(tokens).logits) < 1e-5


def test_a_checkpoint_of_another_kind_is_refused(tmp_path: Path) -> None:
    for ssm, message in (
        ({"layer": "Mamba3"}, "Mamba-1 or Mamba-2"),
        ({"layer": "Mamba2", "rmsnorm": False}, "rmsnorm=False"),
    ):
        config = {"d_model": 8, "n_layer": 1, "vocab_size": 8, "ssm_cfg": ssm}
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(ModelError, match=message):
            load_published(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="neither"):
        load_published(tmp_path)
