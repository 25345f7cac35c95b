"""One WebSocket: frames to the dialect, its requests to a session, its answers back."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Protocol

from audiomamba.errors import AudioError, Overloaded, ProtocolError
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
from audiomamba.streaming.server.limits import IdleWatch, LimitsConfig
from audiomamba.streaming.server.service import FEATURES, Service

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
        account: Account,
        limits: LimitsConfig,
        admit: Callable[[StreamSettings], None],
    ) -> None:
        self._socket = socket
        self._dialect = dialect
        self._service = service
        self._account = account
        self._limits = limits
        self._admit = admit
        self._idle = IdleWatch(limits, socket.heard_at)
        self._loop = asyncio.get_running_loop()
        self._session: Session | None = None
        self._wake = asyncio.Event()  # the sender has something to look at
        self._room = asyncio.Event()  # the session took audio, or answers were sent
        self._unanswered = 0  # frames read since something could be sent
        self._draining = False
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
            if self._session is not None:
                self._session.cancel()
            for task in (reader, sender):
                task.cancel()
            results = await asyncio.gather(reader, sender, return_exceptions=True)
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
        self._dialect.emit(events.GoAway("drain", within_s), _now())
        if self._session is None:
            self._restart()
        else:
            self._session.finish()
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
            if self._session is not None:
                self._session.cancel()
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
            self._open(request.settings)
            return
        session = self._session
        assert session is not None, "a dialect asks for nothing before Open"
        if self._draining and not isinstance(request, requests.Cancel):
            return  # the session was told to finish; what comes now belongs to the next server
        match request:
            case requests.Audio(samples):
                await self._feed(session, samples)
            case requests.Gap(samples):
                session.gap(samples)
            case requests.Flush(id):
                session.flush(id)
            case requests.Finish():
                session.finish()
            case requests.Cancel():
                session.cancel()
            case requests.Update(endpointing):
                session.configure(self._service.decoder(endpointing))
            case requests.TakeSnapshot():
                raise ProtocolError("snapshot: this server keeps none", code="not_offered")

    def _open(self, settings: StreamSettings) -> None:
        self._admit(settings)
        self._session = self._service.open(settings, self._notify)
        self._account.opened(self._session, _now())
        ready = events.Ready(self.id, self._service.model(), self._service.limits(), FEATURES)
        self._dialect.opened(ready, _now())
        if settings.resume is not None:
            message = "this server keeps no streams of the past; a new one begins"
            self._dialect.emit(events.Warned("resume_unavailable", message), _now())

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
                await asyncio.wait_for(self._room.wait(), self._limits.room_s)
            except TimeoutError:
                message = f"no room for audio within {self._limits.room_s:g} s"
                raise Overloaded(message, retry_after_s=self._limits.room_s) from None

    async def _send(self) -> None:
        while True:
            self._wake.clear()
            self._collect()
            for frame in self._dialect.outgoing():
                await self._send_frame(frame)
                self._unanswered = 0
                if isinstance(frame, Close):
                    return
            self._unanswered = 0
            self._room.set()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._patience())

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

    def _collect(self) -> None:
        """Let the dialect hear what happened, and that time passed."""
        for event in self._session.take_events() if self._session else []:
            self._account.said(event, _now())
            if isinstance(event, events.Drained) and self._draining:
                self._restart()
            else:
                self._dialect.emit(event, _now())
        match self._idle.look(_now()):
            case events.Warned() as warning:
                self._dialect.emit(warning, _now())
            case ProtocolError() as error:
                self._dialect.fail(error, _now())
        for request in self._dialect.tick(_now()):
            if isinstance(request, requests.Report) and self._session is not None:
                self._dialect.emit(self._service.engine.metrics(self._session), _now())

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
