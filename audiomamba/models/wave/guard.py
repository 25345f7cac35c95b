"""No runaway noise, no silence or tone for ever: what is made is compared with what was learnt.

An autoregressive model that was fed something unlike its training can stay there: noise that
feeds on itself, samples stuck at full scale, silence that never ends. The guard takes running
means of what is made (statistics.py) block by block and compares them with the extremes of the
training sound, which the checkpoint keeps:

- *suspect* is a block past an extreme. It is held back until it is clear what comes of it.
- *runaway* is a block far past one (:data:`FAR_DB`, :data:`FAR_SHARE`), or
  :data:`MOST_HELD_S` of suspect blocks. The stream is taken back to where it was calm last and goes
  on from there with another stream of chance and a lower temperature. After :data:`TRIES` of
  these it begins anew there, from the state before the first sample, without a prompt there was.
  Should that run away too, as often, it is let go for :data:`PARDON_S`, so that work always ends.
- *endless* is silence, or a tone that does not change, longer than any that was learnt: the stream
  begins anew where it is. Where a label asks for one word, silence after it has no end.

All of it is a function of the samples drawn: the same seed gives the same interventions, in any cut
into calls, after a save and a resume, alone or among others.
"""

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiomamba.models.wave.statistics import Codes, Running, SoundStatistics

__all__ = ["ENDLESS", "MOST_HELD_S", "TRIES", "Guard", "Incident", "Verdict"]

FAR_DB = 6.0  # past the loudest that was learnt
FAR_SHARE = 0.5  # of the way from the noisiest that was learnt to white noise
CLIPPED, FAR_CLIPPED = 0.01, 0.1  # share of samples at full scale past the most that was learnt
MOST_HELD_S = 1.0
TRIES = 3
COOLER = 0.95  # of the temperature, a try
CALM_S = 2.0  # after which a stream is a step warmer, and its tries are forgotten
PARDON_S = 10.0
ENDLESS = ("silence", "tone")
"""Kinds of sound that is well up to now, and must not go on."""


class Verdict(Enum):
    """What is made of a stream's block."""

    CALM = "calm"
    SUSPECT = "suspect"
    RUNAWAY = "runaway"
    ENDLESS = "endless"


@dataclass(frozen=True, slots=True)
class Incident:
    """One intervention."""

    stream: int
    at_s: float  # of sound, where it was noticed
    kind: str  # noise, loudness, saturation, silence or tone
    remedy: str  # drawn again, begun anew or let go
    from_s: float  # of sound, where it goes on differently

    def __str__(self) -> str:
        where = f"stream {self.stream + 1}: " if self.stream else ""
        return f"{where}{self.kind} at {self.at_s:.1f} s, {self.remedy} from {self.from_s:.1f} s"


def _far(flatness: float, learnt: float) -> float:
    """How far past what was learnt; 1 is too far."""
    return (flatness - learnt) / max(FAR_SHARE * (1 - learnt), 1e-9)


class Guard:
    """Judges blocks of M streams; knows nothing of networks.

    Args:
        statistics: Of what was learnt.
        labelled: Whether a label is asked for, a stream.
        block: Samples of a block.
        sample_rate: Hz.
    """

    def __init__(
        self, statistics: SoundStatistics, labelled: NDArray[np.bool_], block: int, sample_rate: int
    ) -> None:
        streams = len(labelled)
        self.running = Running(streams, block, sample_rate)
        self._learnt = statistics
        free, asked, self._steady_s = (
            math.inf if longest is None else max(2 * longest, longest + 1.0)
            for longest in (
                statistics.silence_s, statistics.labelled_silence_s, statistics.steady_s
            )
        )  # fmt: skip
        self._silence_s = np.where(labelled, asked, free)
        block_s = self.running.block_s
        self._most_held, self._calm, self._pardon = (
            max(1, round(seconds / block_s)) for seconds in (MOST_HELD_S, CALM_S, PARDON_S)
        )
        self._held = np.zeros(streams, np.int64)  # suspect blocks on end
        self._calm_for = np.zeros(streams, np.int64)  # blocks since the last intervention
        self._tries = np.zeros(streams, np.int64)
        self._pardoned = np.zeros(streams, np.int64)  # blocks that are not judged
        self.cooling = np.zeros(streams, np.int64)  # steps of lower temperature
        self.kinds = [""] * streams  # of the last verdicts
        self.counts: dict[str, int] = {}

    @property
    def most_held(self) -> int:
        """Blocks that are held back at most, the last one included."""
        return self._most_held + 1

    def judge(self, codes: Codes, streams: NDArray[np.intp]) -> list[Verdict]:
        """Take a block ``(m, block)`` of some of the streams."""
        readings = self.running.add(codes, streams)
        return [
            self._verdict(int(stream), *(float(column[row]) for column in readings))
            for row, stream in enumerate(streams)
        ]

    def _verdict(
        self,
        stream: int,
        level: float,
        flatness: float,
        lasting: float,
        clipped: float,
        silent_s: float,
        steady_s: float,
    ) -> Verdict:
        learnt = self._learnt
        far = {
            "saturation": (clipped - learnt.clipped - CLIPPED) / (FAR_CLIPPED - CLIPPED),
            "noise": max(_far(flatness, learnt.flatness), _far(lasting, learnt.long_flatness)),
            "loudness": (level - learnt.level_db) / FAR_DB,
        }
        kind = max(far, key=lambda name: far[name])
        if self._pardoned[stream]:
            self._pardoned[stream] -= 1
        elif far[kind] > 0:
            self.kinds[stream] = kind
            self._held[stream] += 1
            if far[kind] >= 1 or self._held[stream] > self._most_held:
                return Verdict.RUNAWAY
            return Verdict.SUSPECT
        self._held[stream] = 0
        self._calm_for[stream] += 1
        if self._calm_for[stream] >= self._calm:
            self._calm_for[stream] = self._tries[stream] = 0
            self.cooling[stream] = max(0, self.cooling[stream] - 1)
        if silent_s > self._silence_s[stream] or steady_s > self._steady_s:
            self.kinds[stream] = "silence" if silent_s else "tone"
            return Verdict.ENDLESS
        return Verdict.CALM

    def remedy(self, stream: int) -> str:
        """What is to be done about a stream that ran away, or does not change any more."""
        kind = self.kinds[stream]
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self._held[stream] = self._calm_for[stream] = 0
        if kind in ENDLESS:
            return "begun anew"
        self._tries[stream] += 1
        tries = self._tries[stream]
        if tries > 2 * TRIES + 1:
            self._tries[stream] = self.cooling[stream] = 0
            self._pardoned[stream] = self._pardon
            return "let go"
        self.cooling[stream] = (tries - 1) % (TRIES + 1) + 1
        if tries == TRIES + 1:
            self.cooling[stream] = 0
            return "begun anew"
        return "drawn again"

    def dump(self) -> dict[str, NDArray[Any]]:
        """All it remembers but the counts, as arrays with a row a stream."""
        return {
            "held": self._held, "calm_for": self._calm_for, "tries": self._tries,
            "pardoned": self._pardoned, "cooling": self.cooling, **self.running.dump(),
        }  # fmt: skip

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Overwrite it by what :meth:`dump` gave.

        Raises:
            KeyError: an array is missing.
            ValueError: one is of another shape.
        """
        for name, own in self.dump().items():
            if arrays[name].shape != own.shape:
                raise ValueError(f"{name} must be {own.shape}, got {arrays[name].shape}")
            own[...] = arrays[name]
