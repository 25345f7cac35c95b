"""The bytes of a generation that was saved: named arrays, and what they belong to."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiomamba.errors import StateError

__all__ = ["pack", "part", "unpack"]

_FORMAT = "audiomamba-generation-2"

Arrays = dict[str, NDArray[Any]]


def pack(arrays: Mapping[str, NDArray[Any]], identity: str, about: Mapping[str, Any]) -> bytes:
    """Arrays, the engine's identity, and anything that JSON can hold."""
    from safetensors.numpy import save

    metadata = {"format": _FORMAT, "identity": identity, "about": json.dumps(about)}
    return save({n: np.ascontiguousarray(a) for n, a in arrays.items()}, metadata=metadata)


def unpack(saved: bytes, identity: str) -> tuple[Arrays, dict[str, Any]]:
    """What :func:`pack` packed: arrays and ``about``.

    Raises:
        StateError: it is damaged, or belongs to another model, engine or precision.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays: Arrays = load(saved)
        size = int.from_bytes(saved[:8], "little")
        metadata = json.loads(saved[8 : 8 + size])["__metadata__"]
        about: dict[str, Any] = json.loads(metadata["about"])
        made_by = str(metadata["identity"])
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise StateError(f"state is damaged ({error})") from None
    if metadata.get("format") != _FORMAT:
        raise StateError("state is not one of a generation of this version")
    if made_by != identity:
        raise StateError(f"state belongs to {_short(made_by)}, this is {_short(identity)}")
    return arrays, about


def part(arrays: Arrays, prefix: str) -> Arrays:
    """Those whose names begin so, without the beginning."""
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def _short(identity: str) -> str:
    checkpoint, *rest = identity.split("/")
    return "/".join([f"checkpoint {checkpoint[:12] or 'unnamed'}", *rest])
