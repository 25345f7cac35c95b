"""What a guarded generation remembers beside the engine's state."""

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiomamba.models.wave.guard import Guard, Incident
from audiomamba.models.wave.statistics import SoundStatistics, block_samples

__all__ = ["Watch"]

Codes = NDArray[np.uint8]

_REMEMBERED = 64  # incidents


class Watch:
    """What a guarded generation has beside the engine's state; its size is fixed.

    Sound is drawn in whole blocks into ``ahead``, of which ``clear`` samples of each stream may be
    given out. ``back`` is the state of each stream where that part ends, to which it is taken
    back: a stream is never taken back behind what was given out.

    Args:
        statistics: Of what the model learnt from.
        asked: Ids of label and speaker, ``(M, 2)``.
        sample_rate: Hz.
        period: Of the model, samples.
    """

    def __init__(
        self,
        statistics: SoundStatistics,
        asked: NDArray[np.int64],
        sample_rate: int,
        period: int,
    ) -> None:
        self.sample_rate = sample_rate
        self.asked = asked
        self.block = block_samples(sample_rate, period)
        self.guard = Guard(statistics, asked[:, 0] >= 0, self.block, sample_rate)
        streams = len(asked)
        self.ahead = np.zeros((streams, (self.guard.most_held + 1) * self.block), np.uint8)
        self.filled = np.zeros(streams, np.int64)
        self.clear = np.zeros(streams, np.int64)
        self.back: Any = None
        self.back_last = np.zeros(streams, np.uint8)
        self.back_running = {name: a.copy() for name, a in self.guard.running.dump().items()}
        self.incidents: deque[Incident] = deque(maxlen=_REMEMBERED)

    @property
    def nbytes(self) -> int:
        """Of all its arrays but ``back``."""
        arrays: list[NDArray[Any]] = [
            self.asked,
            self.ahead,
            self.filled,
            self.clear,
            self.back_last,
        ]
        arrays += [*self.back_running.values(), *self.guard.dump().values()]
        return sum(array.nbytes for array in arrays)

    def give(self, samples: int) -> Codes:
        """Take the first ``samples`` of every stream out of ``ahead``."""
        given = self.ahead[:, :samples].copy()
        most = int(self.filled.max())
        self.ahead[:, : most - samples] = self.ahead[:, samples:most].copy()
        self.filled -= samples
        self.clear -= samples
        return given

    def dump(self) -> dict[str, NDArray[Any]]:
        """Everything but ``back``, as arrays."""
        return {
            "asked": self.asked, "clear": self.clear, "back_last": self.back_last,
            "ahead": self.ahead[:, : int(self.filled.max())],
            **{f"back.{name}": array for name, array in self.back_running.items()},
            **{f"guard.{name}": array for name, array in self.guard.dump().items()},
        }  # fmt: skip

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Overwrite it by what :meth:`dump` gave; KeyError or ValueError where that is damaged."""
        ahead = arrays["ahead"]
        self.ahead[:, : ahead.shape[1]] = ahead
        self.filled[:] = ahead.shape[1]
        self.clear[:] = arrays["clear"]
        self.back_last[:] = arrays["back_last"]
        for name, own in self.back_running.items():
            own[...] = arrays[f"back.{name}"]
        guard = {k.removeprefix("guard."): v for k, v in arrays.items() if k.startswith("guard.")}
        self.guard.restore(guard)
