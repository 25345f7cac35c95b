"""A tree of arrays and JSON's types as bytes, and back: what is kept of a stream that stops.

The bytes are safetensors: the arrays under numbers, and the tree around them as JSON in the
header. Nothing in them is executed when they are read.
"""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiomamba.errors import StateError

__all__ = ["pack", "unpack"]

FORMAT = "audiomamba-stream-1"
ARRAY = "$array"


def pack(tree: dict[str, Any]) -> bytes:
    """Bytes of ``tree``: dicts with text keys, lists, arrays, bytes, and JSON's types."""
    from safetensors.numpy import save

    arrays: list[NDArray[Any]] = []
    skeleton = _without_arrays(tree, arrays)
    # An empty file of tensors cannot be told from a damaged one; there is always one array.
    tensors = {"-": np.zeros(1, np.uint8), **{str(i): a for i, a in enumerate(arrays)}}
    return save(tensors, metadata={"format": FORMAT, "tree": json.dumps(skeleton)})


def unpack(packed: bytes) -> dict[str, Any]:
    """The tree that was packed; its bytes come back as arrays of uint8.

    Raises:
        StateError: not such bytes, or damaged ones.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        size = int.from_bytes(packed[:8], "little")
        header = json.loads(packed[8 : 8 + size])["__metadata__"]
        arrays = load(packed)
        if header["format"] != FORMAT:
            raise StateError(f"snapshot has format {header['format']!r}, wanted {FORMAT!r}")
        tree: dict[str, Any] = _with_arrays(json.loads(header["tree"]), arrays)
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise StateError(f"snapshot of a stream is damaged: {error}") from error
    return tree


def _without_arrays(node: Any, arrays: list[NDArray[Any]]) -> Any:
    match node:
        case bytes():
            return _without_arrays(np.frombuffer(node, np.uint8), arrays)
        case np.ndarray():
            arrays.append(np.ascontiguousarray(node))
            return {ARRAY: len(arrays) - 1}
        case dict():
            return {key: _without_arrays(value, arrays) for key, value in node.items()}
        case list() | tuple():
            return [_without_arrays(value, arrays) for value in node]
    return node


def _with_arrays(node: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    match node:
        case {"$array": at}:
            return arrays[str(at)]
        case dict():
            return {key: _with_arrays(value, arrays) for key, value in node.items()}
        case list():
            return [_with_arrays(value, arrays) for value in node]
    return node
