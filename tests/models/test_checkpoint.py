"""Weights come back as they were stored."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from audiomamba.errors import ModelError
from audiomamba.models.checkpoint import Storage, fill, load_weights, quantize_rows, save_weights
from audiomamba.models.checkpoint_files import read_config, read_weights, write_config

torch.manual_seed(0)
WEIGHTS = {
    "linear.weight": torch.randn(64, 128),
    "linear.bias": torch.randn(64),
    "conv_weight": torch.randn(64, 4),
    "A_log": torch.randn(64, 128),
}


@pytest.mark.parametrize(("storage", "bound"), [("float32", 0.0), ("bf16", 2**-8), ("int8", 0.02)])
def test_linear_maps_keep_their_precision_and_the_rest_all_of_it(
    tmp_path: Path, storage: Storage, bound: float
) -> None:
    save_weights(tmp_path, WEIGHTS, storage=storage)
    loaded = load_weights(tmp_path)
    assert set(loaded) == set(WEIGHTS)
    for name, want in WEIGHTS.items():
        error = (loaded[name] - want).norm() / want.norm()
        assert error <= (bound if name == "linear.weight" else 0.0)


def test_int8_takes_a_quarter_of_the_bytes(tmp_path: Path) -> None:
    sizes = {}
    for storage in ("float32", "int8"):
        save_weights(tmp_path / storage, {"w.weight": torch.randn(512, 512)}, storage=storage)
        sizes[storage] = (tmp_path / storage / "model.safetensors").stat().st_size
    assert sizes["int8"] < 0.27 * sizes["float32"]


def test_rounding_is_at_most_half_a_step() -> None:
    weight = torch.randn(8, 100)
    rounded, scale = quantize_rows(weight)
    assert ((rounded * scale[:, None] - weight).abs() <= scale[:, None] / 2 + 1e-7).all()


def test_parts_are_joined(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.ones(2)}, tmp_path / "model-00001.safetensors")
    save_file({"b": torch.zeros(3)}, tmp_path / "model-00002.safetensors")
    weights = read_weights(tmp_path)
    np.testing.assert_array_equal(weights["a"], 1.0)
    np.testing.assert_array_equal(weights["b"], 0.0)


def test_what_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="config.json is missing"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match="not JSON"):
        read_config(tmp_path)
    with pytest.raises(ModelError, match="model.safetensors is missing"):
        read_weights(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 30)
    with pytest.raises(ModelError, match="damaged"):
        read_weights(tmp_path)


def test_a_config_comes_back(tmp_path: Path) -> None:
    write_config(tmp_path / "new", {"kind": "transcriber"})
    assert read_config(tmp_path / "new") == {"kind": "transcriber"}
    assert json.loads((tmp_path / "new" / "config.json").read_text())["kind"] == "transcriber"


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    linear = torch.nn.Linear(4, 3)
    save_weights(tmp_path, linear.state_dict())
    filled = fill(torch.nn.Linear(4, 3), tmp_path)
    assert torch.equal(filled.weight, linear.weight) and not filled.training
    with pytest.raises(ModelError, match="size mismatch for weight"):
        fill(torch.nn.Linear(5, 3), tmp_path)
    with pytest.raises(ModelError, match=r"left over \['bias'\]"):
        fill(torch.nn.Linear(4, 3, bias=False), tmp_path)
