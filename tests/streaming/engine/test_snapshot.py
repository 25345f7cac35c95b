"""What is kept of a stream: bytes and back, and nothing else that calls itself so."""

from typing import Any

import numpy as np
import pytest

from audiomamba.errors import StateError
from audiomamba.streaming.engine.snapshot import pack, unpack

TREE: dict[str, Any] = {
    "number": 7,
    "level": 0.1,
    "none": None,
    "nested": {"samples": np.arange(5, dtype=np.float32), "parts": [np.zeros((2, 3)), "text"]},
    "empty": np.zeros(0, np.float32),
    "raw": b"\0\1\xff",
}


def test_what_is_unpacked_is_what_was_packed() -> None:
    found = unpack(pack(TREE))
    assert found["number"] == 7 and found["level"] == 0.1 and found["none"] is None
    assert np.array_equal(found["nested"]["samples"], TREE["nested"]["samples"])
    assert found["nested"]["samples"].dtype == np.float32
    assert found["nested"]["parts"][0].shape == (2, 3) and found["nested"]["parts"][1] == "text"
    assert found["empty"].shape == (0,)
    assert bytes(found["raw"]) == b"\0\1\xff"


def test_a_tree_without_arrays_is_packed_too() -> None:
    assert unpack(pack({"a": [1, 2]})) == {"a": [1, 2]}


@pytest.mark.parametrize("cut", [0, 4, 50, -1])
def test_damaged_bytes_are_refused(cut: int) -> None:
    with pytest.raises(StateError, match="damaged"):
        unpack(pack(TREE)[:cut])


def test_other_tensors_are_refused() -> None:
    from safetensors.numpy import save

    other = save({"a": np.zeros(1)}, metadata={"format": "other", "tree": "{}"})
    with pytest.raises(StateError, match="'other'"):
        unpack(other)
