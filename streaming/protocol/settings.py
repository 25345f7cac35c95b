"""What a client may choose for its stream, in terms every dialect shares."""

from dataclasses import dataclass, field
from typing import Literal

__all__ = [
    "BYTES_PER_SAMPLE",
    "AudioSettings",
    "ChannelMode",
    "Encoding",
    "EndpointSettings",
    "GenerationSettings",
    "Overflow",
    "Pace",
    "ResultSettings",
    "Resume",
    "StreamSettings",
    "Task",
]

Encoding = Literal["linear16", "float32", "mulaw", "alaw"]
ChannelMode = Literal["mix", "first"]
Overflow = Literal["block", "drop_oldest", "fail"]
Task = Literal["transcribe", "generate", "both"]
Pace = Literal["realtime", "fast"]

BYTES_PER_SAMPLE: dict[Encoding, int] = {"linear16": 2, "float32": 4, "mulaw": 1, "alaw": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioSettings:
    """Format of the audio that will come; little-endian, channels interleaved."""

    encoding: Encoding = "linear16"
    sample_rate: int = 16_000  # Hz
    channels: int = 1
    channel_mode: ChannelMode = "mix"  # how several channels become the one that is heard

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of all channels."""
        return BYTES_PER_SAMPLE[self.encoding] * self.channels


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultSettings:
    """What is reported, and how often."""

    interim: bool = True  # partial results
    interim_ms: int = 200  # shortest time between two of them
    words: bool = True  # words with times
    confidence: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSettings:
    """When an utterance ends."""

    mode: Literal["auto", "none"] = "auto"
    silence_ms: int | None = None  # a pause that does; None = as the model finds best
    min_speech_ms: int = 100
    pre_roll_ms: int = 200
    max_utterance_s: float = 30.0
    threshold: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """The stream a client wants to go on with."""

    token: str
    last_seq: int = 0  # of the last event the client saw


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationSettings:
    """One recording that a client wants made."""

    id: str
    label: str | None = None  # what; one of the model's
    voice: str | None = None  # whose; one of the model's speakers
    encoding: Encoding = "linear16"
    sample_rate: int | None = None  # Hz; None = the model's own
    max_s: float = 10.0
    seed: int | None = None  # None = a new one, which is told
    temperature: float | None = None  # None = the model's own, as below
    top_p: float | None = None
    credit_s: float | None = 10.0  # sound that may be sent before more is asked for; None = any
    pace: Pace = "fast"


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSettings:
    """Everything that is fixed when a stream opens."""

    task: Task = "transcribe"
    audio: AudioSettings = field(default_factory=AudioSettings)
    results: ResultSettings = field(default_factory=ResultSettings)
    endpointing: EndpointSettings = field(default_factory=EndpointSettings)
    model: str | None = None  # None = the server's own choice
    language: str | None = None
    look_ahead_ms: int | None = None
    overflow: Overflow = "block"
    token: str | None = None  # of a client that could not send it in a header
    resume: Resume | None = None
    on_resume_fail: Literal["fresh", "fail"] = "fresh"
    progress: bool = False  # say how far it is after every piece of audio; else a block at a time
