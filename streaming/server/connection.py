"""One WebSocket: frames to the dialect, its requests to a session, its answers back."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Protocol

from audiomamba.errors import AudioError, Overloaded, ProtocolError
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
from audiomamba.streaming.server.resume import Streams
from audiomamba.streaming.server.service import Service
from audiomamba.streaming.server.stream import Stream

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
        service: The models.
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
        self._limits = limits
        self._admit = admit
        self._idle = IdleWatch(limits, socket.heard_at)
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()  # the sender has something to look at
        self._answered = asyncio.Event()
        self._waits_until = 0.0  # when the sender wakes by itself
        self._called = False  # the engine's thread has called, and the loop has not come to it
        self._unanswered = 0  # frames read since something could be sent
        self._stream = Stream(
            dialect,
            service,
            streams,
            account=account,
            limits=limits,
            holder=self,
            notify=self._notify,
        )
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
            await self._stream.leave()
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, Gone):
                log.error("connection %s failed", self.id, exc_info=result)
                self.close_code, self.close_reason = 1011, "internal"
                self._socket.drop(self.close_code, self.close_reason)

    def drain(self, within_s: float) -> None:
        """Say the last words and close: the server stops in ``within_s`` seconds."""
        self._stream.drain(within_s)
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
            self._unanswered += 1
            # Of audio the sender mostly has nothing to say: it goes to the session.
            if self._concerns_sender(frame) or self._unanswered > MAX_UNANSWERED:
                self._wake.set()
            while self._unanswered > MAX_UNANSWERED and not self._dialect.closed:
                self._answered.clear()
                await self._answered.wait()

    def _concerns_sender(self, frame: str | bytes) -> bool:
        """Whether there may be something to send, now or earlier than the sender knows."""
        due = self._dialect.deadline
        sooner = due is not None and due < self._waits_until
        return self._dialect.has_news or sooner or isinstance(frame, str)

    async def _act(self, request: requests.Request) -> None:
        if self._dialect.closed:
            return
        try:
            if isinstance(request, requests.Open):
                self._admit(request.settings)
                await self._stream.open(request.settings)
            else:
                await self._stream.ask(request)
        except (ProtocolError, Overloaded) as error:
            self._dialect.fail(error, _now())
        except AudioError as error:
            wrong = ProtocolError(str(error), code="bad_audio", close_code=4406)
            self._dialect.fail(wrong, _now())

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
            self._answered.set()
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

    async def _collect(self) -> None:
        """Let the dialect hear what happened, and that time passed."""
        await self._stream.collect()
        match self._idle.look(_now()):
            case events.Warned() as warning:
                self._dialect.emit(warning, _now())
            case ProtocolError() as error:
                self._dialect.fail(error, _now())
        for request in self._dialect.tick(_now()):
            if isinstance(request, requests.Report):
                self._stream.report()

    def _patience(self) -> float:
        due = self._dialect.deadline
        idle = self._idle.deadline
        self._waits_until = idle if due is None else min(due, idle)
        return max(0.0, self._waits_until - _now())

    def _notify(self) -> None:
        """Called on the engine's thread."""
        if self._called:
            return  # what it is called for now is found by the call that is on its way
        self._called = True
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._stir)

    def _stir(self) -> None:
        self._called = False
        self._wake.set()
        self._stream.stir()


def _is_gone(task: "asyncio.Task[None]") -> bool:
    return not task.cancelled() and isinstance(task.exception(), Gone)


def _now() -> float:
    return time.monotonic()
