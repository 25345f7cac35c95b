"""The server's end of a vosk-server connection.

The whole protocol is four kinds of message: a configuration, audio, ``reset`` and ``eof``. Its
clients wait for exactly one reply after each audio message, so replies form a queue here: each is
sent when what it answers has been decoded, or with the hypothesis of the moment when that takes
longer than a client should wait.
"""

import json
from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from audiomamba.errors import Overloaded, ProtocolError
from audiomamba.streaming.protocol import events, requests
from audiomamba.streaming.protocol.carry import SampleCarry
from audiomamba.streaming.protocol.dialect import Close, Outgoing, internal_error
from audiomamba.streaming.protocol.settings import AudioSettings, StreamSettings
from audiomamba.streaming.protocol.vosk import wire

__all__ = ["REPLY_WITHIN_S", "Machine", "State", "VoskDefaults"]

REPLY_WITHIN_S = 0.25
EOF_FRAME_BYTES = 32
"""A binary frame up to this size may be an ``eof`` in the wrong kind of frame."""
FRAME_BYTES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class VoskDefaults:
    """What holds for a client that sends no configuration."""

    sample_rate: int = 8000  # Hz
    words: bool = True
    alternatives: int = 0

    @classmethod
    def checked(cls, values: dict[str, Any], now: "VoskDefaults") -> "VoskDefaults":
        """The client's ``config`` over what holds ``now``.

        Raises:
            ProtocolError: ``bad_audio``: the rate is not one of 8000..48000 Hz.
        """
        rate = values.get("sample_rate", now.sample_rate)
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 8e3 <= rate <= 48e3:
            raise ProtocolError(
                f"config.sample_rate: wants 8000..48000, got {str(rate)[:40]}",
                code="bad_audio",
                close_code=4406,
            )
        most = values.get("max_alternatives", now.alternatives)
        return cls(
            sample_rate=round(rate),
            words=bool(values.get("words", now.words)),
            alternatives=most if isinstance(most, int) else now.alternatives,
        )


class State(Enum):
    NEW = auto()  # no audio yet; a configuration still applies
    OPENING = auto()
    RUN = auto()
    DRAIN = auto()  # eof came
    CLOSED = auto()


class _Answers(Enum):
    AUDIO = auto()
    RESET = auto()
    OTHER = auto()
    EOF = auto()


@dataclass(slots=True)
class _Reply:
    """One reply that is owed."""

    answers: _Answers
    due: float  # when it goes out at the latest; infinity where it has to be complete
    samples: int = 0  # decoded so far, for it to go out
    ready: bool = False


class Machine:
    """vosk-server's protocol, without I/O; see :mod:`audiomamba.streaming.protocol.dialect`."""

    name = "vosk"

    def __init__(self, now: float, defaults: VoskDefaults | None = None) -> None:
        self.state = State.NEW
        self._config = defaults or VoskDefaults()
        self._carry = SampleCarry(FRAME_BYTES)
        self._owed: deque[_Reply] = deque()
        self._outgoing: list[Outgoing] = []
        self._finals: list[events.Final] = []
        self._hypothesis = ""
        self._samples = 0

    @property
    def closed(self) -> bool:
        return self.state is State.CLOSED

    @property
    def has_news(self) -> bool:
        return bool(self._outgoing)

    @property
    def deadline(self) -> float | None:
        due = self._owed[0].due if self._owed and not self.closed else float("inf")
        return due if due < float("inf") else None

    def receive(self, frame: str | bytes, now: float) -> list[requests.Request]:
        if self.state in (State.CLOSED, State.DRAIN):
            return []
        try:
            values = _as_object(frame)
            if values is not None and values.get("eof"):
                return self._eof()
            if isinstance(frame, bytes):
                return self._audio(frame, now)
            return self._text(frame, values or {}, now)
        except ProtocolError as error:
            self.fail(error, now)
            return []

    def tick(self, now: float) -> list[requests.Request]:
        while self.deadline is not None and self.deadline <= now:
            self._owed[0].ready = True
            self._answer()
        return []

    @property
    def resumable(self) -> bool:
        return False

    def opened(self, ready: events.Ready, now: float, past: dict[str, Any] | None = None) -> None:
        self._move(State.OPENING, State.RUN)

    def past(self) -> dict[str, Any]:
        return {}

    def lost(self) -> None:
        self.state = State.CLOSED

    def fail(self, error: ProtocolError | Overloaded, now: float) -> None:
        """The protocol has no word for an error: the close code and its reason are all there is."""
        close_code = 1013 if isinstance(error, Overloaded) else error.close_code
        if self.closed or close_code is None:
            return
        self.state = State.CLOSED
        self._outgoing.append(Close(close_code, str(error)[:120]))

    def emit(self, event: events.Event, now: float) -> None:
        if self.state not in (State.RUN, State.DRAIN):
            return
        match event:
            case events.Partial():
                self._hypothesis = f"{event.stable}{event.unstable}".strip()
            case events.Final():
                self._finals.append(event)
                self._hypothesis = ""
            case events.Progress():
                for reply in self._owed:
                    decoded = reply.answers is _Answers.AUDIO and reply.samples <= event.samples
                    reply.ready = reply.ready or decoded
            case events.Flushed():
                reset = next(r for r in self._owed if r.answers is _Answers.RESET and not r.ready)
                self._let_go(until=reset)
            case events.Failed():
                self.fail(internal_error(event), now)
            case events.Drained():
                self._let_go(until=self._owed[-1])
        self._answer()

    def outgoing(self) -> list[Outgoing]:
        out, self._outgoing = self._outgoing, []
        return out

    def _text(self, text: str, values: dict[str, Any], now: float) -> list[requests.Request]:
        if "config" in text:
            config = values.get("config")
            if self.state is State.NEW and isinstance(config, dict):
                self._config = VoskDefaults.checked(config, self._config)
            return []
        if values.get("reset"):
            if self.state is State.NEW:
                self._outgoing.append(self._result([]))
                return []
            self._owed.append(_Reply(_Answers.RESET, float("inf")))
            return [requests.Flush(None)]
        self._owed.append(_Reply(_Answers.OTHER, now, ready=True))
        self._answer()
        return []

    def _audio(self, data: bytes, now: float) -> list[requests.Request]:
        wanted: list[requests.Request] = []
        if self.state is State.NEW:
            audio = AudioSettings(sample_rate=self._config.sample_rate)
            self._move(State.NEW, State.OPENING)
            wanted.append(requests.Open(StreamSettings(audio=audio, progress=True)))
        samples = self._carry.take(data)
        self._samples += len(samples) // FRAME_BYTES
        self._owed.append(_Reply(_Answers.AUDIO, now + REPLY_WITHIN_S, self._samples))
        if samples:
            wanted.append(requests.Audio(samples))
        return wanted

    def _eof(self) -> list[requests.Request]:
        if self.state is State.NEW:  # nothing was said, so there is no session to drain
            self._close_with(self._result([]))
            return []
        self._move(State.RUN, State.DRAIN)
        self._owed.append(_Reply(_Answers.EOF, float("inf")))
        return [requests.Finish()]

    def _let_go(self, *, until: _Reply) -> None:
        for reply in self._owed:
            reply.ready = True
            if reply is until:
                return

    def _answer(self) -> None:
        """Send the replies at the head of the queue that are ready."""
        while self._owed and self._owed[0].ready and not self.closed:
            reply = self._owed.popleft()
            match reply.answers:
                case _Answers.AUDIO if not self._finals:
                    self._outgoing.append(wire.partial(self._hypothesis))
                case _Answers.OTHER:
                    self._outgoing.append(wire.partial(""))
                case _Answers.EOF:
                    self._close_with(self._result(self._finals))
                case _:
                    self._outgoing.append(self._result(self._finals))
                    self._finals = []

    def _result(self, finals: list[events.Final]) -> str:
        as_written = wire.alternatives if self._config.alternatives > 0 else wire.final
        return as_written(finals, words=self._config.words)

    def _close_with(self, reply: str) -> None:
        self.state = State.CLOSED
        self._outgoing += [reply, Close(1000)]

    def _move(self, wanted: State, to: State) -> None:
        if self.state is not wanted:
            raise RuntimeError(f"{to.name} after {self.state.name}: the driver is wrong")
        self.state = to


def _as_object(frame: str | bytes) -> dict[str, Any] | None:
    """The JSON object in a frame, or None: not JSON, another value, or audio."""
    if isinstance(frame, bytes) and len(frame) > EOF_FRAME_BYTES:
        return None
    try:
        values = json.loads(frame)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None
