"""Weights from an int8 graph."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audiomamba.errors import ModelError
from audiomamba.training.speech.weights import convert, load_weights, pack

onnx = pytest.importorskip("onnx", reason="converting wants onnx")

rng = np.random.default_rng(0)


def graph(values: dict[str, Any], nodes: list[object]) -> bytes:
    values["onnx::MatMul_6993"] = rng.standard_normal((9, 1)).astype(np.float32)
    tensors = [onnx.numpy_helper.from_array(value, name) for name, value in values.items()]
    made = onnx.helper.make_graph(nodes, "voice", [], [], initializer=tensors)
    content: bytes = onnx.helper.make_model(made).SerializeToString()
    return content


def linear(zero: int) -> tuple[bytes, np.ndarray]:
    weight = rng.integers(-100, 100, (6, 4)).astype(np.int8)
    scale = rng.random(4).astype(np.float32)
    nodes = [
        onnx.helper.make_node(
            "MatMulInteger", ["x", "w", "xz", "z"], ["y"], name="/encoder/bert_encoder/MatMul_quant"
        ),
        onnx.helper.make_node(
            "Mul", ["xs", "s"], ["t"], name="/encoder/bert_encoder/MatMul_quant_scales_mul"
        ),
    ]
    values = {"w": weight, "z": np.full(4, zero, np.int8), "s": scale}
    return graph(values, nodes), (weight.astype(np.float32) - zero) * scale


def test_a_linear_layer_comes_back_transposed_and_scaled(tmp_path: Path) -> None:
    content, wanted = linear(zero=3)
    pack(convert(content), tmp_path / "voice.safetensors.z")
    found = load_weights(tmp_path / "voice.safetensors.z")["bert_encoder.weight"]
    torch.testing.assert_close(found, torch.from_numpy(wanted.T.copy()))


def test_a_weight_that_does_not_fit_int8_is_refused() -> None:
    content, _ = linear(zero=-120)
    with pytest.raises(ModelError, match=r"bert_encoder\.weight"):
        convert(content)


def test_the_gates_of_an_lstm_are_put_into_torchs_order() -> None:
    gates = np.repeat(np.arange(4, dtype=np.int8), 256)  # input, output, forget, cell
    scale, zero = np.ones(2, np.float32), np.zeros(2, np.int8)
    values = {
        "w": np.broadcast_to(gates, (2, 5, 1024)).copy(),
        "r": np.broadcast_to(gates, (2, 256, 1024)).copy(),
        "b": np.tile(gates.astype(np.float32), (2, 2)),
        "ws": scale, "wz": zero, "rs": scale, "rz": zero,
    }  # fmt: skip
    names = ["x", "w", "r", "b", "", "", "", "", "ws", "wz", "rs", "rz"]
    name = "/encoder/predictor/lstm/LSTM_quant"
    node = onnx.helper.make_node("DynamicQuantizeLSTM", names, ["y"], name=name)
    arrays = convert(graph(values, [node]))
    for key in ("weight_ih_l0", "weight_hh_l0_reverse"):
        column = arrays[f"predictor.lstm.{key}"][:, 0]
        assert column[::256].tolist() == [0, 2, 3, 1]
    assert arrays["predictor.lstm.bias_hh_l0"][::256].tolist() == [0, 2, 3, 1]


def test_small_and_large_floats_survive_packing(tmp_path: Path) -> None:
    values = {
        "decoder.decoder.encode.norm1.fc.bias": rng.standard_normal(7).astype(np.float32),
        "encoder.predictor.x.weight": rng.standard_normal((60, 60)).astype(np.float32),
    }
    pack(convert(graph(dict(values), [])), tmp_path / "voice.safetensors.z")
    found = load_weights(tmp_path / "voice.safetensors.z")
    small, large = values.values()
    np.testing.assert_array_equal(found["decoder.encode.norm1.fc.bias"].numpy(), small)
    np.testing.assert_allclose(found["predictor.x.weight"].numpy(), large, rtol=1e-3, atol=1e-6)
