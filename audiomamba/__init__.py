"""Streaming speech recognition and audio generation on state-space models.

>>> import audiomamba as am                                # doctest: +SKIP
>>> am.load("listen-en").transcribe("talk.flac").text      # doctest: +SKIP

Nothing heavy is imported until it is used: this module alone loads in milliseconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audiomamba.errors import (
        AudioError,
        BackendError,
        ConfigError,
        Error,
        ModelError,
        Overloaded,
        ProtocolError,
        ShapeError,
        StateError,
    )
    from audiomamba.models.listener import Listener, Stream, Transcript
    from audiomamba.models.loading import load, transcribe
    from audiomamba.models.wave.synthesizer import Generation, Synthesizer
    from audiomamba.text.events import Event, Final, Partial, SpeechEnd, SpeechStart, Word

__all__ = [
    "AudioError",
    "BackendError",
    "ConfigError",
    "Error",
    "Event",
    "Final",
    "Generation",
    "Listener",
    "ModelError",
    "Overloaded",
    "Partial",
    "ProtocolError",
    "ShapeError",
    "SpeechEnd",
    "SpeechStart",
    "StateError",
    "Stream",
    "Synthesizer",
    "Transcript",
    "Word",
    "load",
    "transcribe",
]

_HOME = {
    **dict.fromkeys(("Listener", "Stream", "Transcript"), "audiomamba.models.listener"),
    **dict.fromkeys(("Generation", "Synthesizer"), "audiomamba.models.wave.synthesizer"),
    **dict.fromkeys(("load", "transcribe"), "audiomamba.models.loading"),
    **dict.fromkeys(
        ("Event", "Final", "Partial", "SpeechEnd", "SpeechStart", "Word"), "audiomamba.text.events"
    ),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("audiomamba")
    if name not in __all__:
        raise AttributeError(f"module 'audiomamba' has no attribute {name!r}")
    return getattr(import_module(_HOME.get(name, "audiomamba.errors")), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
