"""What a stream of speech tells its listener. Times are seconds from the stream's first sample."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Event", "Final", "Partial", "Reason", "SpeechEnd", "SpeechStart", "Word"]

Reason = Literal["endpoint", "flush", "finish", "max_length"]


@dataclass(frozen=True, slots=True)
class Word:
    """A recognised word, when it was said, and how sure the model is (0 to 1)."""

    word: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True, slots=True)
class SpeechStart:
    """Somebody began to speak."""

    at: float


@dataclass(frozen=True, slots=True)
class SpeechEnd:
    """Nobody has spoken since ``at``."""

    at: float


@dataclass(frozen=True, slots=True)
class Partial:
    """The hypothesis of an utterance so far: ``stable`` never changes, ``unstable`` may.

    Both are words separated by spaces; ``stable`` ends in a space where something follows it, so
    that ``stable + unstable`` is the whole hypothesis.
    """

    utterance: int
    start: float
    end: float
    stable: str
    unstable: str
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Final:
    """An utterance that will not change any more, and why it ended."""

    utterance: int
    start: float
    end: float
    text: str
    confidence: float
    words: tuple[Word, ...]
    reason: Reason


Event = SpeechStart | SpeechEnd | Partial | Final
