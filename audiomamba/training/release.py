"""From a run's export to the checkpoint that ships: small, with the blank at its right price::

    python -m audiomamba.training.release runs/listen/export OUT --blank-penalty 1.5

Matrices become int8; the other files are taken along. A transcriber that was taught by two views
of each row (``train.loss.consistency``) spreads its probability, so that the blank wins frames in
which several pieces together are likelier, and words are left out. ``--blank-penalty`` takes so
many nats from the blank's bias: a constant that ships in the weights, so that every decoder and
engine has it. ``--average OTHER --share S`` mixes in the weights of a checkpoint that the run went
on from: the mean of both hears strangers better than either (WiSE-FT: Wortsman et al., "Robust
fine-tuning of zero-shot models", 2022, section 3). What is fitted to a checkpoint (times,
confidences, the language model's weight) is fitted after it. So are endpoint outputs
(``experiment=ends``), which join a checkpoint that is ready::

    python -m audiomamba.training.release listen-en OUT --ends runs/ends/export

Its other weights stay as they are, to the bit, and so does what it hears.
"""

import argparse
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from audiomamba.errors import ConfigError, ModelError
from audiomamba.models.checkpoint import Storage, load_weights, save_weights
from audiomamba.models.checkpoint_files import read_config, read_weights, write_config
from audiomamba.models.registry import find
from audiomamba.text.vocabulary import BLANK

__all__ = ["add_ends", "main", "release"]

_BIAS = "out.bias"
_ENDS = ("ends.weight", "ends.bias")


def release(
    source: Path,
    out: Path,
    *,
    storage: Storage = "int8",
    blank_penalty: float = 0.0,
    other: Path | None = None,
    share: float = 0.0,
) -> None:
    """Write the checkpoint ``source`` anew into the folder ``out``, which may exist.

    Args:
        source: A checkpoint; left as it is.
        out: Another folder; its weights are replaced, files that ``source`` lacks stay.
        storage: Of the matrices.
        blank_penalty: Nats less for the blank of a transcriber's last head.
        other: A checkpoint of the same shape, which makes ``share`` of the weights.
        share: 0..1.

    Raises:
        ConfigError: ``out`` is ``source``, the penalty is no number or the share not in 0..1.
        ModelError: A checkpoint is damaged, ``source`` has no blank to be cheaper, or ``other``
            is of another shape.
    """
    if out.resolve() == source.resolve():
        raise ConfigError(f"release: {out} is the checkpoint itself; name another folder")
    if not math.isfinite(blank_penalty):
        raise ConfigError(f"release: the blank's penalty must be a number, got {blank_penalty}")
    if not 0 <= share <= 1:
        raise ConfigError(f"release: the share must be in 0..1, got {share}")
    kind = read_config(source).get("kind")
    weights = load_weights(source)
    ends = {name: weights.pop(name) for name in _ENDS if name in weights}
    if other is not None:
        weights = _mixed(weights, load_weights(other), share, other)
    if blank_penalty:
        if kind != "transcriber":
            raise ModelError(f"release: {source} is no transcriber, it has no blank")
        weights[_BIAS] = weights[_BIAS].clone()
        weights[_BIAS][BLANK] -= blank_penalty
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("model*"):
        old.unlink()
    save_weights(out, weights | ends, storage=storage)
    _take_along(source, out)


def add_ends(source: Path, ends: Path, out: Path) -> None:
    """Write the checkpoint ``source`` anew into the folder ``out``, with endpoint outputs.

    Args:
        source: A transcriber; left as it is.
        ends: The export of a run of ``experiment=ends`` over its frames.
        out: Another folder.

    Raises:
        ConfigError: ``out`` is ``source``.
        ModelError: one of them is damaged, of another kind, or they do not fit.
    """
    from safetensors import safe_open
    from safetensors.torch import save_file

    if out.resolve() == source.resolve():
        raise ConfigError(f"release: {out} is the checkpoint itself; name another folder")
    config, given = read_config(source), read_config(ends)
    if config.get("kind") != "transcriber" or given.get("kind") != "ends":
        kinds = f"{config.get('kind')!r} and {given.get('kind')!r}"
        raise ModelError(f"release: wants kinds 'transcriber' and 'ends', got {kinds}")
    if given["model"]["width"] != config["model"]["stack"]["width"]:
        raise ModelError(f"release: {ends} is over frames of another width than {source}'s")
    read_weights(source)  # says in one line what is damaged
    weights: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    for part in sorted(source.glob("model*.safetensors")):
        with safe_open(part, "pt") as stored:
            weights |= {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            metadata |= stored.metadata() or {}
    weights |= {name: load_weights(ends)[name].contiguous() for name in _ENDS}
    horizons = given["model"]["horizons_s"]
    model = {**config["model"], "ends": horizons}
    if model.get("endpoint") and model["endpoint"]["output"] >= len(horizons):
        model["endpoint"] = None
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("model*"):
        old.unlink()
    save_file(weights, out / "model.safetensors", metadata=metadata)
    _take_along(source, out)
    write_config(out, {**config, "model": model})


def _take_along(source: Path, out: Path) -> None:
    """Copy what is not weights."""
    out.mkdir(parents=True, exist_ok=True)
    for file in source.rglob("*"):
        beside = out / file.relative_to(source)
        if file.is_file() and not (file.parent == source and file.name.startswith("model")):
            beside.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, beside)
    for file in _files(out):
        file.chmod(0o644)


def _files(folder: Path) -> list[Path]:
    """All files, those of a language model in a folder of its own too."""
    return [file for file in folder.rglob("*") if file.is_file()]


def _mixed(
    weights: dict[str, Tensor], others: dict[str, Tensor], share: float, other: Path
) -> dict[str, Tensor]:
    """``share`` of ``others`` and the rest of ``weights``, by name."""
    others = {name: tensor for name, tensor in others.items() if name not in _ENDS}
    for name in sorted(weights.keys() | others.keys()):
        one, two = weights.get(name), others.get(name)
        if one is None or two is None or one.shape != two.shape:
            raise ModelError(f"release: {other} is of another shape: {name} differs")
    return {
        name: ((1 - share) * one.float() + share * others[name].float()).to(one.dtype)
        for name, one in weights.items()
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the module's docstring."""
    parser = argparse.ArgumentParser(
        prog="python -m audiomamba.training.release", description="make an export ready to ship"
    )
    parser.add_argument("source", help="export of a run, or the name of a model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--storage", choices=("int8", "bf16", "float32"), default="int8")
    parser.add_argument("--blank-penalty", type=float, default=0.0, metavar="NATS")
    parser.add_argument("--average", type=Path, metavar="OTHER", help="another checkpoint")
    parser.add_argument("--share", type=float, default=0.0, help="of OTHER in the weights")
    parser.add_argument("--ends", type=Path, help="add these endpoint outputs, and change no more")
    given = parser.parse_args(arguments)
    source = find(given.source)
    if given.ends is not None:
        add_ends(source, given.ends, given.out)
    else:
        release(
            source, given.out, storage=given.storage, blank_penalty=given.blank_penalty,
            other=given.average, share=given.share,
        )  # fmt: skip
    size = sum(file.stat().st_size for file in _files(given.out))
    print(f"{given.out}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
