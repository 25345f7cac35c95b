"""From words on the decoder's frames to a stream's events: when speech starts, pauses and ends.

Every decoder writes words with frames; this is what they share: times, endpoints, and the rule that
what was called stable is never taken back.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from audiomamba.errors import ConfigError
from audiomamba.text.confidence import calibrated
from audiomamba.text.endpoint import Ending, EndRule
from audiomamba.text.events import Event, Final, Partial, Reason, SpeechEnd, SpeechStart, Word

__all__ = ["LONGEST_WORD", "DecoderConfig", "Spoken", "Utterances", "texts"]

LONGEST_WORD = 64
"""Letters; what goes on beyond is taken as a new word, so that memory stays bounded."""


@dataclass(kw_only=True, frozen=True, slots=True)
class DecoderConfig:
    """Times and endpoints."""

    frame_s: float = 0.04  # seconds from one frame to the next
    emission_delay_s: float = 0.0  # seconds from a sound to its piece; taken off all times
    start_delay_s: float = 0.0  # seconds from a word's beginning to its first piece
    endpointing: bool = True  # close utterances at pauses; else only when asked to
    silence_s: float = 0.6  # pause that ends an utterance, whatever `ends` says
    ends: EndRule | None = None  # ends one earlier, where the model expects its end
    min_speech_s: float = 0.1  # an utterance shorter than this waits for twice the pause
    max_utterance_s: float = 30.0  # an utterance is closed after this, at a word's end
    threshold: float = 0.5  # probability from which a frame is speech and a word is believed
    pre_roll_s: float = 0.0  # how long before its first word an utterance is said to start
    confidence_scale: float = 1.0  # of words: text/confidence.py

    def __post_init__(self) -> None:
        for name in ("frame_s", "silence_s", "max_utterance_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"decoder: {name} must be above 0, got {getattr(self, name)}")
        for name in ("emission_delay_s", "start_delay_s", "min_speech_s", "pre_roll_s"):
            if not getattr(self, name) >= 0:
                raise ConfigError(
                    f"decoder: {name} must not be negative, got {getattr(self, name)}"
                )
        if not 0 < self.confidence_scale <= 10:
            raise ConfigError(
                f"decoder: confidence_scale must be in 0..10, got {self.confidence_scale}"
            )
        if not 0 <= self.threshold <= 1:
            raise ConfigError(f"decoder: threshold must be in 0..1, got {self.threshold}")


@dataclass(slots=True)
class Spoken:
    """A word while it is written: frames of its first and last piece, worst log-probability."""

    text: str
    first: int
    last: int
    score: float


class Utterances:
    """Numbers utterances, and says what becomes of their words.

    Noise, and music above all, is heard as words too, but hardly ever as sure ones. So an
    utterance is announced when a word of it is as sure as ``threshold`` squared; else it is none.

    Attributes:
        number: Of the utterance that is open, or comes next.
        ended: Frame after the last word of the utterance before.
        ending: What the model expects.
    """

    def __init__(self, config: DecoderConfig) -> None:
        self.config = config
        self.number = 0
        self.ended = 0
        self.ending = Ending(config.ends, config.frame_s)
        # A word is as sure as its worst piece, so less than a frame of speech is.
        self._sure = 2 * float(np.log(max(config.threshold, 1e-9))) - 1e-6
        # A word is heard so long after it began: only then is the pause before it known to be one.
        self._unheard = round(config.start_delay_s / config.frame_s)
        self._silence = max(1, round(config.silence_s / config.frame_s))
        pause_s = config.ends.pause_s if config.ends is not None else config.silence_s
        self._expected = max(1, round(pause_s / config.frame_s))
        self._min_speech = round(config.min_speech_s / config.frame_s)
        self._longest = max(1, round(config.max_utterance_s / config.frame_s))

    def is_believed(self, words: Sequence[Spoken]) -> bool:
        """Whether one of the words is sure enough for this to be speech."""
        return any(word.score >= self._sure for word in words)

    def is_over(self, first: int, last: int, frame: int, *, expected: bool = False) -> bool:
        """Whether the pause from ``last`` up to ``frame`` ends an utterance begun at ``first``.

        ``expected``: the model expects its end there, so that a shorter pause is enough.
        """
        # Twice, not never: CTC writes many a short word ("no") in a single frame.
        times = 1 if last - first >= self._min_speech - 1 else 2
        pause = times * self._expected if expected else self._unheard + times * self._silence
        return self.config.endpointing and frame - last - 1 >= pause

    def shortest_pause(self, *, expected: bool = False) -> int:
        """Frames without a piece that any utterance takes to be over."""
        return self._expected if expected else self._unheard + self._silence

    def is_long(self, first: int, frame: int) -> bool:
        """Whether an utterance begun at ``first`` is closed where the next word begins."""
        return frame - first >= self._longest

    def open(self, first: int) -> SpeechStart:
        """Say that somebody began to speak."""
        return SpeechStart(self._start(first))

    def partial(self, words: Sequence[Spoken], stable: int) -> Partial:
        """The hypothesis ``words``, of which the first ``stable`` will not change."""
        return Partial(
            self.number,
            self._start(words[0].first if words else self.ended),
            self.time(words[-1].last + 1 if words else self.ended),
            *texts(words, stable),
            _shown(self._timed(words)),
        )

    def close(self, words: Sequence[Spoken], reason: Reason) -> list[Event]:
        """End the utterance of ``words``, at least one; the next one has another number."""
        events: list[Event] = []
        timed = _shown(self._timed(words))
        start, end = self._start(words[0].first), self.time(words[-1].last + 1)
        if timed:
            confidence = float(np.mean([word.confidence for word in timed]))
            text = " ".join(word.word for word in timed)
            events.append(Final(self.number, start, end, text, confidence, timed, reason))
        self.number += 1
        self.ended = words[-1].last + 1
        return [*events, SpeechEnd(end)]

    def _timed(self, words: Sequence[Spoken]) -> list[Word]:
        """Words in seconds of the audio. None begins before the one before it has ended."""
        out: list[Word] = []
        ended = self.ended
        for word in words:
            start, end = self._begin(word.first, ended), word.last + 1
            confidence = calibrated(math.exp(word.score), self.config.confidence_scale)
            out.append(Word(word.text, self.time(start), self.time(end), confidence))
            ended = end
        return out

    def _begin(self, first: int, ended: int) -> float:
        """Frame where a word begins: its first piece comes when half of it is said."""
        return min(first, max(ended, first - self.config.start_delay_s / self.config.frame_s))

    def _start(self, first: int) -> float:
        """Seconds where an utterance starts: never before the end of the one before."""
        begin = self._begin(first, self.ended)
        rolled = self.time(begin - self.config.pre_roll_s / self.config.frame_s)
        return min(self.time(begin), max(rolled, self.time(self.ended)))

    def time(self, frame: float) -> float:
        """Seconds of a frame's start in the audio; from a count, so that nothing adds up."""
        return round(max(0.0, frame * self.config.frame_s - self.config.emission_delay_s), 3)


def texts(words: Sequence[Spoken], stable: int) -> tuple[str, str]:
    """A hypothesis' stable and unstable text, as a ``Partial`` has it."""
    fixed = " ".join(word.text for word in words[:stable] if word.text)
    loose = " ".join(word.text for word in words[stable:] if word.text)
    return fixed + (" " if fixed and loose else ""), loose


def _shown(words: Sequence[Word]) -> tuple[Word, ...]:
    """A word of which no letter has come yet is not shown."""
    return tuple(word for word in words if word.word)
