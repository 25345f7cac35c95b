"""Incremental CTC decoding: log-probabilities a frame in, words with times out.

Greedy: the best piece of each frame, repeats collapsed, blanks dropped. What is written does not
depend on how the frames are cut into calls; memory does not grow with the stream.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiomamba.errors import ConfigError, ShapeError
from audiomamba.text.events import Event, Final, Partial, Reason, SpeechEnd, SpeechStart, Word
from audiomamba.text.vocabulary import BLANK, WORD_START, Vocabulary

__all__ = ["CtcDecoder", "DecoderConfig"]

LONGEST_WORD = 64
"""Letters; what goes on beyond is taken as a new word, so that memory stays bounded."""


@dataclass(kw_only=True, frozen=True, slots=True)
class DecoderConfig:
    """Times and endpoints."""

    frame_s: float = 0.04  # seconds from one frame to the next
    emission_delay_s: float = 0.0  # seconds from a sound to its piece; taken off all times
    endpointing: bool = True  # close utterances at pauses; else only when asked to
    silence_s: float = 0.6  # pause that ends an utterance
    min_speech_s: float = 0.1  # an utterance shorter than this waits for twice the pause
    max_utterance_s: float = 30.0  # an utterance is closed after this, at a word's end

    def __post_init__(self) -> None:
        for name in ("frame_s", "silence_s", "max_utterance_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"decoder: {name} must be above 0, got {getattr(self, name)}")
        for name in ("emission_delay_s", "min_speech_s"):
            if not getattr(self, name) >= 0:
                raise ConfigError(
                    f"decoder: {name} must not be negative, got {getattr(self, name)}"
                )


@dataclass(slots=True)
class _Spoken:
    """A word while it is written: frames of its first and last piece, worst log-probability."""

    text: str
    first: int
    last: int
    score: float


class CtcDecoder:
    """Decodes one stream.

    A word is stable as soon as the next one has begun: greedy decoding never changes a piece that
    it has written, so only the last word can still grow. A word's confidence is the probability of
    its least certain piece: one wrong piece makes the word wrong, so a mean would flatter it.
    """

    def __init__(self, vocabulary: Vocabulary, config: DecoderConfig | None = None) -> None:
        self.config = config or DecoderConfig()
        self._vocabulary = vocabulary
        c = self.config
        self._silence = max(1, round(c.silence_s / c.frame_s))
        self._min_speech = round(c.min_speech_s / c.frame_s)
        self._longest = max(1, round(c.max_utterance_s / c.frame_s))
        self._frame = 0  # frames taken
        self._utterance = 0
        self._previous = BLANK  # of the last frame, for repeats
        self._words: list[_Spoken] = []
        self._changed = False

    def feed(self, log_probs: NDArray[np.float32]) -> list[Event]:
        """Take ``(k, pieces)`` log-probabilities of the next k frames; return what they changed.

        Raises:
            ShapeError: not two axes, or not as many pieces as the vocabulary has.
        """
        if log_probs.ndim != 2 or log_probs.shape[1] != len(self._vocabulary):
            raise ShapeError(
                f"decoder: wants (k, {len(self._vocabulary)}), got {tuple(log_probs.shape)}"
            )
        events: list[Event] = []
        best = log_probs.argmax(1)
        scores = log_probs[np.arange(len(best)), best]
        before = np.concatenate([[self._previous], best[:-1]])
        wrote = np.flatnonzero((best != BLANK) & (best != before))
        held = np.flatnonzero((best != BLANK) & (best == before))
        base = self._frame
        for at in np.union1d(wrote, held).tolist():
            self._close_if_silent(base + at, events)
            if best[at] != before[at]:
                self._write(int(best[at]), base + at, float(scores[at]), events)
            elif self._words:
                self._words[-1].last = base + at
        self._frame = base + len(best)
        if len(best):
            self._previous = int(best[-1])
        self._close_if_silent(self._frame, events)
        if self._changed:
            events.append(self._partial())
            self._changed = False
        return events

    def flush(self) -> list[Event]:
        """Close the utterance now; the stream goes on."""
        return self._close_now("flush")

    def finish(self) -> list[Event]:
        """Close the utterance: no frames will follow."""
        return self._close_now("finish")

    def state(self) -> dict[str, Any]:
        """All that is needed to go on elsewhere, of JSON's types."""
        return {
            "frame": self._frame,
            "utterance": self._utterance,
            "previous": self._previous,
            "words": [asdict(word) for word in self._words],
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self._frame, self._utterance = int(state["frame"]), int(state["utterance"])
        self._previous = int(state["previous"])
        self._words = [_Spoken(**word) for word in state["words"]]
        self._changed = False

    def _write(self, piece: int, frame: int, score: float, events: list[Event]) -> None:
        text = self._vocabulary.pieces[piece]
        begins = not self._words or len(self._words[-1].text) >= LONGEST_WORD
        if begins or text.startswith(WORD_START):
            if self._words and frame - self._words[0].first >= self._longest:
                self._close("max_length", events)
            if not self._words:
                events.append(SpeechStart(self._time(frame)))
            self._words.append(_Spoken(text.removeprefix(WORD_START), frame, frame, score))
        else:
            word = self._words[-1]
            word.text += text
            word.last = frame
            word.score = min(word.score, score)
        self._changed = True

    def _close_if_silent(self, frame: int, events: list[Event]) -> None:
        """Close the utterance if the pause before ``frame`` is long enough."""
        if not self.config.endpointing or not self._words:
            return
        last = self._words[-1].last
        spoken = last - self._words[0].first + 1
        # Twice, not never: CTC writes many a short word ("no") in a single frame.
        pause = self._silence if spoken >= self._min_speech else 2 * self._silence
        if frame - last - 1 >= pause:
            self._close("endpoint", events)

    def _close_now(self, reason: Reason) -> list[Event]:
        events: list[Event] = []
        if self._words:
            self._close(reason, events)
        return events

    def _close(self, reason: Reason, events: list[Event]) -> None:
        words = self._timed()
        text = " ".join(word.word for word in words)
        if text:
            confidence = float(np.mean([word.confidence for word in words]))
            events.append(
                Final(
                    self._utterance, words[0].start, words[-1].end, text, confidence, words, reason
                )
            )
        events.append(SpeechEnd(words[-1].end if words else self._time(self._frame)))
        self._utterance += 1
        self._words = []
        self._changed = False

    def _partial(self) -> Partial:
        words = self._timed()
        stable = " ".join(word.word for word in words[:-1])
        return Partial(
            self._utterance,
            words[0].start if words else self._time(self._frame),
            words[-1].end if words else self._time(self._frame),
            stable + " " if stable else "",
            words[-1].word if words else "",
            words,
        )

    def _timed(self) -> tuple[Word, ...]:
        return tuple(
            Word(
                word.text,
                self._time(word.first),
                self._time(word.last + 1),
                min(1.0, float(np.exp(word.score))),
            )
            for word in self._words
            if word.text
        )

    def _time(self, frame: int) -> float:
        """Seconds of a frame's start in the audio; from an integer, so that nothing adds up."""
        return round(max(0.0, frame * self.config.frame_s - self.config.emission_delay_s), 3)
