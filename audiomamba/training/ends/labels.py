"""Whether nobody speaks for so long after a frame, from who speaks when.

Frame ``i`` has heard the sound up to 25 ms after its first sample (its last window of features);
its answer is about what comes then. Activity is known every 40 ms, so the first that counts for it
is that of frame ``i + 1``::

    sound        …|  frame i  |  frame i+1 |  frame i+2 |…
    heard        ────────┤
    activity          ^            ^             ^           12.5 ms after a frame's first sample
    counts for i                   x             x    …      as many as the horizon has frames
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["UNKNOWN", "quiet"]

UNKNOWN = -1
"""Label where a row ends before the horizon does, and nobody has spoken until there."""


def quiet(
    activity: NDArray[np.uint8], horizons_s: Sequence[float], frame_s: float
) -> NDArray[np.int8]:
    """Labels of frames.

    Args:
        activity: ``(R, T)``, 1 where somebody speaks.
        horizons_s: Seconds; rounded to whole frames, at least one.
        frame_s: Seconds a frame.

    Returns:
        ``(R, T, horizons)``: 1 nobody speaks for so long after the frame, 0 somebody does,
        ``UNKNOWN``.
    """
    R, T = activity.shape
    frames = np.arange(T)
    never = np.iinfo(np.int64).max
    coming = np.minimum.accumulate(np.where(activity > 0, frames, never)[:, ::-1], 1)[:, ::-1]
    after = np.full((R, T), never)  # the next frame with speech, the frame itself not counted
    after[:, :-1] = coming[:, 1:]
    labels = np.zeros((R, T, len(horizons_s)), np.int8)
    for k, seconds in enumerate(horizons_s):
        last = frames + max(1, round(seconds / frame_s))
        speaks = after <= last
        labels[..., k] = np.where(speaks, 0, np.where(last < T, 1, UNKNOWN))
    return labels
