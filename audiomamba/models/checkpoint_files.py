"""The files of a checkpoint folder, read without torch.

``config.json``, ``model.safetensors``, the vocabulary and a card. Matrices may be stored in bf16,
or in int8 with one float32 scale a row (``NAME.scale``); they are widened when read.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiomamba.errors import ModelError

__all__ = ["SCALE", "digest", "read_config", "read_weights", "write_config"]

SCALE = ".scale"
NUMPY = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "I8": np.int8}


def read_config(folder: Path) -> dict[str, Any]:
    """The mapping in ``config.json``.

    Raises:
        ModelError: there is none, or it is not JSON.
    """
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    except FileNotFoundError:
        raise ModelError(f"{folder}: not a checkpoint, config.json is missing") from None
    except json.JSONDecodeError as error:
        raise ModelError(f"{folder}/config.json: not JSON ({error})") from None
    return config


def digest(folder: Path) -> str:
    """Of a checkpoint's shape and weights: states of one checkpoint are no other's."""
    sha = hashlib.sha256()
    files = [folder / "config.json", *sorted(folder.glob("model*.safetensors"))]
    try:
        for file in files:
            sha.update(file.read_bytes())
    except OSError as error:
        raise ModelError(f"{folder}: cannot be read ({error})") from None
    return sha.hexdigest()


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Write ``config.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def read_weights(folder: Path) -> dict[str, NDArray[np.float32]]:
    """The weights in ``model.safetensors``, or its parts ``model-*.safetensors``, as float32.

    Raises:
        ModelError: no such file, or it is damaged.
    """
    import safetensors

    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        raise ModelError(f"{folder}: not a checkpoint, model.safetensors is missing")
    stored: dict[str, NDArray[Any]] = {}
    for file in files:
        try:
            entries = safetensors.deserialize(file.read_bytes())  # type: ignore[no-untyped-call]
        except safetensors.SafetensorError as error:
            raise ModelError(f"{file}: damaged ({error})") from None
        stored |= {name: _widen(file, name, entry) for name, entry in entries}
    weights: dict[str, NDArray[np.float32]] = {}
    for name, array in stored.items():
        if name.endswith(SCALE) and name.removesuffix(SCALE) in stored:
            continue
        scale = stored.get(name + SCALE)
        weights[name] = array.astype(np.float32) * (1 if scale is None else scale[:, None])
    return weights


def _widen(file: Path, name: str, entry: dict[str, Any]) -> NDArray[Any]:
    if entry["dtype"] == "BF16":  # the upper half of a float32
        halves = np.frombuffer(entry["data"], np.uint16).astype(np.uint32)
        return (halves << 16).view(np.float32).reshape(entry["shape"])
    if entry["dtype"] not in NUMPY:
        raise ModelError(f"{file}: {name} is of dtype {entry['dtype']}, which no checkpoint uses")
    return np.frombuffer(entry["data"], NUMPY[entry["dtype"]]).reshape(entry["shape"])
