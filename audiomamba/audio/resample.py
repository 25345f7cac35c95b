"""Change of sample rate, as samples come: a polyphase filter whose tail is part of the state.

Output j lies at input time ``j * from / to``. It is a sum over the inputs around it, weighted by a
Kaiser-windowed sinc that passes what both rates can hold. The rates are reduced to L / M, so there
are L sets of weights, and output j uses set ``j * M mod L``. The stream is preceded and followed
by zeros, and output 0 stands where input 0 stood: nothing is delayed in time, outputs only wait
for the inputs they need.
"""

from functools import lru_cache
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiomamba.errors import AudioError

__all__ = ["HIGHEST_HZ", "LOWEST_HZ", "Resampler", "resample"]

Samples = NDArray[np.float32]

LOWEST_HZ, HIGHEST_HZ = 4_000, 192_000
ZERO_CROSSINGS = 48  # of the sinc on either side, at the lower rate
ROLL_OFF = 0.935  # of the lower Nyquist frequency: -6 dB; flat to 0.875, stop band from 0.995
BETA = 9.0  # of the Kaiser window: stop band below -90 dB
MOST_PHASES = 4_096
FEW_PHASES = 4  # up to these, outputs of a phase are views of the input at a fixed step


@lru_cache(maxsize=32)
def _weights(up: int, down: int) -> tuple[Samples, int]:
    """Weights ``(up, 2 * half)`` and ``half``, taps on either side of an output."""
    scale = ROLL_OFF * min(1.0, up / down)  # cut-off over the input's Nyquist frequency
    half = int(np.ceil(ZERO_CROSSINGS / min(1.0, up / down)))
    phase = np.arange(up)[:, None] / up  # of the output after the input at or before it
    distance = np.arange(-half + 1, half + 1)[None] - phase
    window = np.i0(BETA * np.sqrt(np.maximum(0.0, 1 - (distance / half) ** 2))) / np.i0(BETA)
    weights = scale * np.sinc(scale * distance) * window
    weights /= weights.sum(1, keepdims=True)  # exact unit gain at 0 Hz in every phase
    result: Samples = weights.astype(np.float32)
    result.setflags(write=False)
    return result, half


class Resampler:
    """Resamples one stream; any chunking gives the same samples.

    Args:
        from_rate: Of the samples fed, Hz.
        to_rate: Of the samples returned, Hz.

    Raises:
        AudioError: a rate is out of range, or their ratio is too odd for a table.
    """

    def __init__(self, from_rate: int, to_rate: int) -> None:
        for rate in (from_rate, to_rate):
            if not LOWEST_HZ <= rate <= HIGHEST_HZ or rate != int(rate):
                raise AudioError(f"sample rate must be {LOWEST_HZ} to {HIGHEST_HZ} Hz, got {rate}")
        common = gcd(int(from_rate), int(to_rate))
        self._up, self._down = int(to_rate) // common, int(from_rate) // common
        if self._up > MOST_PHASES:
            raise AudioError(f"cannot resample {from_rate} Hz to {to_rate} Hz: ratio too odd")
        self._weights, self._half = _weights(self._up, self._down)
        self._outputs = 0  # returned so far
        self._start = -self._half  # index of the first sample kept, before the stream: zeros
        self._kept: Samples = np.zeros(self._half, np.float32)

    @property
    def is_identity(self) -> bool:
        """Whether both rates are one."""
        return self._up == self._down

    def feed(self, samples: Samples) -> Samples:
        """Take samples ``(n,)``, any n; return the samples that can be made now."""
        if self.is_identity:
            return samples
        self._kept = np.concatenate([self._kept, samples.astype(np.float32, copy=False)])
        end = self._start + len(self._kept)  # of what is known
        # Output j needs inputs up to floor(j * down / up) + half.
        last = ((end - self._half) * self._up - 1) // self._down
        out = self._make(last + 1)
        # Memory stays that of one filter: drop what no later output needs.
        first_needed = self._outputs * self._down // self._up - self._half + 1
        drop = max(0, first_needed - self._start)
        self._kept, self._start = self._kept[drop:].copy(), self._start + drop
        return out

    def wanted(self, samples: int) -> int:
        """Samples that have to come for so many more to be returned, at least one."""
        if self.is_identity:
            return samples
        last = self._outputs + samples - 1
        return last * self._down // self._up + self._half + 1 - self._start - len(self._kept)

    def finish(self) -> Samples:
        """The last samples, made with zeros after the end; the stream is as new afterwards."""
        if self.is_identity:
            return np.zeros(0, np.float32)
        inputs = self._start + len(self._kept)
        total = -(-inputs * self._up // self._down)
        self._kept = np.concatenate([self._kept, np.zeros(self._half + 1, np.float32)])
        out = self._make(total)
        self._outputs, self._start = 0, -self._half
        self._kept = np.zeros(self._half, np.float32)
        return out

    def state(self) -> dict[str, Any]:
        """All that is needed to go on elsewhere."""
        return {"outputs": self._outputs, "start": self._start, "kept": self._kept.copy()}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self._outputs, self._start = int(state["outputs"]), int(state["start"])
        self._kept = np.asarray(state["kept"], np.float32).copy()

    def _make(self, end: int) -> Samples:
        """Outputs from the next one up to, but not with, ``end``."""
        if end <= self._outputs:
            return np.zeros(0, np.float32)
        first = self._outputs * self._down  # in units of 1 / up input samples, like all below
        windows = np.lib.stride_tricks.sliding_window_view(self._kept, 2 * self._half)
        offset = 1 - self._half - self._start
        if self._up <= FEW_PHASES:
            out = np.empty(end - self._outputs, np.float32)
            for lead in range(min(self._up, len(out))):
                at, phase = divmod(first + lead * self._down, self._up)
                count = len(range(lead, len(out), self._up))
                rows = windows[at + offset :: self._down][:count]
                out[lead :: self._up] = np.einsum("jk,k->j", rows, self._weights[phase])
        else:
            starts, phases = np.divmod(
                first + self._down * np.arange(end - self._outputs), self._up
            )
            out = np.einsum("jk,jk->j", windows[starts + offset], self._weights[phases])
        self._outputs = end
        return out


def resample(samples: Samples, from_rate: int, to_rate: int) -> Samples:
    """A whole recording ``(n,)`` at another rate.

    Raises:
        AudioError: as :class:`Resampler`.
    """
    resampler = Resampler(from_rate, to_rate)
    return np.concatenate([resampler.feed(samples), resampler.finish()])
