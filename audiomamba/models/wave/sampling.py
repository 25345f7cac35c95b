"""How the next sample is drawn, and the chance in it: a function of seed and place alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audiomamba.errors import ConfigError

__all__ = ["Sampling", "other_seed", "stream_seeds", "uniforms"]

_GAMMA = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """Where in the distribution of the next sample it is drawn."""

    temperature: float = 1.0  # below 1 more likely than trained for; 0 the likeliest always
    top_p: float = 1.0  # drawn from the likeliest classes that hold this share; 1 from all
    guidance: float = (
        1.0  # above 1 away from what is likely without label and speaker; twice the work
    )

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 10:
            raise ConfigError(f"temperature must be in 0..10, got {self.temperature:g}")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p must be above 0, at most 1, got {self.top_p:g}")
        if not 0 <= self.guidance <= 20:
            raise ConfigError(f"guidance must be in 0..20, got {self.guidance:g}")


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def stream_seeds(seed: int, streams: int) -> NDArray[np.uint64]:
    """Seeds ``(streams,)`` of recordings made together; the first is that of one made alone."""
    start = np.array([(seed + (i << 32)) & _MASK for i in range(streams)], np.uint64)
    return _mix(start)


def other_seed(seed: np.uint64) -> np.uint64:
    """The seed of another stream of chance, a function of the one before."""
    return np.uint64(_mix(np.array([(int(seed) + _GAMMA) & _MASK], np.uint64))[0])


def uniforms(
    seeds: NDArray[np.uint64], first: Sequence[int] | NDArray[np.int64], samples: int
) -> NDArray[np.float32]:
    """Numbers ``(streams, samples)`` in [0, 1) of 24 bits, from the index ``first`` of each on.

    Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014: the
    output function of SplitMix64 at a counter; kernels/native/src/sampling.h has the same.
    """
    start = np.asarray(first).astype(np.uint64)[:, None]
    index = np.add(start, np.arange(1, samples + 1, dtype=np.uint64), dtype=np.uint64)
    numbers = _mix(
        seeds[:, None] + np.multiply(index, np.uint64(_GAMMA), dtype=np.uint64)
    ) >> np.uint64(40)
    return numbers.astype(np.float32) * np.float32(2.0**-24)
