"""Audio files: whatever libsndfile reads (wav, flac, ogg, opus, mp3), in constant memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from audiomamba.audio.resample import Resampler
from audiomamba.errors import AudioError

__all__ = ["read", "stream"]

Samples = NDArray[np.float32]


def stream(source: str | Path | BinaryIO, block_s: float) -> Iterator[tuple[int, Samples]]:
    """Rate in Hz and blocks ``(n, channels)`` float32 of ``block_s`` seconds, in order.

    Raises:
        AudioError: the file is missing, or is not audio that can be read.
    """
    name = getattr(source, "name", source)
    if isinstance(source, str | Path) and not Path(source).is_file():
        raise AudioError(f"{name}: no such file")
    try:
        with soundfile.SoundFile(source) as file:
            frames = max(1, round(block_s * file.samplerate))
            while len(block := file.read(frames, dtype="float32", always_2d=True)):
                yield file.samplerate, block
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        reason = getattr(error, "error_string", str(error)).rstrip(".")
        raise AudioError(f"{name}: cannot be read as audio ({reason})") from None


def read(source: str | Path | BinaryIO, *, sample_rate: int = 16_000) -> Samples:
    """A whole file as mono float32 ``(n,)`` at ``sample_rate``, its channels mixed.

    Raises:
        AudioError: the file is missing, or is not audio that can be read.
    """
    parts: list[Samples] = []
    resampler: Resampler | None = None
    for rate, block in stream(source, 30.0):
        resampler = resampler or Resampler(rate, sample_rate)
        parts.append(resampler.feed(block.mean(axis=1)))
    if resampler is None:
        return np.zeros(0, np.float32)
    return np.concatenate([*parts, resampler.finish()])
