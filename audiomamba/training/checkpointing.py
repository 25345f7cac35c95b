"""What a run leaves behind: ``last/``, everything to go on with, and ``export/``, a checkpoint.

``last/`` is replaced as a whole, so that a run killed while saving still has the one before.
``export/`` holds the averaged weights in bf16 and is a folder that ``audiomamba.load`` takes.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from audiomamba.errors import ConfigError, ModelError
from audiomamba.models.checkpoint import load_weights
from audiomamba.models.checkpoint_files import read_config, write_config
from audiomamba.training.averaging import Average
from audiomamba.training.optimizers import Optimizer
from audiomamba.training.shards import read_shards, write_shards

__all__ = ["Progress", "load_export", "load_last", "resume_folder", "save_export", "save_last"]

_LAST, _PROGRESS = "last", "progress.json"
_ENDS = "ends."  # of a transcriber's weights
_SMALL = 4096  # elements; smaller matrices stay float32


@dataclass(kw_only=True, slots=True)
class Progress:
    """How far a run has come, over all its sessions."""

    step: int = 0  # optimiser steps done; the next batch is that of this number
    audio_s: float = 0.0  # audio trained on, augmented copies counted, padding not
    elapsed_s: float = 0.0  # wall time


def save_last(
    out: Path,
    model: nn.Module,
    average: Average,
    optimizer: Optimizer,
    progress: Progress,
    config: dict[str, Any],
) -> None:
    """Write ``out/last``; it replaces the one before only when it is whole."""
    fresh, last = out / f"{_LAST}.new", out / _LAST
    shutil.rmtree(fresh, ignore_errors=True)
    write_shards(fresh, "weights", model.state_dict())
    write_shards(fresh, "average", average.weights)
    write_shards(fresh, "optimizer", optimizer.state())
    write_shards(fresh, "random", _random_state())
    counters = {
        "step": progress.step,
        "audio_s": progress.audio_s,
        "elapsed_s": progress.elapsed_s,
        "average_updates": average.updates,
    }
    (fresh / "config.json").write_text(json.dumps(config, indent=2))
    (fresh / _PROGRESS).write_text(json.dumps(counters, indent=1))
    shutil.rmtree(last, ignore_errors=True)
    os.replace(fresh, last)


def load_last(folder: Path, model: nn.Module, average: Average, optimizer: Optimizer) -> Progress:
    """Go on exactly from ``folder``, a ``last/``.

    Raises:
        ModelError: a file is missing or damaged, or the model or the optimiser is another.
    """
    try:
        counters = json.loads((folder / _PROGRESS).read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: cannot be resumed ({error})") from None
    _load_weights(folder, model, read_shards(folder, "weights"))
    average.load(read_shards(folder, "average"), counters.pop("average_updates"))
    try:
        optimizer.load(read_shards(folder, "optimizer"))
    except KeyError as error:
        raise ModelError(
            f"{folder}: its optimiser is of another kind (no {error}); "
            "give the export to start a new one from its weights"
        ) from None
    _set_random_state(read_shards(folder, "random"))
    return Progress(**counters)


def save_export(
    out: Path,
    model: nn.Module,
    average: Average,
    description: dict[str, Any],
    files: dict[str, bytes],
) -> Path:
    """Write ``out/export``: averaged weights in bf16, ``config.json`` and ``files`` by name."""
    fresh, export = out / "export.new", out / "export"
    shutil.rmtree(fresh, ignore_errors=True)
    weights = {**model.state_dict(), **average.weights}
    write_shards(fresh, "model", {name: _stored(name, t) for name, t in weights.items()})
    write_config(fresh, description)
    for name, contents in files.items():
        (fresh / name).parent.mkdir(exist_ok=True)  # a model inside the model
        (fresh / name).write_bytes(contents)
    shutil.rmtree(export, ignore_errors=True)
    os.replace(fresh, export)
    return export


def load_export(folder: Path, model: nn.Module, average: Average) -> None:
    """Take the weights of a checkpoint folder, bf16, int8 or float32; all else starts anew.

    Raises:
        ModelError: it is no checkpoint, or of another shape.
    """
    read_config(folder)
    # A stack that looks ahead can be grown from one that does not: it begins as a delay.
    own = model.state_dict()
    ahead = {name: t for name, t in own.items() if ".ahead." in name}
    # Endpoint outputs belong to the encoder as it was: a run that changes it leaves them behind.
    taken = {n: t for n, t in load_weights(folder).items() if n in own or not n.startswith(_ENDS)}
    _load_weights(folder, model, {**ahead, **taken})
    average.load({name: p.detach() for name, p in model.named_parameters()}, 0)


def resume_folder(resume: str, out: Path) -> Path | None:
    """The folder that ``train.resume`` means; None for a fresh run.

    Raises:
        ConfigError: a fresh run would overwrite an older one, or there is nothing to go on from.
    """
    if not resume:
        if (out / _LAST).exists():
            raise ConfigError(
                f"train.out: {out} holds a run; go on with train.resume=last, or name another"
            )
        return None
    given = out if resume == _LAST else Path(resume)
    for folder in (given / _LAST, given / "export", given):
        if (folder / "config.json").exists():
            return folder
    raise ConfigError(f"train.resume: {given} holds neither a run nor a checkpoint")


def is_last(folder: Path) -> bool:
    """Whether ``folder`` holds a full state and not just weights."""
    return (folder / _PROGRESS).exists()


def _load_weights(folder: Path, model: nn.Module, weights: dict[str, Tensor]) -> None:
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise ModelError(
            f"{folder}: is of another shape than the model asked for: {first}"
        ) from None


def _stored(name: str, tensor: Tensor) -> Tensor:
    """Maps in bf16; decays, step sizes and whatever is small as it is."""
    matrix = name.endswith(".weight") and tensor.dim() == 2 and tensor.numel() >= _SMALL
    return tensor.to(torch.bfloat16) if matrix and tensor.is_floating_point() else tensor


def _random_state() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    return states | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def _set_random_state(states: dict[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
