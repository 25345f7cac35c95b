"""Tensors in several safetensors files of a bounded size, with an index."""

import json
from pathlib import Path

import torch
from torch import Tensor

from audiomamba.errors import ModelError

__all__ = ["SHARD_BYTES", "read_shards", "split", "write_shards"]

SHARD_BYTES = 15 * 2**20
"""Leaves room for headers under 16 MiB, which file stores and mail gateways like to refuse."""


def split(tensors: dict[str, Tensor], limit: int = SHARD_BYTES) -> list[dict[str, Tensor]]:
    """Groups in order, each at most ``limit`` bytes; a larger tensor gets a group of its own."""
    groups: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if groups[-1] and size + tensor.nbytes > limit:
            groups.append({})
            size = 0
        groups[-1][name] = tensor
        size += tensor.nbytes
    return groups


def write_shards(folder: Path, stem: str, tensors: dict[str, Tensor]) -> list[Path]:
    """Write ``STEM-00001.safetensors`` and so on, and ``STEM.index.json``; returns all files."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    where: dict[str, str] = {}
    files: list[Path] = []
    for number, group in enumerate(split(tensors), 1):
        path = folder / f"{stem}-{number:05d}.safetensors"
        save_file({name: t.detach().cpu().contiguous() for name, t in group.items()}, path)
        where |= dict.fromkeys(group, path.name)
        files.append(path)
    index = folder / f"{stem}.index.json"
    total = sum(t.nbytes for t in tensors.values())
    index.write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": where}, indent=1))
    return [*files, index]


def read_shards(folder: Path, stem: str) -> dict[str, Tensor]:
    """Read what :func:`write_shards` wrote, onto the CPU.

    Raises:
        ModelError: a file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    tensors: dict[str, torch.Tensor] = {}
    try:
        index = json.loads((folder / f"{stem}.index.json").read_text())
        for name in sorted(set(index["weight_map"].values())):
            tensors |= load_file(folder / name)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ModelError(f"{folder}: {stem} cannot be read ({error})") from None
    return tensors
