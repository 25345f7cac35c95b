"""An export made ready to ship."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from audiomamba.config import to_mapping
from audiomamba.errors import ConfigError, ModelError
from audiomamba.models.checkpoint import load_weights, save_weights
from audiomamba.models.transcriber import Transcriber, TranscriberConfig
from audiomamba.nn import LayerConfig, StackConfig
from audiomamba.training.release import main, release


@pytest.fixture
def export(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    stack = StackConfig(width=64, layers=[LayerConfig(dynamics="lti", count=2, state_size=4)])
    config = TranscriberConfig(stack=stack, inter_layer=0, phone_layer=0, vocabulary=8)
    folder = tmp_path / "export"
    save_weights(folder, Transcriber(config).state_dict())
    described = {"kind": "transcriber", "model": to_mapping(config)}
    (folder / "config.json").write_text(json.dumps(described))
    (folder / "pieces.ngram").write_bytes(b"pieces")
    return folder


def test_the_blank_is_cheaper_by_the_penalty_and_nothing_else_moves(
    export: Path, tmp_path: Path
) -> None:
    release(export, tmp_path / "out", storage="float32", blank_penalty=1.5)
    before, after = load_weights(export), load_weights(tmp_path / "out")
    moved = after["out.bias"] - before["out.bias"]
    torch.testing.assert_close(moved, torch.tensor([-1.5] + [0.0] * 7))
    assert all(torch.equal(before[name], after[name]) for name in before if name != "out.bias")


def test_weights_are_mixed_by_the_share(export: Path, tmp_path: Path) -> None:
    other, out = tmp_path / "other", tmp_path / "out"
    shutil.copytree(export, other)
    before = load_weights(export)
    for old in other.glob("model*"):
        old.unlink()
    save_weights(other, {name: tensor + 1 for name, tensor in before.items()})
    arguments = ["--storage", "float32", "--average", str(other), "--share", "0.25"]
    main([str(export), str(out), *arguments])
    for name, tensor in load_weights(out).items():
        torch.testing.assert_close(tensor, before[name] + 0.25, rtol=0, atol=1e-2)


def test_endpoint_outputs_are_no_part_of_a_mixture(export: Path, tmp_path: Path) -> None:
    before = load_weights(export)
    ends = {"ends.weight": torch.ones(2, 64), "ends.bias": torch.ones(2)}
    for name, extra in (("with", ends), ("without", {})):
        shutil.copytree(export, tmp_path / name)
        for old in (tmp_path / name).glob("model*"):
            old.unlink()
        save_weights(tmp_path / name, before | extra)
    for source, other, kept in (("with", "without", True), ("without", "with", False)):
        out = tmp_path / f"out-{source}"
        release(tmp_path / source, out, storage="float32", other=tmp_path / other, share=0.5)
        after = load_weights(out)
        assert after.keys() == before.keys() | (ends.keys() if kept else set())
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_weights_of_another_shape_are_refused(export: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(export, other)
    weights = load_weights(export)
    weights["out.bias"] = weights["out.bias"][:-1].clone()
    for old in other.glob("model*"):
        old.unlink()
    save_weights(other, weights)
    with pytest.raises(ModelError, match=r"another shape: out\.bias"):
        release(export, tmp_path / "out", other=other, share=0.1)
    with pytest.raises(ConfigError, match="share"):
        release(export, tmp_path / "out", other=export, share=1.5)


def test_matrices_are_smaller_and_the_other_files_come_along(
    export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "model-00001.safetensors").write_bytes(b"of an earlier export")
    (out / "README.md").write_text("its card")
    (export / "language").mkdir()
    (export / "language" / "model.safetensors").write_bytes(b"of its language model")
    main([str(export), str(out)])
    assert "MB" in capsys.readouterr().out
    assert sorted(file.name for file in out.iterdir()) == [
        "README.md", "config.json", "language", "model.safetensors", "pieces.ngram",
    ]  # fmt: skip
    language = (out / "language" / "model.safetensors").read_bytes()
    assert language == b"of its language model"
    assert (out / "model.safetensors").stat().st_size < (
        0.7 * (export / "model.safetensors").stat().st_size
    )
    before, after = load_weights(export), load_weights(out)
    assert before.keys() == after.keys()
    for name in before:
        bound = before[name].abs().max().item() / 127
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=bound)


def test_a_folder_is_not_written_over_itself_and_sound_has_no_blank(
    export: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="itself"):
        release(export, export)
    with pytest.raises(ConfigError, match="must be a number"):
        release(export, tmp_path / "out", blank_penalty=float("nan"))
    (export / "config.json").write_text('{"kind": "wave"}')
    with pytest.raises(ModelError, match="no transcriber"):
        release(export, tmp_path / "out", blank_penalty=1.0)
    assert not (tmp_path / "out").exists()
