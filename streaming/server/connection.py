"""One WebSocket: frames to the dialect, its requests to a session, its answers back."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Protocol

from audiomamba.errors import AudioError, Overloaded, ProtocolError, StateError
from audiomamba.streaming.engine import Session
from audiomamba.streaming.protocol import (
    Close,
    Dialect,
    Outgoing,
    StreamSettings,
    events,
    requests,
)
from audiomamba.streaming.server.account import Account
from audiomamba.streaming.server.generations import Generations
from audiomamba.streaming.server.limits import IdleWatch, LimitsConfig
from audiomamba.streaming.server.resume import Past, Streams
from audiomamba.streaming.server.service import Service

__all__ = ["Connection", "Gone", "Socket"]

log = logging.getLogger(__name__)

MAX_UNANSWERED = 256
"""Frames that are read on while the client leaves what it is sent unread."""


class Gone(Exception):
    """The client is not there any more."""


class Socket(Protocol):
    """What a connection needs of a WebSocket."""

    async def receive(self) -> str | bytes:
        """The next frame; raises Gone."""

    async def send(self, frame: str | bytes) -> None:
        """Send a frame; waits while the client does not read; raises Gone."""

    async def close(self, code: int, reason: str) -> None:
        """Close; raises Gone."""

    def drop(self, code: int, reason: str) -> None:
        """Close without waiting for a client that does not read."""

    def heard_at(self) -> float:
        """When something last came, a pong included, in seconds of the monotonic clock."""


class Connection:
    """Drives one dialect until either side ends it.

    Two tasks share the dialect on one event loop: one reads frames and acts on requests, the other
    sends what is due. The model never runs here.

    Args:
        socket: The WebSocket, accepted.
        dialect: What is spoken on it.
        service: The model.
        streams: Keep what a client may come back for.
        account: Told of what happens.
        limits: How long the client may keep us waiting.
        admit: Raises ProtocolError where the settings' token, or the lack of one, forbids a stream.
    """

    def __init__(
        self,
        socket: Socket,
        dialect: Dialect,
        service: Service,
        *,
        streams: Streams,
        account: Account,
        limits: LimitsConfig,
        admit: Callable[[StreamSettings], None],
    ) -> None:
        self._socket = socket
        self._dialect = dialect
        self._service = service
        self._streams = streams
        self._account = account
        self._limits = limits
        self._admit = admit
        self._idle = IdleWatch(limits, socket.heard_at)
        self._loop = asyncio.get_running_loop()
        self._session: Session | None = None
        self._sounds: Generations | None = None
        self._wake = asyncio.Event()  # the sender has something to look at
        self._room = asyncio.Event()  # the session took audio, or answers were sent
        self._unanswered = 0  # frames read since something could be sent
        self._draining = False
        self._finishing = False  # the client said that no more audio comes
        self._over = False  # the session has said its last
        self._stream_id = ""  # that this connection holds
        self.id = account.stream_id
        self.close_code: int | None = None  # None while it lasts, or when the client vanished
        self.close_reason = ""

    async def run(self) -> None:
        """Serve until the connection is closed; never raises for what a client did."""
        reader = asyncio.create_task(self._read())
        sender = asyncio.create_task(self._send())
        try:
            await asyncio.wait((reader, sender), return_when=asyncio.FIRST_COMPLETED)
            if reader.done() and not _is_gone(reader):
                await asyncio.wait((sender,))  # the last word is still to be sent
        finally:
            for task in (reader, sender):
                task.cancel()
            results = await asyncio.gather(reader, sender, return_exceptions=True)
            await self._leave()
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, Gone):
                log.error("connection %s failed", self.id, exc_info=result)
                self.close_code, self.close_reason = 1011, "internal"
                self._socket.drop(self.close_code, self.close_reason)

    def drain(self, within_s: float) -> None:
        """Say the last words and close: the server stops in ``within_s`` seconds."""
        if self._dialect.closed or self._draining:
            return
        self._draining = True
        # The next server can go on with the stream only where it finds the snapshot.
        parks = self._streams.durable and self._dialect.resumable
        token = self._streams.token(self._stream_id) if parks else None
        self._dialect.emit(events.GoAway("drain", within_s, token), _now())
        if self._session is None:
            self._restart()
        elif parks and not self._finishing:
            self._session.park()
        elif not self._finishing:
            self._session.finish()
        self._wake.set()

    def supersede(self) -> None:
        """Let go of the stream: its client has a newer connection."""
        message = "a newer connection goes on with this stream"
        self._dialect.fail(ProtocolError(message, code="superseded", close_code=4409), _now())
        self._wake.set()

    async def _read(self) -> None:
        while not self._dialect.closed:
            frame = await self._socket.receive()
            for request in self._dialect.receive(frame, _now()):
                await self._act(request)
            self._wake.set()
            self._unanswered += 1
            while self._unanswered > MAX_UNANSWERED and not self._dialect.closed:
                self._room.clear()
                await self._room.wait()

    async def _act(self, request: requests.Request) -> None:
        if self._dialect.closed:
            return
        try:
            await self._ask(request)
        except (ProtocolError, Overloaded) as error:
            self._dialect.fail(error, _now())
        except AudioError as error:
            wrong = ProtocolError(str(error), code="bad_audio", close_code=4406)
            self._dialect.fail(wrong, _now())

    async def _ask(self, request: requests.Request) -> None:
        if isinstance(request, requests.Open):
            await self._open(request.settings)
            return
        if self._draining and not isinstance(request, requests.Cancel):
            return  # the session was told to finish; what comes now belongs to the next server
        if self._sounds is not None:
            self._ask_for_sound(self._sounds, request)
        if self._session is not None:
            await self._ask_session(self._session, request)

    def _ask_for_sound(self, sounds: Generations, request: requests.Request) -> None:
        match request:
            case requests.Generate(settings):
                sounds.ask(settings)
            case requests.Credit(id, seconds):
                sounds.credit(id, seconds)
            case requests.CancelGeneration(id):
                sounds.cancel(id)
            case requests.Cancel():
                sounds.close()
            case requests.Finish() if self._session is None:
                self._dialect.emit(events.Drained(), _now())

    async def _ask_session(self, session: Session, request: requests.Request) -> None:
        match request:
            case requests.Audio(samples):
                await self._feed(session, samples)
            case requests.Gap(samples):
                session.gap(samples)
            case requests.Flush(id):
                session.flush(id)
            case requests.Finish():
                self._finishing = True
                session.finish()
            case requests.Cancel():
                session.cancel()
            case requests.Update(endpointing):
                session.configure(self._service.decoder(endpointing))
            case requests.TakeSnapshot():
                session.checkpoint()

    async def _open(self, settings: StreamSettings) -> None:
        self._admit(settings)
        if settings.task != "transcribe":
            engine = self._service.check_generates()
            self._sounds = Generations(engine, settings.audio, self._notify)
        hears = settings.task != "generate"
        past = await self._resume(settings) if settings.resume and hears else None
        if past is None:
            self._stream_id = self.id
        if past is None and hears:
            self._session = self._service.open(settings, self._notify)
            self._streams.enter(self._stream_id, self)
        if (opened := self._session or self._sounds) is not None:
            self._account.stream_id = self._stream_id
            self._account.opened(opened, _now())
        token = {"token": self._streams.token(self._stream_id), "ttl_s": self._streams.ttl_s}
        ready = events.Ready(
            self._stream_id,
            self._service.model(),
            self._service.limits(),
            self._service.features(),
            token if hears else None,
            resumed=past is not None,
            resume_at_sample=past.at_sample if past else 0,
            generator=self._service.generator(),
        )
        self._dialect.opened(ready, _now(), past.dialect if past else None)
        if past is None and hears and self._streams.durable:
            await self._streams.keep(Past(self._stream_id, None, self._dialect.past(), 0))
        if settings.resume and past is None:
            message = "the stream is not known here any more; a new one begins"
            self._dialect.emit(events.Warned("resume_unavailable", message), _now())

    async def _resume(self, settings: StreamSettings) -> Past | None:
        """Take up an earlier stream; one that has ended has no session.

        Raises:
            ProtocolError: it cannot be, and the client wants no other.
        """
        assert settings.resume is not None
        past = await self._streams.resume(settings.resume.token, self)
        why = "the stream is not known here any more"
        if past is not None:
            self._stream_id = past.stream_id
            try:
                if not past.ended:
                    self._session = self._service.open(settings, self._notify, past.session)
            except StateError as error:
                why, past = str(error), None
                await self._streams.leave(self._stream_id)
        self._streams.resumed(past)
        if past is None and settings.on_resume_fail == "fail":
            raise ProtocolError(f"resume: {why}", code="resume_unavailable", close_code=4410)
        return past

    async def _feed(self, session: Session, samples: bytes) -> None:
        """Feed all of ``samples``, waiting for room as long as may be."""
        while True:
            self._room.clear()
            taken = session.feed(samples)
            self._account.fed(_now())
            samples = samples[taken:]
            if not samples:
                return
            if session.overflow == "fail":
                message = "audio came faster than it is decoded, and overflow is fail"
                raise ProtocolError(message, code="quota", close_code=4429)
            try:
                async with asyncio.timeout(self._limits.room_s):
                    await self._room.wait()
            except TimeoutError:
                message = f"no room for audio within {self._limits.room_s:g} s"
                raise Overloaded(message, retry_after_s=self._limits.room_s) from None

    async def _send(self) -> None:
        while True:
            self._wake.clear()
            await self._collect()
            for frame in self._dialect.outgoing():
                await self._send_frame(frame)
                self._unanswered = 0
                if isinstance(frame, Close):
                    return
            self._unanswered = 0
            self._room.set()
            # Not wait_for: in Python 3.11 a cancellation at the moment of waking is lost in it.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._patience()):
                    await self._wake.wait()

    async def _send_frame(self, frame: Outgoing) -> None:
        try:
            async with asyncio.timeout(self._limits.unread_s):
                if isinstance(frame, Close):
                    self.close_code, self.close_reason = frame.code, frame.reason
                    await self._socket.close(frame.code, frame.reason)
                else:
                    await self._socket.send(frame)
        except TimeoutError:
            # The client does not read, so no error is put in front of the close.
            self.close_code, self.close_reason = 4413, "slow_reader"
            self._socket.drop(self.close_code, self.close_reason)
            raise Gone from None

    async def _leave(self) -> None:
        """Give the stream up, or keep it for its client to come back to."""
        self._dialect.lost()
        if self._sounds is not None:
            self._sounds.close()
        session = self._session
        if session is not None and self._dialect.resumable and not self._over:
            await self._suspend(session)
        if session is not None:
            session.cancel()
            if not self._dialect.resumable:
                await self._streams.forget(self._stream_id)
        await self._streams.leave(self._stream_id)

    async def _suspend(self, session: Session) -> None:
        """Let the session come to the end of what it was fed, and keep what it says."""
        with contextlib.suppress(TimeoutError, Overloaded):
            if not (self._finishing or self._draining):
                session.park()
            async with asyncio.timeout(self._limits.unread_s):
                while not self._over:
                    self._wake.clear()
                    await self._collect()
                    if not self._over:
                        await self._wake.wait()

    async def _collect(self) -> None:
        """Let the dialect hear what happened, and that time passed."""
        for event in self._session.take_events() if self._session else []:
            self._account.said(event, _now())
            await self._take(event)
        for event in self._sounds.take_events() if self._sounds else []:
            self._dialect.emit(event, _now())
        match self._idle.look(_now()):
            case events.Warned() as warning:
                self._dialect.emit(warning, _now())
            case ProtocolError() as error:
                self._dialect.fail(error, _now())
        for request in self._dialect.tick(_now()):
            if isinstance(request, requests.Report) and self._session is not None:
                self._dialect.emit(self._service.engines.metrics(self._session), _now())

    async def _take(self, event: events.Event) -> None:
        """One event of the session. What is kept is kept before the client hears of it."""
        self._over |= isinstance(event, events.Drained | events.Parked | events.Failed)
        match event:
            case events.Checkpoint():
                await self._keep(event)
            case events.Parked() if self._draining:
                self._restart()
            case events.Drained() if self._draining and not self._finishing:
                self._restart()
            case events.Drained():
                self._dialect.emit(event, _now())
                if self._session is not None and self._dialect.resumable:
                    at, past = self._session.received, self._dialect.past()
                    await self._streams.keep(Past(self._stream_id, None, past, at, ended=True))
            case _:
                self._dialect.emit(event, _now())

    async def _keep(self, event: events.Checkpoint) -> None:
        past = Past(self._stream_id, event.state, self._dialect.past(), event.at_sample)
        if await self._streams.keep(past):
            token, ttl_s = self._streams.token(self._stream_id), self._streams.ttl_s
            self._dialect.emit(events.Snapshot(token, event.at_sample, ttl_s), _now())
        elif event.requested:
            error = ProtocolError("snapshot: it could not be stored", code="not_stored")
            self._dialect.fail(error, _now())

    def _restart(self) -> None:
        error = ProtocolError("the server stops; come again", code="restart", close_code=1012)
        self._dialect.fail(error, _now())

    def _patience(self) -> float:
        due = self._dialect.deadline
        deadline = self._idle.deadline if due is None else min(due, self._idle.deadline)
        return max(0.0, deadline - _now())

    def _notify(self) -> None:
        """Called on the engine's thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._stir)

    def _stir(self) -> None:
        self._wake.set()
        self._room.set()


def _is_gone(task: "asyncio.Task[None]") -> bool:
    return not task.cancelled() and isinstance(task.exception(), Gone)


def _now() -> float:
    return time.monotonic()
