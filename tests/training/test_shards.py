"""Tensors in files of a bounded size."""

from pathlib import Path

import pytest
import torch

from audiomamba.errors import ModelError
from audiomamba.training import shards


def test_groups_stay_below_the_limit_unless_one_tensor_is_larger() -> None:
    tensors = {name: torch.zeros(n) for name, n in [("a", 2), ("b", 2), ("c", 9), ("d", 1)]}
    groups = shards.split(tensors, limit=16)
    assert [list(group) for group in groups] == [["a", "b"], ["c"], ["d"]]


def test_what_was_written_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = {"a": torch.arange(3), "b": torch.randn(2, 2).t(), "step": torch.tensor(4.0)}
    monkeypatch.setattr(shards, "SHARD_BYTES", 32)
    files = shards.write_shards(tmp_path, "weights", tensors)
    assert [f.name for f in files][-1] == "weights.index.json"
    assert all(f.stat().st_size < 1000 for f in files)
    found = shards.read_shards(tmp_path, "weights")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], t) for name, t in tensors.items())


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="weights cannot be read"):
        shards.read_shards(tmp_path, "weights")
    first, _ = shards.write_shards(tmp_path, "weights", {"a": torch.zeros(4)})
    first.write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="weights cannot be read"):
        shards.read_shards(tmp_path, "weights")
