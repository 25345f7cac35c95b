"""The files of a checkpoint folder that need no torch to read."""

import json
from pathlib import Path
from typing import Any

from audiomamba.errors import ModelError

__all__ = ["read_config", "write_config"]


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


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Write ``config.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
