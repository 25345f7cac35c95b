"""``load`` and ``transcribe``: the library's front door."""

from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from audiomamba.errors import ModelError
from audiomamba.models.acoustic import EngineName
from audiomamba.models.checkpoint_files import read_config
from audiomamba.models.listener import Listener, Transcript
from audiomamba.models.registry import DEFAULT, find
from audiomamba.models.wave.synthesizer import Synthesizer

__all__ = ["load", "transcribe"]


@overload
def load(
    name: Literal["listen-en"] = ..., *, device: str = ..., engine: EngineName = ...
) -> Listener: ...
@overload
def load(
    name: Literal["wave-digits", "wave-long"], *, device: str = ..., engine: EngineName = ...
) -> Synthesizer: ...
@overload
def load(name: str | Path, *, device: str = ..., engine: EngineName = ...) -> Any: ...
def load(
    name: str | Path = DEFAULT, *, device: str = "cpu", engine: EngineName = "auto"
) -> Listener | Synthesizer:
    """Load a shipped model by name, or a checkpoint folder of one's own.

    What comes back is what the checkpoint is: a :class:`Listener`, or a :class:`Synthesizer`.

    Args:
        name: Of a model that ships, or a folder.
        device: Where it runs, torch's name of it.
        engine: ``auto`` takes the native engine on a CPU where it was built, else PyTorch.

    Raises:
        ModelError: there is no such model, or it cannot be read.
    """
    folder = find(name)
    kind = read_config(folder).get("kind")
    if kind == "transcriber":
        return Listener.from_folder(folder, device=device, engine=engine)
    if kind == "wave":
        return Synthesizer.from_folder(folder, device=device, engine=engine)
    raise ModelError(f"{folder}: kind {kind!r} is not known to this version")


def transcribe(
    audio: str | Path | NDArray[np.float32],
    *,
    model: str | Path = DEFAULT,
    sample_rate: int = 16_000,
) -> Transcript:
    """Transcribe a file, or samples ``(n,)`` at ``sample_rate``, with a model that is kept."""
    return _kept(str(model)).transcribe(audio, sample_rate=sample_rate)


@lru_cache(maxsize=1)
def _kept(name: str) -> Listener:
    model = load(name)
    if not isinstance(model, Listener):
        raise ModelError(f"{name}: makes sound, it does not transcribe; give a transcriber")
    return model
