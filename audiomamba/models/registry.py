"""Models by name: the checkpoints that ship, and any folder of one's own."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiomamba.errors import ModelError
from audiomamba.models.checkpoint_files import read_config

__all__ = ["DEFAULT", "ModelInfo", "available", "describe", "find"]

DEFAULT = "listen-en"
SHIPPED = Path(__file__).parent.parent / "checkpoints"


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What ``audiomamba models`` shows of a checkpoint."""

    name: str
    kind: str
    folder: Path
    size_bytes: int
    licence: str
    figures: dict[str, Any]


def find(name: str | Path) -> Path:
    """Folder of a shipped model, or of one's own checkpoint.

    Raises:
        ModelError: there is no such model; the message names those there are.
    """
    for folder in (Path(name), SHIPPED / str(name)):
        if (folder / "config.json").is_file():
            return folder
    known = ", ".join(info.name for info in available()) or "none"
    raise ModelError(
        f"no model {str(name)!r}: neither a folder with config.json nor one of: {known}"
    )


def available() -> list[ModelInfo]:
    """The models that ship, by name."""
    folders = sorted(SHIPPED.iterdir()) if SHIPPED.is_dir() else []
    return [describe(folder) for folder in folders if (folder / "config.json").is_file()]


def describe(folder: Path) -> ModelInfo:
    """What a checkpoint folder says of itself."""
    config = read_config(folder)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    figures = folder / "figures.json"
    return ModelInfo(
        name=folder.name,
        kind=str(config.get("kind", "unknown")),
        folder=folder,
        size_bytes=size,
        licence=str(config.get("licence", "unknown")),
        figures=json.loads(figures.read_text()) if figures.is_file() else {},
    )
