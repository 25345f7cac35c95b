"""The files of a checkpoint folder, read without torch.

``config.json``, ``model.safetensors``, the vocabulary and a card. Matrices may be stored in bf16,
or in int8 with one float32 scale a row (``NAME.scale``); they are widened when read.
"""

import hashlib
import json
import math
import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiomamba.errors import ModelError

__all__ = ["SCALE", "Weights", "digest", "read_config", "read_weights", "write_config"]

SCALE = ".scale"
DTYPES = {
    name: np.dtype(dtype)
    for name, dtype in {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I8": "i1"}.items()
}


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
            with file.open("rb") as opened:
                while part := opened.read(1 << 20):
                    sha.update(part)
    except OSError as error:
        raise ModelError(f"{folder}: cannot be read ({error})") from None
    return sha.hexdigest()


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Write ``config.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def read_weights(folder: Path) -> "Weights":
    """The weights in ``model.safetensors``, or its parts ``model-*.safetensors``.

    Raises:
        ModelError: no such file, or it is damaged.
    """
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        raise ModelError(f"{folder}: not a checkpoint, model.safetensors is missing")
    stored: dict[str, NDArray[Any]] = {}
    for file in files:
        stored |= _map(file)
    return Weights(stored)


class Weights(Mapping[str, NDArray[np.float32]]):
    """Weights by name, each widened when it is asked for: the file is all that is held of them.

    Args:
        stored: As in the file; scales beside what they belong to, bf16 as uint16.
    """

    def __init__(self, stored: dict[str, NDArray[Any]]) -> None:
        self._stored = stored
        self._names = [name for name in stored if not self._is_scale(name)]

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        array, scale = self._stored[name], self._stored.get(name + SCALE)
        if array.dtype == np.uint16:  # bf16, the upper half of a float32
            return (array.astype(np.uint32) << 16).view(np.float32)
        widened: NDArray[np.float32] = array.astype(np.float32)
        return widened if scale is None else widened * scale[:, None]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._stored and not self._is_scale(str(name))

    def _is_scale(self, name: str) -> bool:
        return name.endswith(SCALE) and name.removesuffix(SCALE) in self._stored


def _map(file: Path) -> dict[str, NDArray[Any]]:
    """Arrays over the file itself; the format is eight bytes of length, JSON, and the numbers.

    Source: github.com/huggingface/safetensors, README, "Format".
    """
    with file.open("rb") as opened:
        try:
            mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise ModelError(f"{file}: damaged (empty)") from None
    begin = 8 + int.from_bytes(mapped[:8], "little")
    arrays: dict[str, NDArray[Any]] = {}
    try:
        header = json.loads(mapped[8:begin])
        header.pop("__metadata__", None)
        for name, entry in header.items():
            shape, (first, end) = entry["shape"], entry["data_offsets"]
            dtype = DTYPES.get(entry["dtype"])
            if dtype is None:
                message = f"{name} is of dtype {entry['dtype']}, which no checkpoint uses"
                raise ModelError(f"{file}: {message}")
            count = math.prod(shape)
            if end - first != count * dtype.itemsize:
                raise ValueError(f"{name} {shape} in {end - first} bytes")
            flat = np.frombuffer(mapped, dtype, count, begin + first)
            arrays[name] = flat.reshape(shape)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{file}: damaged ({error})") from None
    return arrays
