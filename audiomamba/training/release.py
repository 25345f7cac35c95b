"""From a run's export to the checkpoint that ships: small, with the blank at its right price::

    python -m audiomamba.training.release runs/listen/export OUT --blank-penalty 1.5

Matrices become int8; the other files are taken along. A transcriber that was taught by two views
of each row (``train.loss.consistency``) spreads its probability, so that the blank wins frames in
which several pieces together are likelier, and words are left out. ``--blank-penalty`` takes so
many nats from the blank's bias: a constant that ships in the weights, so that every decoder and
engine has it. What is fitted to a checkpoint (times, confidences, the language model's
weight) is fitted after it.
"""

import argparse
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

from audiomamba.errors import ConfigError, ModelError
from audiomamba.models.checkpoint import Storage, load_weights, save_weights
from audiomamba.models.checkpoint_files import read_config
from audiomamba.text.vocabulary import BLANK

__all__ = ["main", "release"]

_BIAS = "out.bias"


def release(
    source: Path, out: Path, *, storage: Storage = "int8", blank_penalty: float = 0.0
) -> None:
    """Write the checkpoint ``source`` anew into the folder ``out``, which may exist.

    Args:
        source: A checkpoint; left as it is.
        out: Another folder; its weights are replaced, files that ``source`` lacks stay.
        storage: Of the matrices.
        blank_penalty: Nats less for the blank of a transcriber's last head.

    Raises:
        ConfigError: ``out`` is ``source``, or the penalty is no number.
        ModelError: ``source`` is damaged, or has no blank to be cheaper.
    """
    if out.resolve() == source.resolve():
        raise ConfigError(f"release: {out} is the checkpoint itself; name another folder")
    if not math.isfinite(blank_penalty):
        raise ConfigError(f"release: the blank's penalty must be a number, got {blank_penalty}")
    kind = read_config(source).get("kind")
    weights = load_weights(source)
    if blank_penalty:
        if kind != "transcriber":
            raise ModelError(f"release: {source} is no transcriber, it has no blank")
        weights[_BIAS] = weights[_BIAS].clone()
        weights[_BIAS][BLANK] -= blank_penalty
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("model*"):
        old.unlink()
    save_weights(out, weights, storage=storage)
    for file in source.iterdir():
        if file.is_file() and not file.name.startswith("model"):
            shutil.copyfile(file, out / file.name)
    for file in out.iterdir():
        file.chmod(0o644)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the module's docstring."""
    parser = argparse.ArgumentParser(
        prog="python -m audiomamba.training.release", description="make an export ready to ship"
    )
    parser.add_argument("source", type=Path, help="export of a run")
    parser.add_argument("out", type=Path)
    parser.add_argument("--storage", choices=("int8", "bf16", "float32"), default="int8")
    parser.add_argument("--blank-penalty", type=float, default=0.0, metavar="NATS")
    given = parser.parse_args(arguments)
    release(given.source, given.out, storage=given.storage, blank_penalty=given.blank_penalty)
    size = sum(file.stat().st_size for file in given.out.iterdir())
    print(f"{given.out}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
