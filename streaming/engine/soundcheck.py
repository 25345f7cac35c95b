"""What a client is told of its sound, each at most once: that it clips, that nobody speaks."""

import numpy as np

from audiomamba.streaming.engine.model import FloatArray
from audiomamba.streaming.protocol import events

__all__ = ["SoundCheck"]

FULL = 0.9999  # magnitude from which a sample is as large as it can be; 16 bits reach 0.99997
CLIPPED = 0.01  # of a second's samples from which its sound is too loud
NO_SPEECH_S = 30.0


class SoundCheck:
    """Looks at the samples of one stream as they are decoded, in whole seconds of them.

    Args:
        frame_rate: Samples a second, of all channels together.
    """

    def __init__(self, frame_rate: int) -> None:
        self._second = frame_rate
        self._seen = 0  # samples of the second that is being counted
        self._full = 0  # of those, as large as can be
        self._seconds = 0  # without a word
        self._clips = self._spoke = self._silent = False

    def spoken(self) -> None:
        """Somebody was heard to speak."""
        self._spoke = True

    def look(self, samples: FloatArray) -> list[events.Warned]:
        """Take samples ``(n,)``, interleaved; returns what is new to be said of them."""
        if self._clips and (self._spoke or self._silent):
            return []
        warnings: list[events.Warned] = []
        while len(samples):
            part = samples[: self._second - self._seen]
            samples = samples[len(part) :]
            self._seen += len(part)
            self._full += int(np.count_nonzero(np.abs(part) >= FULL))
            if self._seen == self._second:
                warnings += self._end_second()
        return warnings

    def _end_second(self) -> list[events.Warned]:
        warnings: list[events.Warned] = []
        self._seconds += 1
        if not self._clips and self._full >= CLIPPED * self._second:
            self._clips = True
            share = self._full / self._second
            message = f"the sound is too loud: {share:.0%} of a second's samples are cut off"
            warnings.append(events.Warned("clipping", message))
        if not (self._spoke or self._silent) and self._seconds >= NO_SPEECH_S:
            self._silent = True
            message = f"no words were heard in the first {NO_SPEECH_S:.0f} s"
            warnings.append(events.Warned("no_speech", message))
        self._seen = self._full = 0
        return warnings
