"""What an encoder made of speech, as arrays on disk (written by encode.py)."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audiomamba.errors import ConfigError

__all__ = ["ACTIVITY", "FRAMES", "PIECES", "Encoded", "read_encoded"]

FRAMES, PIECES, ACTIVITY = "frames.npy", "pieces.npy", "activity.npy"
"""Names in a folder."""


class Encoded(NamedTuple):
    """Rows of frames, of what is heard in them, and of when somebody spoke."""

    frames: NDArray[np.float16]  # (R, T, width)
    pieces: NDArray[np.uint16]  # (R, T), 0 = none begins
    activity: NDArray[np.uint8] | None = None  # (R, T), 0 or 1; None where it was not written down


def read_encoded(folder: Path, width: int, vocabulary: int) -> Encoded:
    """Map a folder's arrays.

    Raises:
        ConfigError: they cannot be read, or are of another encoder or vocabulary.
    """
    try:
        frames = np.load(folder / FRAMES, mmap_mode="r")
        pieces = np.load(folder / PIECES, mmap_mode="r")
        written = (folder / ACTIVITY).exists()
        activity = np.load(folder / ACTIVITY, mmap_mode="r") if written else None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder}: cannot be read as encoded speech ({error})") from None
    if frames.ndim != 3 or frames.shape[2] != width or pieces.shape != frames.shape[:2]:
        raise ConfigError(
            f"{folder}: wants (R, T, {width}) and (R, T), got {frames.shape}, {pieces.shape}"
        )
    if activity is not None and activity.shape != pieces.shape:
        raise ConfigError(f"{folder}: wants activity {pieces.shape}, got {activity.shape}")
    if not len(frames) or pieces.max() >= vocabulary:
        raise ConfigError(f"{folder}: is empty, or of more than {vocabulary} pieces")
    return Encoded(frames, pieces, activity)
