"""What a server says, as dataclasses.

Times are seconds from the first sample that was fed, also across a reconnect (``Origin`` shifts
them where the server had to begin anew). ``Reconnecting`` and ``Reconnected`` are the client's own.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from audiomamba.errors import ProtocolError
from audiomamba.streaming.protocol.events import Word

__all__ = [
    "Done",
    "Event",
    "Final",
    "Flushed",
    "GoAway",
    "Metrics",
    "Origin",
    "Partial",
    "Pong",
    "Ready",
    "Reconnected",
    "Reconnecting",
    "Refused",
    "Snapshot",
    "SpeechEnd",
    "SpeechStart",
    "Warned",
    "Word",
    "parse",
]


@dataclass(frozen=True, slots=True)
class Ready:
    """The server took the stream."""

    stream_id: str
    protocol: str
    model: Mapping[str, Any]
    limits: Mapping[str, Any]
    token: str | None
    resumed: bool
    resume_at_sample: int
    features: tuple[str, ...]
    seq: int


@dataclass(frozen=True, slots=True)
class Partial:
    """The hypothesis so far: ``stable`` only ever grows, ``unstable`` may change."""

    utterance: int
    start: float
    end: float
    stable: str
    unstable: str
    words: tuple[Word, ...]
    channel: int
    seq: int


@dataclass(frozen=True, slots=True)
class Final:
    """An utterance that will not change any more."""

    utterance: int
    start: float
    end: float
    text: str
    confidence: float | None
    words: tuple[Word, ...]
    reason: str
    channel: int
    seq: int


@dataclass(frozen=True, slots=True)
class SpeechStart:
    at: float
    channel: int
    seq: int


@dataclass(frozen=True, slots=True)
class SpeechEnd:
    at: float
    channel: int
    seq: int


@dataclass(frozen=True, slots=True)
class Flushed:
    """All audio before the flush ``id`` is final."""

    id: str
    audio_s: float
    seq: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Audio before sample ``at_sample`` (of the server's count) will not be asked for again."""

    token: str
    at_sample: int
    seq: int


@dataclass(frozen=True, slots=True)
class Metrics:
    """Seconds of audio received, decoded and waiting; ``extra`` holds the other fields."""

    received_s: float
    decoded_s: float
    lag_s: float
    buffered_s: float
    extra: Mapping[str, Any]
    seq: int


@dataclass(frozen=True, slots=True)
class Warned:
    """The stream goes on, but something was not as wished (``lagging``, ``clipping``, …)."""

    code: str
    message: str
    seq: int


@dataclass(frozen=True, slots=True)
class Refused:
    """An ``error`` event; a fatal one is followed by the close."""

    code: str
    message: str
    fatal: bool
    retry_after_s: float | None
    seq: int


@dataclass(frozen=True, slots=True)
class GoAway:
    """The server will close in ``in_s`` seconds; the client reconnects with ``token``."""

    reason: str
    in_s: float
    token: str | None
    seq: int


@dataclass(frozen=True, slots=True)
class Pong:
    t: float | None
    seq: int


@dataclass(frozen=True, slots=True)
class Done:
    """The last event of a stream."""

    reason: str
    audio_s: float
    finals: int
    seq: int


@dataclass(frozen=True, slots=True)
class Reconnecting:
    """The connection broke; try number ``attempt`` follows in ``in_s`` seconds."""

    reason: str
    attempt: int
    in_s: float


@dataclass(frozen=True, slots=True)
class Reconnected:
    """The stream goes on. ``resumed`` is False where the server had to begin a new one;
    ``lost_s`` seconds of audio were no longer held by either side."""

    resumed: bool
    lost_s: float


Event = (
    Ready | Partial | Final | SpeechStart | SpeechEnd | Flushed | Snapshot | Metrics | Warned
    | Refused | GoAway | Pong | Done | Reconnecting | Reconnected
)  # fmt: skip


@dataclass(slots=True)
class Origin:
    """Where the server's present stream begins in the client's count.

    A server that cannot resume starts again at zero; its times and utterance numbers are
    shifted so that the user of the client sees one stream.
    """

    seconds: float = 0.0
    utterance: int = 0


@dataclass(frozen=True, slots=True)
class _Fields:
    """The fields of one message, read with a check of their type."""

    values: Mapping[str, Any]
    origin: Origin = field(default_factory=Origin)

    def text(self, name: str, default: str | None = None) -> str:
        value = self.values.get(name, default)
        return value if isinstance(value, str) else self._refuse(name, "a string")

    def number(self, name: str, default: float | None = None) -> float:
        value = self.values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._refuse(name, "a number")
        return float(value)

    def count(self, name: str, default: int | None = None) -> int:
        value = self.values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int):
            return int(self._refuse(name, "an integer"))
        return value

    def time(self, name: str) -> float:
        return self.number(name) + self.origin.seconds

    def optional(self, name: str) -> float | None:
        return None if self.values.get(name) is None else self.number(name)

    def mapping(self, name: str) -> Mapping[str, Any]:
        value = self.values.get(name, {})
        return value if isinstance(value, dict) else {}

    def words(self) -> tuple[Word, ...]:
        items = [_Fields(item, self.origin) for item in self.values.get("words") or ()]
        return tuple(
            Word(
                w.text("word"),
                w.time("start"),
                w.time("end"),
                w.number("conf", 1.0),
                bool(w.values.get("stable", True)),
            )
            for w in items
        )

    def _refuse(self, name: str, wanted: str) -> Any:
        kind, value = self.values.get("type"), self.values.get(name)
        raise ProtocolError(f"{kind}.{name}: wanted {wanted}, got {value!r}", code="bad_event")


def parse(message: str, origin: Origin | None = None) -> Event | None:
    """Read one text frame of the server.

    Args:
        message: One JSON object with ``type``.
        origin: Where the server's stream begins in the client's count; zero by default.

    Returns:
        The event, or None for a type this client does not know (the protocol says: ignore it).

    Raises:
        ProtocolError: not a JSON object, or a field is missing or of another type.
    """
    try:
        values = json.loads(message)
    except ValueError as error:
        raise ProtocolError(f"event is not JSON: {error}", code="bad_event") from None
    if not isinstance(values, dict):
        raise ProtocolError(f"event is not an object: {message[:40]!r}", code="bad_event")
    origin = origin or Origin()
    f = _Fields(values, origin)
    seq = f.count("seq", 0)
    match values.get("type"):
        case "ready":
            token = f.mapping("resume").get("token")
            return Ready(
                f.text("stream_id", ""), f.text("protocol", "1.0"), f.mapping("model"),
                f.mapping("limits"), token, bool(values.get("resumed", False)),
                f.count("resume_at_sample", 0), tuple(values.get("features") or ()), seq,
            )  # fmt: skip
        case "partial":
            return Partial(
                f.count("utterance") + origin.utterance, f.time("start"), f.time("end"),
                f.text("stable"), f.text("unstable"), f.words(), f.count("channel", 0), seq,
            )  # fmt: skip
        case "final":
            return Final(
                f.count("utterance") + origin.utterance, f.time("start"), f.time("end"),
                f.text("text"), f.optional("confidence"), f.words(), f.text("reason", "endpoint"),
                f.count("channel", 0), seq,
            )  # fmt: skip
        case "speech_start":
            return SpeechStart(f.time("at"), f.count("channel", 0), seq)
        case "speech_end":
            return SpeechEnd(f.time("at"), f.count("channel", 0), seq)
        case "flushed":
            return Flushed(f.text("id", ""), f.number("audio_s", 0.0) + origin.seconds, seq)
        case "snapshot":
            return Snapshot(f.text("token"), f.count("at_sample"), seq)
        case "metrics":
            known = {"type", "seq", "received_s", "decoded_s", "lag_s", "buffered_s"}
            return Metrics(
                f.time("received_s"), f.time("decoded_s"), f.number("lag_s", 0.0),
                f.number("buffered_s", 0.0),
                {k: v for k, v in values.items() if k not in known}, seq,
            )  # fmt: skip
        case "warning":
            return Warned(f.text("code"), f.text("message", ""), seq)
        case "error":
            return Refused(
                f.text("code"), f.text("message", ""), bool(values.get("fatal", False)),
                f.optional("retry_after_s"), seq,
            )  # fmt: skip
        case "go_away":
            return GoAway(f.text("reason", ""), f.number("in_s", 0.0), values.get("token"), seq)
        case "pong":
            return Pong(f.optional("t"), seq)
        case "done":
            audio_s = f.number("audio_s", 0.0) + origin.seconds
            return Done(f.text("reason", "finished"), audio_s, f.count("finals", 0), seq)
    return None
