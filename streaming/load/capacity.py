"""How many streams a step model holds in real time: steps of all of them at once, timed.

A step moves every stream on by a block of sound, so it has to be over before the next block was
said: within the hop. What is timed is what the engine's thread waits for, features on their way to
the device and log-probabilities on their way back included; the audio's way to features and the
decoder's to words, which run on the processor, are not in it.
"""

import gc
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from audiomamba.streaming.engine.model import StepModel

__all__ = ["Capacity", "MakeModel", "measure", "search"]

MakeModel = Callable[[int], StepModel]
"""A step model with so many slots."""
WARM = 3  # steps before those that are timed: graphs are captured, buffers are there
TRIES = 6  # of the search share its time
FINEST = 1.05  # the search ends where what is held and what is not are as near as this


@dataclass(frozen=True, slots=True)
class Capacity:
    """Steps of so many streams.

    Attributes:
        streams: In each step.
        steps: That were timed.
        p50_s: Median of their seconds.
        p99_s: What at most one of a hundred steps takes longer than.
        hop_s: Seconds of sound in a step.
        state_bytes: Of one stream.
    """

    streams: int
    steps: int
    p50_s: float
    p99_s: float
    hop_s: float
    state_bytes: int

    @property
    def in_real_time(self) -> bool:
        """Whether the streams are held."""
        return self.p99_s <= self.hop_s

    @property
    def times_real_time(self) -> float:
        """Seconds of sound a second, of all streams together."""
        return self.streams * self.hop_s / self.p50_s


def measure(make: MakeModel, streams: int, *, steps: int, within_s: float = math.inf) -> Capacity:
    """Time ``steps`` steps of ``streams`` streams.

    Fewer where they take longer than ``within_s``, or so many are late that they are not held.

    Raises:
        MemoryError, RuntimeError: the states or a step of so many do not fit the device.
    """
    model = make(streams)
    random = np.random.default_rng(0)
    shape = (streams, model.frames_per_block, model.num_mel_bins)
    features = random.standard_normal(shape, dtype=np.float32)
    slots = (random.permutation(streams) + 1).tolist()  # as strangers come: in no order
    for _ in range(WARM):
        model.step(features, slots)
    took: list[float] = []
    late = 0
    began = time.perf_counter()
    while len(took) < steps and late <= steps // 100:
        start = time.perf_counter()
        if took and start - began >= within_s:
            break
        model.step(features, slots)
        took.append(time.perf_counter() - start)
        late += took[-1] > model.block_s
    return Capacity(
        streams,
        len(took),
        _quantile(took, 0.5),
        _quantile(took, 0.99),
        model.block_s,
        model.state_bytes,
    )


def search(
    make: MakeModel, held: Capacity, *, steps: int, budget_s: float, most: int
) -> Iterator[Capacity]:
    """Look for the most streams that are held, from a number that is, for ``budget_s`` seconds.

    Doubles until a number is not held, or does not fit, or is ``most``; then halves what lies
    between. What is tried is yielded; the last that was held is the answer.
    """
    low, high = held.streams, None
    deadline = time.monotonic() + budget_s
    while time.monotonic() < deadline and (high is None or high > low * FINEST):
        streams = min(2 * low, most) if high is None else (low + high) // 2
        if streams <= low:
            return
        gc.collect()  # the model before holds the device's memory
        try:
            tried = measure(make, streams, steps=steps, within_s=budget_s / TRIES)
        except (MemoryError, RuntimeError):  # torch's OutOfMemoryError is one
            high = streams
            continue
        yield tried
        if tried.in_real_time:
            low = streams
        else:
            high = streams


def _quantile(values: list[float], share: float) -> float:
    """By nearest rank: no value is made up between two."""
    return sorted(values)[math.ceil(share * len(values)) - 1]
