"""What was fitted to a checkpoint is not lost by training on."""

import json
from pathlib import Path
from typing import Any

import torch

from audiomamba.training.averaging import Average
from audiomamba.training.checkpointing import save_export
from audiomamba.training.inheritance import Inheritance

MODEL = {
    "width": 8,
    "start_delay_s": 0.0,
    "emission_delay_s": 0.0,
    "confidence_scale": 1.0,
}
OWN = {"kind": "transcriber", "model": MODEL, "training": {"step": 9}}


def checkpoint(folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True)
    config = {
        "kind": "transcriber",
        "licence": "Apache-2.0",
        "model": {**MODEL, "start_delay_s": 0.23, "confidence_scale": 0.5},
        "language_model": {"file": "pieces.ngram", "weight": 0.4},
        "training": {"step": 5},
        **changes,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.model").write_bytes(b"pieces")
    (folder / "pieces.ngram").write_bytes(b"ngrams")
    return folder


def test_the_language_model_and_what_was_measured_go_on(tmp_path: Path) -> None:
    inherited = Inheritance.of(checkpoint(tmp_path / "a"))
    (tmp_path / "t").write_bytes(b"pieces")
    config, files = inherited.onto(OWN, {"tokenizer.model": tmp_path / "t"})
    assert config["language_model"] == {"file": "pieces.ngram", "weight": 0.4}
    assert config["model"] == {**MODEL, "start_delay_s": 0.23, "confidence_scale": 0.5}
    assert (config["licence"], config["training"]) == ("Apache-2.0", {"step": 9})
    assert files == {"tokenizer.model": b"pieces", "pieces.ngram": b"ngrams"}


def test_a_neural_language_model_goes_on_too(tmp_path: Path) -> None:
    spec = {"file": "pieces.ngram", "neural": "language", "neural_weight": 0.3}
    folder = checkpoint(tmp_path / "a", language_model=spec)
    (folder / "language").mkdir()
    (folder / "language" / "config.json").write_bytes(b"{}")
    config, files = Inheritance.of(folder).onto(OWN, {})
    assert config["language_model"] == spec
    assert files["language/config.json"] == b"{}"
    model = torch.nn.Linear(2, 2)
    export = save_export(tmp_path / "run", model, Average(model, 0.9), config, files)
    assert (export / "language" / "config.json").read_bytes() == b"{}"


def test_what_the_run_says_itself_goes_first(tmp_path: Path) -> None:
    own = {**OWN, "model": {**MODEL, "start_delay_s": 0.1}, "licence": "MIT"}
    config, _ = Inheritance.of(checkpoint(tmp_path / "a")).onto(own, {})
    assert (config["model"]["start_delay_s"], config["licence"]) == (0.1, "MIT")
    assert config["model"]["confidence_scale"] == 0.5


def test_another_tokenizer_s_language_model_stays_behind(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(b"other pieces")
    inherited = Inheritance.of(checkpoint(tmp_path / "a"))
    config, files = inherited.onto(OWN, {"tokenizer.model": tmp_path / "t"})
    assert "language_model" not in config and files == {"tokenizer.model": b"other pieces"}
    assert config["model"]["start_delay_s"] == 0.23


def test_a_run_that_goes_on_takes_it_from_its_own_export(tmp_path: Path) -> None:
    checkpoint(tmp_path / "export")
    last = tmp_path / "last"
    last.mkdir()
    (last / "config.json").write_text("{}")
    assert Inheritance.of(last).files["pieces.ngram"] == b"ngrams"


def test_a_fresh_run_inherits_nothing(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(b"pieces")
    assert Inheritance.of(None).onto(OWN, {"tokenizer.model": tmp_path / "t"}) == (
        OWN,
        {"tokenizer.model": b"pieces"},
    )
