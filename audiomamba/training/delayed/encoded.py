"""What an encoder made of speech, as arrays on disk (written by encode.py)."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audiomamba.errors import ConfigError

__all__ = ["FRAMES", "PIECES", "Encoded", "read_encoded"]

FRAMES, PIECES = "frames.npy", "pieces.npy"
"""Names in a folder."""


class Encoded(NamedTuple):
    """Rows of frames and of what is heard in them."""

    frames: NDArray[np.float16]  # (R, T, width)
    pieces: NDArray[np.uint16]  # (R, T), 0 = none begins


def read_encoded(folder: Path, width: int, vocabulary: int) -> Encoded:
    """Map a folder's arrays.

    Raises:
        ConfigError: they cannot be read, or are of another encoder or vocabulary.
    """
    try:
        frames = np.load(folder / FRAMES, mmap_mode="r")
        pieces = np.load(folder / PIECES, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder}: cannot be read as encoded speech ({error})") from None
    if frames.ndim != 3 or frames.shape[2] != width or pieces.shape != frames.shape[:2]:
        raise ConfigError(
            f"{folder}: wants (R, T, {width}) and (R, T), got {frames.shape}, {pieces.shape}"
        )
    if not len(frames) or pieces.max() >= vocabulary:
        raise ConfigError(f"{folder}: is empty, or of more than {vocabulary} pieces")
    return Encoded(frames, pieces)
