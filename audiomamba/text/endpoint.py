"""The end of an utterance as the model expects it: nobody will speak for a while.

A pause says nothing until it is longer than the pauses inside sentences are. How a sentence was
said and what its words were tell sooner, and a model that was taught so (``ends`` of its
configuration) puts it into a probability a frame. A rule makes a decision of that.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audiomamba.errors import ConfigError

__all__ = ["EndRule", "Ending"]


@dataclass(kw_only=True, frozen=True, slots=True)
class EndRule:
    """When a model's outputs end an utterance; chosen by training/ends/measure.py."""

    output: int = 0  # which of the model's ``ends`` counts, from 0
    probability: float = 0.5  # from which it says that nobody will speak
    held_s: float = 0.4  # for so long without a break: the last words may still be on their way
    pause_s: float = 0.2  # and for so long no piece was written

    def __post_init__(self) -> None:
        if self.output < 0:
            raise ConfigError(f"endpoint: output must not be negative, got {self.output}")
        if not 0 < self.probability < 1:
            raise ConfigError(
                f"endpoint: probability must be between 0 and 1, got {self.probability}"
            )
        for name in ("held_s", "pause_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"endpoint: {name} must be above 0, got {getattr(self, name)}")


class Ending:
    """For how many frames a rule's output has been as sure as it asks.

    Args:
        rule: None: no frame is ever expected to be the last.
        frame_s: Seconds a frame.

    Attributes:
        held: Frames up to now, at most as many as the rule wants.
    """

    def __init__(self, rule: EndRule | None, frame_s: float) -> None:
        self._rule = rule
        self._wanted = max(1, round(rule.held_s / frame_s)) if rule is not None else 0
        self.held = 0

    def expected(self, frames: int, ends: NDArray[np.float32] | None) -> NDArray[np.bool_]:
        """Take the next ``frames``: in which of them, ``(frames,)``, has it held for long enough.

        Args:
            frames: At least 0.
            ends: Logarithms of probabilities, ``(frames, outputs)``; None where there are none.
        """
        if self._rule is None or ends is None or not ends.shape[1] or not frames:
            return np.zeros(frames, bool)
        sure = ends[:, self._rule.output] >= math.log(self._rule.probability)
        at = np.arange(1, frames + 1)
        broken = np.maximum.accumulate(np.where(sure, 0, at))  # the last one that was not, from 1
        run = at - broken + np.where(broken, 0, self.held)
        self.held = min(int(run[-1]), self._wanted)
        long: NDArray[np.bool_] = run >= self._wanted
        return long
