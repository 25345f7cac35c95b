"""Other people's recognisers, to be measured beside ours; none of them is a dependency.

Each is what its users get: its own model, its own language model, one thread.
"""

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiomamba.errors import BackendError, ModelError

__all__ = ["Recognize", "faster_whisper", "ours", "pocketsphinx"]

Recognize = Callable[[NDArray[np.float32]], str]
"""Samples ``(n,)`` at 16 kHz to what was said in them."""


def ours(model: str, *, chunk_ms: float, lm: bool | None = None) -> Recognize:
    """This project's, through the public stream, in pieces of ``chunk_ms`` milliseconds.

    ``lm`` is that of :meth:`~audiomamba.models.listener.Listener.stream`.
    """
    from audiomamba.models.loading import load
    from audiomamba.text.events import Event, Final

    listener = load(model)
    size = max(1, round(chunk_ms * 16))

    def recognize(samples: NDArray[np.float32]) -> str:
        stream = listener.stream(lm=lm)
        events: list[Event] = []
        for at in range(0, len(samples), size):
            events += stream.feed(samples[at : at + size])
        events += stream.finish()
        return " ".join(event.text for event in events if isinstance(event, Final))

    return recognize


def pocketsphinx(words: Sequence[str] = (), *, several: bool = False) -> Recognize:
    """PyPI's ``pocketsphinx`` with the acoustic and language model that it carries.

    ``words``: listen for one of them, or ``several`` one after another, and nothing else, in the
    place of its language model.
    """
    _require("pocketsphinx")
    from pocketsphinx import Decoder  # type: ignore[import-not-found]

    if words:
        decoder: Any = Decoder(samprate=16_000, lm=None, loglevel="FATAL")
        grammar = (
            f"#JSGF V1.0; grammar words; public <words> = ({' | '.join(words)}){'+' * several};"
        )
        decoder.add_jsgf_string("words", grammar)
        decoder.activate_search("words")
    else:
        decoder = Decoder(samprate=16_000, loglevel="FATAL")

    def recognize(samples: NDArray[np.float32]) -> str:
        pcm = (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
        decoder.start_utt()
        decoder.process_raw(pcm, full_utt=True)
        decoder.end_utt()
        best = decoder.hyp()
        return best.hypstr if best else ""

    return recognize


def faster_whisper(folder: Path) -> Recognize:
    """PyPI's ``faster-whisper`` on a converted model in ``folder``: int8, greedy, English.

    Each recording is heard whole; a second temperature is tried where it falls into a loop.

    Raises:
        ModelError: there is no model in ``folder``.
    """
    _require("faster_whisper")
    from faster_whisper import WhisperModel  # type: ignore[import-not-found]

    if not (folder / "model.bin").is_file():
        raise ModelError(f"{folder}: no model.bin; a folder that faster-whisper reads is wanted")
    model: Any = WhisperModel(
        str(folder), device="cpu", compute_type="int8", cpu_threads=1, local_files_only=True
    )

    def recognize(samples: NDArray[np.float32]) -> str:
        segments, _ = model.transcribe(
            samples,
            language="en",
            beam_size=1,
            temperature=[0.0, 0.4],
            without_timestamps=True,
            condition_on_previous_text=False,
        )
        return " ".join(segment.text for segment in segments)

    return recognize


def _require(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        package = module.replace("_", "-")
        raise BackendError(f"{module} is not installed: pip install {package}")
