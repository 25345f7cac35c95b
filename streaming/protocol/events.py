"""What a session tells the dialect in front of it, and what a dialect tells its client.

Times are seconds from the first sample of the stream. These are the events of protocol v1 in their
own right; other dialects say the same things in other words. They repeat the shape of what the
decoder emits, because this package imports nothing but the standard library.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from audiomamba.streaming.protocol.settings import Encoding

__all__ = [
    "Checkpoint",
    "Done",
    "Drained",
    "Event",
    "Failed",
    "Final",
    "Flushed",
    "GenerationEnd",
    "GenerationStart",
    "GoAway",
    "Metrics",
    "Parked",
    "Partial",
    "Pong",
    "Problem",
    "Progress",
    "Ready",
    "Snapshot",
    "Sound",
    "SpeechEnd",
    "SpeechStart",
    "Warned",
    "Word",
]


@dataclass(frozen=True, slots=True)
class Word:
    word: str
    start: float
    end: float
    confidence: float
    stable: bool = True  # False only inside a partial


@dataclass(frozen=True, slots=True)
class Ready:
    """The session is open.

    Attributes:
        stream_id: Names the stream in logs.
        model: ``name``, ``hash``, ``sample_rate``, ``frame_ms``, ``look_ahead_ms``.
        limits: What the server refuses beyond.
        features: What of the protocol it offers.
        generator: ``name``, ``sample_rate``, ``labels`` and ``speakers`` of the model that makes
            recordings, and its own ``temperature`` and ``top_p``; None where there is none.
        resume: ``token`` and ``ttl_s``, or None where streams cannot be resumed.
    """

    stream_id: str
    model: dict[str, Any]
    limits: dict[str, Any]
    features: tuple[str, ...]
    resume: dict[str, Any] | None = None
    resumed: bool = False
    resume_at_sample: int = 0
    generator: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Partial:
    """The hypothesis so far: ``stable`` only grows, ``unstable`` may change."""

    utterance: int
    start: float
    end: float
    stable: str
    unstable: str
    words: tuple[Word, ...] = ()
    channel: int = 0


@dataclass(frozen=True, slots=True)
class Final:
    """An utterance that does not change any more."""

    utterance: int
    start: float
    end: float
    text: str
    confidence: float
    words: tuple[Word, ...]
    reason: Literal["endpoint", "flush", "finish", "max_length"]
    channel: int = 0


@dataclass(frozen=True, slots=True)
class SpeechStart:
    at: float
    channel: int = 0


@dataclass(frozen=True, slots=True)
class SpeechEnd:
    at: float
    channel: int = 0


@dataclass(frozen=True, slots=True)
class Flushed:
    """Everything before the flush, ``audio_s`` seconds of the stream, is final."""

    id: str | None
    audio_s: float


@dataclass(frozen=True, slots=True)
class Progress:
    """All that can be made of the first ``samples`` samples has been said."""

    samples: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything said so far follows from ``state``, with which the stream can go on elsewhere.

    Attributes:
        state: Of the session; arrays and JSON's types.
        at_sample: The first sample that is not in it.
        requested: Whether the client asked for it.
    """

    state: dict[str, Any] = field(compare=False)
    at_sample: int
    requested: bool = False


@dataclass(frozen=True, slots=True)
class Parked:
    """The session is over, but its last checkpoint is the whole of it."""


@dataclass(frozen=True, slots=True)
class Drained:
    """The last final is out; the session is over."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The session broke, which is our fault; ``ref`` finds the traceback in the log."""

    ref: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Audio before sample ``at_sample`` will not be asked for again."""

    token: str
    at_sample: int
    ttl_s: float


@dataclass(frozen=True, slots=True)
class Metrics:
    received_s: float
    decoded_s: float
    lag_s: float
    buffered_s: float
    rtf: float
    step_ms_p50: float
    batch: int
    state_bytes: int


@dataclass(frozen=True, slots=True)
class GenerationStart:
    """A recording is being made; ``index`` names it in the frames that carry its sound."""

    id: str
    index: int
    sample_rate: int
    encoding: Encoding
    seed: int


@dataclass(frozen=True, slots=True)
class Sound:
    """The next samples of a recording, mono, in its encoding."""

    index: int
    sample_rate: int
    encoding: Encoding
    first_sample: int
    samples: int
    payload: bytes
    last: bool = False


@dataclass(frozen=True, slots=True)
class GenerationEnd:
    """A recording is over after so many ``samples``."""

    id: str
    samples: int
    reason: Literal["complete", "cancelled", "error"]


@dataclass(frozen=True, slots=True)
class Warned:
    """The stream goes on, but something is not as wished."""

    code: str
    message: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Problem:
    """A request was refused; a fatal one is followed by the close."""

    code: str
    message: str
    fatal: bool = False
    retry_after_s: float | None = None
    ref: str | None = None


@dataclass(frozen=True, slots=True)
class GoAway:
    """The server closes in ``in_s`` seconds."""

    reason: Literal["drain", "max_session"]
    in_s: float
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Pong:
    t: float | None


@dataclass(frozen=True, slots=True)
class Done:
    """The last event of a stream."""

    reason: Literal["finished", "cancelled"]
    audio_s: float
    finals: int


Event = (
    Ready | Partial | Final | SpeechStart | SpeechEnd | Flushed | Progress | Checkpoint | Parked
    | Drained | Failed | Snapshot | Metrics | GenerationStart | Sound | GenerationEnd | Warned
    | Problem | GoAway | Pong | Done
)  # fmt: skip
