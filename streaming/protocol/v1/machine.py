"""The server's end of one ``/v1/stream`` connection."""

from dataclasses import replace
from typing import Any

from audiomamba.errors import Overloaded, ProtocolError
from audiomamba.streaming.protocol import events, requests
from audiomamba.streaming.protocol.carry import SampleCarry
from audiomamba.streaming.protocol.dialect import Close, Outgoing, internal_error
from audiomamba.streaming.protocol.settings import GenerationSettings, StreamSettings
from audiomamba.streaming.protocol.v1 import messages, wire
from audiomamba.streaming.protocol.v1.generations import Generations
from audiomamba.streaming.protocol.v1.journal import Journal
from audiomamba.streaming.protocol.v1.table import REFUSALS, TRANSITIONS, Input, State

__all__ = ["MAX_TEXT_BYTES", "START_WITHIN_S", "Machine"]

MAX_TEXT_BYTES = 65_536
START_WITHIN_S = 10.0

FATAL_CODES = {"bad_message": 4400, "bad_value": 4400, "bad_audio": 4406}
"""Close codes of what is wrong with a ``start``, by the error's code."""

COME_BACK = {1011, 1012, 1013, 4408, 4409, 4413}
"""Close codes after which the token is still good: the stream did nothing wrong."""

HEARING = (messages.Gap, messages.Flush, messages.Update, messages.Snapshot)
"""Messages that make no sense where nothing is transcribed."""

UNSAID = (events.Progress, events.Checkpoint, events.Parked)
"""Events that have no words in v1."""


class Machine:
    """Protocol v1, without I/O; see :class:`audiomamba.streaming.protocol.dialect.Dialect`.

    Args:
        now: Seconds of a monotonic clock; ``start`` has to come within ten of them.
    """

    name = "v1"

    def __init__(self, now: float) -> None:
        self.state = State.NEW
        self.settings = StreamSettings()
        self._start_by = now + START_WITHIN_S
        self._notes: tuple[str, ...] = ()
        self._carry = SampleCarry(1)
        self._outgoing: list[Outgoing] = []
        self._journal = Journal()
        self._samples = 0  # received, of one channel
        self._finals = 0
        self._done = False
        self._drained = False  # the session is, generations are not
        self._generations = Generations()
        self._metrics_s = 0.0  # 0 = off
        self._metrics_at: float | None = None
        self._partial: events.Partial | None = None  # held back until its time has come
        self._partial_at = now  # earliest time of the next partial

    @property
    def closed(self) -> bool:
        return self.state in (State.CLOSED, State.SUSPENDED)

    @property
    def has_news(self) -> bool:
        return bool(self._outgoing)

    @property
    def deadline(self) -> float | None:
        if self.state is State.NEW:
            return self._start_by
        if self.state not in (State.RUN, State.DRAIN):
            return None
        if self._partial is None:
            return self._metrics_at
        return min(self._partial_at, self._metrics_at or self._partial_at)

    def receive(self, frame: str | bytes, now: float) -> list[requests.Request]:
        if self.closed:
            return []
        try:
            return self._text(frame, now) if isinstance(frame, str) else self._binary(frame)
        except ProtocolError as error:
            self.fail(self._as_fatal_if_new(error), now)
            return []

    def tick(self, now: float) -> list[requests.Request]:
        if self.deadline is None or now < self.deadline:
            return []
        if self.state is State.NEW:
            message = f"no start within {START_WITHIN_S:g} s"
            self.fail(ProtocolError(message, code="timeout", close_code=4408), now)
            return []
        if self._partial is not None and now >= self._partial_at:
            self._send_partial(now)
        if self._metrics_at is not None and now >= self._metrics_at:
            self._metrics_at = now + self._metrics_s
            return [requests.Report()]
        return []

    @property
    def resumable(self) -> bool:
        return self._done or self.state in (State.RUN, State.DRAIN, State.SUSPENDED)

    def opened(self, ready: events.Ready, now: float, past: dict[str, Any] | None = None) -> None:
        self._move(Input.OPENED)
        if past is None:
            self._send(ready)
        else:
            self._go_on(ready, past)
        for note in self._notes:
            self._send(events.Warned("unknown_field", note))
        self._metrics_at = now + self._metrics_s if self._metrics_s else None

    def past(self) -> dict[str, Any]:
        return {"journal": self._journal.state(), "finals": self._finals, "done": self._done}

    def lost(self) -> None:
        self._generations.forget()
        if Input.LOST in TRANSITIONS[self.state]:
            self._move(Input.LOST if self.settings.task != "generate" else Input.FATAL)

    def fail(self, error: ProtocolError | Overloaded, now: float) -> None:
        if self.closed:
            return
        if isinstance(error, Overloaded):
            code, close_code, retry = "overloaded", 1013, error.retry_after_s
            problem = events.Problem(code, str(error), fatal=True, retry_after_s=retry)
        else:
            close_code = error.close_code or 0
            problem = events.Problem(error.code, str(error), fatal=bool(close_code))
        if not problem.fatal:
            self._send(problem)
            return
        self._send(problem)
        self._outgoing.append(Close(close_code, problem.code))
        self._move(Input.LOST if self.resumable and close_code in COME_BACK else Input.FATAL)

    def emit(self, event: events.Event, now: float) -> None:
        if Input.EVENT not in TRANSITIONS[self.state] or isinstance(event, UNSAID):
            return  # what a cancelled or failed session still had to say is not wanted
        if isinstance(event, events.Partial):
            self._partial = event if self.settings.results.interim else None
            if self._partial is not None and now >= self._partial_at:
                self._send_partial(now)
            return
        if isinstance(event, events.Failed):
            self.fail(internal_error(event), now)
            return
        if isinstance(event, events.Drained):
            self._drained = True
            self._finish_if_all_is_said()
            return
        if isinstance(event, events.Sound):
            self._outgoing.append(wire.encode_sound(event))
            return
        self._move(Input.EVENT)
        if isinstance(event, events.Final):
            self._partial = None
            self._finals += 1
        self._send(event)
        if isinstance(event, events.GenerationEnd):
            self._generations.over(event.id)
            self._finish_if_all_is_said()

    def outgoing(self) -> list[Outgoing]:
        out, self._outgoing = self._outgoing, []
        return out

    def _go_on(self, ready: events.Ready, past: dict[str, Any]) -> None:
        seen = self.settings.resume.last_seq if self.settings.resume else 0
        self._journal.load(past["journal"], seen)
        self._samples, self._finals = ready.resume_at_sample, int(past["finals"])
        # Numbered as the last event that the client saw: with a number of its own it would hide
        # those that follow from a client that loses this connection too, before they reach it.
        self._outgoing.append(wire.encode(ready, seen, self.settings.results))
        self._outgoing += self._journal.after(seen)
        if past["done"]:
            self._done = True
            self._outgoing.append(Close(1000, "finished"))
            self._move(Input.FINISH)
            self._move(Input.DRAINED)

    def _text(self, text: str, now: float) -> list[requests.Request]:
        size = len(text.encode(errors="surrogatepass"))
        if size > MAX_TEXT_BYTES:
            raise ProtocolError(
                f"a text frame may have {MAX_TEXT_BYTES} bytes, got {size}",
                code="too_big",
                close_code=1009,
            )
        kind, fields, unknown = messages.parse(text)
        self._check(Input[kind.__name__.upper()])
        message = messages.read(kind, fields, self.settings, round(self._metrics_s * 1000))
        notes = tuple(f"{place}: unknown field; ignored" for place in unknown)
        if isinstance(message, messages.Start):
            return self._start(message, notes)
        for note in notes:
            self._send(events.Warned("unknown_field", note))
        return self._control(message, now)

    def _start(self, message: messages.Start, notes: tuple[str, ...]) -> list[requests.Request]:
        self._move(Input.START)
        self.settings = message.settings
        self._carry = SampleCarry(message.settings.audio.frame_bytes)
        self._metrics_s = message.metrics_ms / 1000
        self._notes = (*message.notes, *notes)
        return [requests.Open(message.settings)]

    def _control(self, message: messages.Message, now: float) -> list[requests.Request]:
        if isinstance(message, HEARING):
            self._check_hears(type(message).__name__.lower())
        match message:
            case messages.Gap(samples):
                self._samples += samples
                return [requests.Gap(samples)]
            case messages.Update():
                return self._update(message, now)
            case messages.Flush(id):
                return [requests.Flush(id)]
            case messages.Finish():
                again = self.state is State.DRAIN
                self._move(Input.FINISH)
                return [] if again else [requests.Finish()]
            case messages.Cancel(id):
                return self._cancel(id)
            case messages.Ping(t):
                self._send(events.Pong(t))
            case messages.Snapshot():
                return [requests.TakeSnapshot()]
            case messages.Generate(settings):
                return self._generate(settings)
            case messages.Credit(id, seconds):
                self._generations.check(id, "credit")
                return [requests.Credit(id, seconds)]
        return []

    def _generate(self, settings: GenerationSettings) -> list[requests.Request]:
        if self.settings.task == "transcribe":
            message = "generate: this stream was started for transcribe; see start.task"
            raise ProtocolError(message, code="not_offered")
        self._generations.ask(settings.id)
        return [requests.Generate(settings)]

    def _update(self, message: messages.Update, now: float) -> list[requests.Request]:
        endpointing = message.endpointing or self.settings.endpointing
        self.settings = replace(self.settings, results=message.results, endpointing=endpointing)
        if not message.results.interim:
            self._partial = None
        self._metrics_s = message.metrics_ms / 1000
        self._metrics_at = now + self._metrics_s if self._metrics_s else None
        for note in message.notes:
            self._send(events.Warned("unknown_field", note))
        return [requests.Update(endpointing)] if message.endpointing else []

    def _cancel(self, id: str | None) -> list[requests.Request]:
        if id is not None:
            self._generations.check(id, "cancel")
            return [requests.CancelGeneration(id)]
        self._finish("cancelled")
        self._move(Input.CANCEL)
        return [requests.Cancel()]

    def _binary(self, data: bytes) -> list[requests.Request]:
        self._check(Input.AUDIO)
        self._check_hears("audio")
        samples = self._carry.take(data)
        self._samples += len(samples) // self.settings.audio.frame_bytes
        return [requests.Audio(samples)] if samples else []

    def _check_hears(self, what: str) -> None:
        if self.settings.task == "generate":
            message = f"{what}: this stream was started for generate; see start.task"
            raise ProtocolError(message, code="not_offered")

    def _check(self, move: Input) -> None:
        """Refuse a move of the client that is not in the table."""
        if move in TRANSITIONS[self.state]:
            return
        code, close_code = REFUSALS.get((self.state, move), ("bad_message", None))
        raise ProtocolError(
            f"{move.value} is not allowed in state {self.state.name}", code=code,
            close_code=close_code,
        )  # fmt: skip

    def _move(self, move: Input) -> None:
        if move not in TRANSITIONS[self.state]:
            raise RuntimeError(f"{move.name} in state {self.state.name}: the driver is wrong")
        self.state = TRANSITIONS[self.state][move]

    def _as_fatal_if_new(self, error: ProtocolError) -> ProtocolError:
        if self.state is not State.NEW or error.close_code is not None:
            return error
        close_code = FATAL_CODES.get(error.code, 4400)
        return ProtocolError(str(error), code=error.code, close_code=close_code)

    def _send_partial(self, now: float) -> None:
        assert self._partial is not None
        self._send(self._partial)
        self._partial = None
        self._partial_at = now + self.settings.results.interim_ms / 1000

    def _finish_if_all_is_said(self) -> None:
        if self._drained and not self._generations:
            self._finish("finished")
            self._done = True
            self._move(Input.DRAINED)

    def _finish(self, reason: str) -> None:
        seconds = self._samples / self.settings.audio.sample_rate
        cancelled = reason == "cancelled"
        self._send(events.Done("cancelled" if cancelled else "finished", seconds, self._finals))
        if not self.closed:
            self._outgoing.append(Close(1000, reason))

    def _send(self, event: events.Event) -> None:
        frame = self._journal.enter(event, self.settings.results)
        if not self.closed:
            self._outgoing.append(frame)
