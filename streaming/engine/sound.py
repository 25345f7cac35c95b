"""One recording on its way to a client: settings in, sound out, as fast as it is wanted."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from audiomamba.audio import pcm
from audiomamba.audio.resample import Resampler
from audiomamba.models.wave.synthesizer import Generation
from audiomamba.streaming.protocol import events
from audiomamba.streaming.protocol.settings import GenerationSettings

__all__ = ["Sound"]

MOST_BYTES = 1 << 20
"""Sound that may wait for a client; past it the model waits too."""
LEAD_S = 0.5
"""How far ``pace: realtime`` is ahead of the clock: what a player needs to start with."""
Ended = Literal["complete", "cancelled", "error"]


class Sound:
    """Made by :meth:`SoundEngine.open`.

    ``credit`` to ``take_events`` may be called from any one thread; the rest belongs to the
    engine's.

    Args:
        settings: What the client asked for.
        index: Names it in the frames.
        seed: Of the chance in it.
        generation: What makes it.
        model_rate: Of the generation, Hz.
        now: When it began, in seconds of a monotonic clock.
        notify: Tells the reader that there are events; called from the engine's thread.

    Raises:
        AudioError: the model's rate cannot be resampled to the one that is asked for.
    """

    def __init__(
        self,
        settings: GenerationSettings,
        *,
        index: int,
        seed: int,
        generation: Generation,
        model_rate: int,
        now: float,
        notify: Callable[[], None],
    ) -> None:
        self.settings = settings
        self.generation = generation
        self.cancelled = False
        self.over = False
        self._index = index
        self._began = now
        self._notify = notify
        self._model_rate = model_rate
        self._rate = settings.sample_rate or model_rate
        self._wanted = round(settings.max_s * model_rate)  # samples of the model
        self._resampler = Resampler(model_rate, self._rate)
        self._credit: float | None = settings.credit_s
        self._sent = 0  # samples, of the client's rate
        self._taken = 0  # of those, by the reader
        self._waiting: deque[events.Sound] = deque()
        self._bytes = 0  # of those
        self._last_words: deque[events.Event] = deque()
        self._lock = threading.Lock()
        start = events.GenerationStart(settings.id, index, self._rate, settings.encoding, seed)
        self._first_words: deque[events.Event] = deque([start])

    # What the client may do.

    def credit(self, seconds: float) -> None:
        """Allow so much more to be sent."""
        if self._credit is not None:
            self._credit += seconds

    def cancel(self) -> None:
        """Stop; what was made and not taken is dropped at once."""
        with self._lock:
            self.cancelled = True
            self._waiting.clear()
            self._bytes = 0

    def take_events(self, most: int) -> list[events.Event]:
        """What happened since the last call, with at most so many pieces of sound."""
        with self._lock:
            taken: list[events.Event] = [*self._first_words]
            self._first_words.clear()
            for _ in range(min(most, len(self._waiting))):
                piece = self._waiting.popleft()
                self._bytes -= len(piece.payload)
                self._taken += piece.samples
                taken.append(piece)
            if not self._waiting:
                taken += self._last_words
                self._last_words.clear()
        return taken

    @property
    def empty(self) -> bool:
        """Whether it is over and all of it was taken."""
        return self.over and not (self._first_words or self._waiting or self._last_words)

    # What the engine's thread does.

    def due(self, samples: int, now: float) -> float:
        """Seconds until a block of so many of the model's samples is wanted; infinite where a
        reader or the client has to act first."""
        made_s = (self.generation.position + min(samples, self.left)) / self._model_rate
        if self._bytes >= MOST_BYTES or (self._credit is not None and made_s > self._credit):
            return float("inf")
        if self.settings.pace == "realtime":
            return max(0.0, self._began + made_s - LEAD_S - now)
        return 0.0

    @property
    def left(self) -> int:
        """The model's samples that are still to be made."""
        return self._wanted - self.generation.position

    def accept(self, samples: NDArray[np.float32]) -> None:
        """Take what the model made, ``(n,)``; ends with the last of it."""
        made = self._resampler.feed(samples)
        last = self.left == 0
        if last:
            made = np.concatenate([made, self._resampler.finish()])
        if len(made):
            self._put(made, last)
        if last:
            self.end("complete")

    def end(self, reason: Ended) -> None:
        """Nothing more is made."""
        if self.over:
            return
        with self._lock:
            self.over = True
            samples = self._taken if reason == "cancelled" else self._sent
            self._last_words.append(events.GenerationEnd(self.settings.id, samples, reason))
        self._notify()

    def _put(self, made: NDArray[np.float32], last: bool) -> None:
        payload = pcm.encode(made, self.settings.encoding)
        with self._lock:
            if self.cancelled:
                return
            self._waiting.append(
                events.Sound(
                    self._index,
                    self._rate,
                    self.settings.encoding,
                    self._sent,
                    len(made),
                    payload,
                    last,
                )  # fmt: skip
            )
            self._bytes += len(payload)
            self._sent += len(made)
        self._notify()
