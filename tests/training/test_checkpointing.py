"""What a run leaves behind."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from audiomamba.config import to_mapping
from audiomamba.errors import ConfigError, ModelError
from audiomamba.models.checkpoint import load_weights, save_weights
from audiomamba.models.checkpoint_files import read_config, write_config
from audiomamba.models.transcriber import Transcriber
from audiomamba.training.averaging import Average
from audiomamba.training.checkpointing import (
    Progress,
    is_last,
    load_export,
    load_last,
    resume_folder,
    save_export,
    save_last,
)
from audiomamba.training.config import OptimizerConfig
from audiomamba.training.optimizers import Optimizer

Make = Callable[..., Transcriber]
ADAMW, MUON = OptimizerConfig(), OptimizerConfig(kind="muon")


def stepped(model: Transcriber, config: OptimizerConfig = ADAMW) -> tuple[Average, Optimizer]:
    average, optimizer = Average(model, 0.9), Optimizer(model, config)
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    optimizer.step(1e-2)
    average.update()
    return average, optimizer


def saved(out: Path, model: Transcriber) -> tuple[Average, Optimizer]:
    average, optimizer = stepped(model)
    save_last(out, model, average, optimizer, Progress(step=7, audio_s=2.5), {"seed": 1})
    return average, optimizer


def test_the_full_state_comes_back(tmp_path: Path, tiny_model: Make) -> None:
    first = tiny_model()
    average, optimizer = saved(tmp_path, first)
    drawn = torch.rand(3)
    second = tiny_model()
    other_average, other_optimizer = stepped(second)
    progress = load_last(tmp_path / "last", second, other_average, other_optimizer)
    assert (progress.step, progress.audio_s, other_average.updates) == (7, 2.5, 1)
    assert torch.equal(torch.rand(3), drawn)
    pairs = [
        (first.state_dict(), second.state_dict()),
        (average.weights, other_average.weights),
        (optimizer.state(), other_optimizer.state()),
    ]
    for a, b in pairs:
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_second_save_replaces_the_first_as_a_whole(tmp_path: Path, tiny_model: Make) -> None:
    saved(tmp_path, tiny_model())
    (tmp_path / "last" / "stray").touch()
    saved(tmp_path, tiny_model())
    assert not (tmp_path / "last" / "stray").exists()
    assert not (tmp_path / "last.new").exists()


def test_another_optimiser_or_shape_is_refused(tmp_path: Path, tiny_model: Make) -> None:
    saved(tmp_path, tiny_model())
    model = tiny_model()
    with pytest.raises(ModelError, match="optimiser is of another kind"):
        load_last(tmp_path / "last", model, *stepped(model, MUON))
    other = tiny_model(phone=0)
    with pytest.raises(ModelError, match="another shape"):
        load_last(tmp_path / "last", other, *stepped(other))


def test_an_export_is_a_checkpoint_of_averaged_weights(tmp_path: Path, tiny_model: Make) -> None:
    model = tiny_model()
    average, _ = stepped(model)
    folder = save_export(
        tmp_path,
        model,
        average,
        {"kind": "transcriber", "model": to_mapping(model.config)},
        {"tokenizer.model": b"pieces"},
    )
    assert read_config(folder)["kind"] == "transcriber"
    assert (folder / "tokenizer.model").read_bytes() == b"pieces"
    weights = load_weights(folder)
    assert weights.keys() == model.state_dict().keys()
    for name, tensor in average.weights.items():
        torch.testing.assert_close(weights[name], tensor, atol=1e-2, rtol=1e-2)
    other = tiny_model()
    taken = Average(other, 0.9)
    load_export(folder, other, taken)
    assert torch.equal(other.out.weight, weights["out.weight"])
    assert torch.equal(taken.weights["out.weight"], weights["out.weight"])


def test_training_can_begin_from_int8_weights(tmp_path: Path, tiny_model: Make) -> None:
    model = tiny_model()
    write_config(tmp_path, {"kind": "transcriber", "model": to_mapping(model.config)})
    save_weights(tmp_path, model.state_dict(), storage="int8")
    other = tiny_model()
    load_export(tmp_path, other, Average(other, 0.9))
    torch.testing.assert_close(other.out.weight, model.out.weight, atol=5e-3, rtol=0)


def test_endpoint_outputs_stay_behind(tmp_path: Path, tiny_model: Make) -> None:
    other = tiny_model()
    with_ends = Transcriber(replace(other.config, ends=[0.3, 1.0]))
    write_config(tmp_path, {"kind": "transcriber", "model": to_mapping(with_ends.config)})
    save_weights(tmp_path, with_ends.state_dict())
    load_export(tmp_path, other, Average(other, 0.9))
    torch.testing.assert_close(other.out.weight, with_ends.out.weight)


def test_what_resume_means(tmp_path: Path, tiny_model: Make) -> None:
    assert resume_folder("", tmp_path) is None
    with pytest.raises(ConfigError, match="neither a run nor a checkpoint"):
        resume_folder("last", tmp_path)
    saved(tmp_path, tiny_model())
    assert resume_folder("last", tmp_path) == tmp_path / "last"
    assert resume_folder(str(tmp_path), tmp_path / "b") == tmp_path / "last"
    assert is_last(tmp_path / "last")
    with pytest.raises(ConfigError, match=r"go on with train\.resume=last"):
        resume_folder("", tmp_path)


@torch.no_grad()
def test_a_causal_checkpoint_grows_a_look_ahead(tmp_path: Path, tiny_model: Make) -> None:
    causal = tiny_model().eval()
    save_weights(tmp_path, causal.state_dict())
    write_config(tmp_path, {"kind": "transcriber", "model": to_mapping(causal.config)})
    config = replace(causal.config, stack=replace(causal.config.stack))
    config.stack.layers = [
        replace(layer, look_ahead=int(layer.dynamics == "selective"))
        for layer in config.stack.layers
    ]
    grown = Transcriber(config).eval()
    load_export(tmp_path, grown, Average(grown, 0.9))
    late = config.stack.delay
    assert late > 0
    features = torch.randn(1, 80, config.mel.bins)
    features[:, :40] = features[:, :1]  # long enough for both to have settled
    settled = 40 // 4 - late
    want, got = causal(features)[0].logits, grown(features)[0].logits
    assert (want[:, settled + late :] - want[:, settled:-late]).abs().max() > 0.2  # a delay shows
    torch.testing.assert_close(got[:, settled + late :], want[:, settled:-late], atol=0.05, rtol=0)
