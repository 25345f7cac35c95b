"""What one stream did, from its opening to its end: what metrics and the log are made of.

A connection tells its account what happened; nothing here is computed for a frame of audio beyond
one comparison, and the rest only when an event is sent or somebody scrapes.
"""

import logging
from collections import deque
from typing import Protocol

from audiomamba.streaming.protocol import AudioSettings, events

__all__ = ["Account", "Arrivals", "Heard", "Observer", "outcome"]

log = logging.getLogger("audiomamba.stream")

MARK_S = 0.1
MAX_MARKS = 512
"""Marks of arrival that are kept: 51 s of audio, more than a stream may have waiting."""

OUTCOMES = {
    1000: "finished",
    1011: "failed",
    1012: "restarted",
    1013: "overloaded",
    4408: "timeout",
    4409: "superseded",
    4413: "slow_reader",
}
"""Close codes to how a stream ended; others are ``refused``."""


class Heard(Protocol):
    """What an account wants to know of a session."""

    audio: AudioSettings
    received: int  # samples
    decoded: int


class Observer(Protocol):
    """Who is told of all accounts."""

    def stream_opened(self, account: "Account") -> None:
        """A session was opened."""

    def stream_ended(self, account: "Account", outcome: str) -> None:
        """Its connection is over; the account does not change any more."""

    def first_partial(self, seconds: float) -> None:
        """From the arrival of an utterance's first sound to its first partial."""

    def final(self, seconds: float) -> None:
        """From the arrival of an utterance's last sound to its final."""

    def first_sound(self, seconds: float) -> None:
        """From the start of a generation to its first sound."""


class Arrivals:
    """When a sample came in, to a tenth of a second of audio; of constant size."""

    def __init__(self, sample_rate: int) -> None:
        self._spacing = round(sample_rate * MARK_S)
        self._next = 1
        self._marks: deque[tuple[int, float]] = deque(maxlen=MAX_MARKS)

    def note(self, received: int, now: float) -> None:
        """``received`` samples have come by now."""
        if received >= self._next:
            self._marks.append((received, now))
            self._next = received + self._spacing

    def when(self, sample: float) -> float | None:
        """When the sample came; None when it is older than what is kept, or not marked yet."""
        earlier = [now for received, now in self._marks if received >= sample]
        return earlier[0] if earlier else None


class Account:
    """The account of one stream.

    Args:
        stream_id: Names it in the log; never in metrics.
        dialect: It speaks.
        observer: Told of what happens.
        log_text: Whether what was said may be logged.
    """

    def __init__(
        self, stream_id: str, dialect: str, observer: Observer, *, log_text: bool = False
    ) -> None:
        self.stream_id = stream_id
        self.dialect = dialect
        self.task = "transcribe"
        self.dropped_s = 0.0
        self.generated_s = 0.0
        self.finals = 0
        self.opened_at: float | None = None
        self._observer = observer
        self._log_text = log_text
        self._session: Heard | None = None
        self._before = 0, 0  # samples received and decoded in earlier connections
        self._arrivals: Arrivals | None = None
        self._utterance = -1  # of the last first partial
        self._reference: str | None = None
        self._silent_since: float | None = None  # a generation has begun and made no sound yet

    @property
    def received_s(self) -> float:
        """Audio that came in this connection, gaps and all, in seconds."""
        return self._seconds(self._session.received - self._before[0]) if self._session else 0.0

    @property
    def decoded_s(self) -> float:
        """Audio that the engine took meanwhile."""
        return self._seconds(self._session.decoded - self._before[1]) if self._session else 0.0

    @property
    def lag_s(self) -> float:
        """Audio that came and was not taken yet."""
        return (
            self._seconds(self._session.received - self._session.decoded) if self._session else 0.0
        )

    def opened(self, session: Heard, now: float) -> None:
        """The stream has a session."""
        self._session = session
        self._before = session.received, session.decoded
        self._arrivals = Arrivals(session.audio.sample_rate)
        self.opened_at = now
        self._observer.stream_opened(self)
        log.info("stream started", extra=self._fields("stream_start"))

    def fed(self, now: float) -> None:
        """Audio went into the session."""
        if self._session is not None and self._arrivals is not None:
            self._arrivals.note(self._session.received, now)

    def said(self, event: events.Event, now: float) -> None:
        """The session said something."""
        match event:
            case events.Partial() if event.utterance != self._utterance:
                self._utterance = event.utterance
                if (waited := self._since(event.start, now)) is not None:
                    self._observer.first_partial(waited)
            case events.Final():
                self.finals += 1
                if (waited := self._since(event.end, now)) is not None:
                    self._observer.final(waited)
                if self._log_text:
                    log.info("final: %s", event.text, extra=self._fields("final"))
            case events.Warned("audio_dropped"):
                self.dropped_s += event.details["to"] - event.details["from"]
            case events.GenerationStart():
                self._silent_since = now
            case events.Sound():
                self.generated_s += event.samples / event.sample_rate
                if self._silent_since is not None:
                    self._observer.first_sound(now - self._silent_since)
                    self._silent_since = None
            case events.Failed():
                self._reference = event.ref

    def ended(self, code: int | None, reason: str, now: float) -> None:
        """The connection is over: closed by us with ``code``, or None where the client left."""
        fields = self._fields("stream_end") | {"code": code, "outcome": outcome(code, reason)}
        if self.opened_at is None:
            log.info("connection ended before a stream: %s", reason or code, extra=fields)
            return
        fields |= {
            "seconds": round(now - self.opened_at, 3),
            "audio_s": round(self.received_s, 3),
            "decoded_s": round(self.decoded_s, 3),
            "finals": self.finals,
        }
        if self._reference is not None:
            fields["ref"] = self._reference
        self._observer.stream_ended(self, outcome(code, reason))
        log.info("stream ended: %s", fields["outcome"], extra=fields)

    def _seconds(self, samples: int) -> float:
        assert self._session is not None
        return samples / self._session.audio.sample_rate

    def _since(self, at_s: float, now: float) -> float | None:
        if self._session is None or self._arrivals is None:
            return None
        came = self._arrivals.when(at_s * self._session.audio.sample_rate)
        return None if came is None else now - came

    def _fields(self, event: str) -> dict[str, object]:
        return {"stream_id": self.stream_id, "dialect": self.dialect, "event": event}


def outcome(code: int | None, reason: str) -> str:
    """How a stream ended, in one of a few words."""
    if code is None:
        return "vanished"
    if code == 1000 and reason == "cancelled":
        return "cancelled"
    return OUTCOMES.get(code, "refused")
