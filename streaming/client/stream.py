"""One stream over a WebSocket that outlives its connections.

::

    async with connect("ws://127.0.0.1:8765", sample_rate=16_000) as stream:
        await stream.feed(samples)          # any number of bytes
        await stream.finish()
        async for event in stream:          # ends after Done
            ...

Feeding and reading may also run side by side. A task of the stream owns the socket: it sends what
the outbox holds, puts events into the mailbox, and connects again when the connection breaks.
"""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from audiomamba.errors import AudioError, ConfigError, ConnectionLost, Overloaded, ProtocolError
from audiomamba.streaming.client.events import (
    Done,
    Event,
    Final,
    Flushed,
    GoAway,
    Metrics,
    Origin,
    Ready,
    Reconnected,
    Reconnecting,
    Refused,
    Snapshot,
    parse,
)
from audiomamba.streaming.client.mailbox import Mailbox
from audiomamba.streaming.client.outbox import Outbox
from audiomamba.streaming.client.retry import RETRIED, delays

__all__ = ["Settings", "Stream", "connect"]

SUBPROTOCOL = "audiomamba.v1"
PATH = "/v1/stream"
CLOSE_S = 5.0  # how long a fatal error may wait for its close
ENCODINGS = {"linear16": "<i2", "float32": "<f4", "mulaw": "u1", "alaw": "u1"}
Samples = bytes | bytearray | memoryview | NDArray[np.int16] | NDArray[np.float32]


@dataclass(kw_only=True, slots=True)
class Settings:
    """What a stream asks for, and how much the client keeps and waits."""

    sample_rate: int = 16_000  # Hz, 8000 to 48000
    encoding: str = "linear16"  # linear16, float32, mulaw or alaw
    channels: int = 1
    token: str | None = None  # sent as a bearer token
    options: Mapping[str, Any] = field(default_factory=dict)  # further fields of `start`
    metrics_ms: int = 500  # how often the server reports; also paces a fast sender
    keep_s: float = 60.0  # audio held for a reconnect
    ahead_s: float = 20.0  # audio sent before the server decoded it; its own buffer holds 30 s
    patience_s: float = 30.0  # how long to try to reconnect; 0 = never
    unread_events: int = 256

    def __post_init__(self) -> None:
        if self.encoding not in ENCODINGS:
            wanted = ", ".join(ENCODINGS)
            raise ConfigError(f"encoding: wanted one of {wanted}, got {self.encoding!r}")
        if not 8000 <= self.sample_rate <= 48_000:
            raise ConfigError(f"sample_rate: wanted 8000 to 48000 Hz, got {self.sample_rate}")
        if not 1 <= self.channels <= 8:
            raise ConfigError(f"channels: wanted 1 to 8, got {self.channels}")

    @property
    def frame_bytes(self) -> int:
        return self.channels * np.dtype(ENCODINGS[self.encoding]).itemsize


class Stream:
    """A live stream; made by ``connect``."""

    def __init__(self, url: str, settings: Settings) -> None:
        self._url = url if url.rstrip("/").count("/") > 2 else url.rstrip("/") + PATH
        self._settings = settings
        self._rate = settings.sample_rate
        self._outbox = Outbox(settings.frame_bytes, round(settings.keep_s * self._rate))
        self._mailbox = Mailbox(settings.unread_events)
        self._origin = Origin()
        self._origin_sample = 0
        self._ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._more = asyncio.Event()  # the outbox has something, or sending may go on
        self._room = asyncio.Condition()  # the outbox went down
        self._token: str | None = None
        self._last_seq = 0
        self._decoded_s = 0.0
        self._final_end_s = 0.0
        self._utterances = 0
        self._connections = 0
        self._last_words: Refused | None = None
        self._flush_ids = itertools.count(1)
        self._failure: Exception | None = None
        self._over = False
        self._task = asyncio.create_task(self._run())

    async def ready(self) -> Ready:
        """What the server answered to the first start."""
        return await asyncio.shield(self._ready)

    async def feed(self, samples: Samples) -> None:
        """Send audio.

        Args:
            samples: Interleaved little-endian samples in the stream's encoding, any number of
                bytes, or an array of the encoding's type. Waits while half of ``keep_s`` is
                unsent.

        Raises:
            AudioError: an array of another type, or audio after ``finish``.
            ConnectionLost: the stream is over.
        """
        if self._outbox.finished:
            raise AudioError("feed after finish: open another stream")
        self._outbox.feed(self._bytes(samples))
        await self._sendable()

    async def gap(self, seconds: float) -> None:
        """Let time pass without audio, as while muted."""
        self._outbox.gap(round(seconds * self._rate))
        await self._sendable()

    async def flush(self) -> str:
        """Ask for finals of everything fed so far; the stream goes on.

        Returns:
            The id that the ``Flushed`` event will carry.
        """
        flush_id = f"flush-{next(self._flush_ids)}"
        self._outbox.flush(flush_id)
        await self._sendable()
        return flush_id

    async def finish(self) -> None:
        """No more audio; the remaining finals and ``Done`` follow."""
        self._outbox.finish()
        await self._sendable()

    async def __aiter__(self) -> AsyncIterator[Event]:
        while (event := await self._mailbox.get()) is not None:
            yield event

    async def close(self) -> None:
        """Give up the stream; what was not read is lost. Harmless after ``Done``."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    def _bytes(self, samples: Samples) -> bytes:
        if isinstance(samples, np.ndarray):
            wanted = np.dtype(ENCODINGS[self._settings.encoding])
            if samples.dtype != wanted:
                raise AudioError(f"feed: wanted {wanted} samples, got {samples.dtype}")
            return samples.tobytes()
        return bytes(samples)

    async def _sendable(self) -> None:
        self._more.set()
        limit = round(self._settings.keep_s * self._rate / 2)
        async with self._room:
            await self._room.wait_for(lambda: self._outbox.unsent <= limit or self._over)
        if self._failure is not None:
            raise self._failure

    async def _run(self) -> None:
        try:
            await self._keep_connected()
        except Exception as error:
            self._failure = error
        finally:
            if not self._ready.done():
                self._ready.set_exception(
                    self._failure or ConnectionLost("closed before it was ready", close_code=1006)
                )
                self._ready.exception()  # seen: nobody may be waiting any more
            self._over = True
            await self._mailbox.close(self._failure)
            await self._wake()

    async def _wake(self) -> None:
        async with self._room:
            self._room.notify_all()

    async def _keep_connected(self) -> None:
        clock = asyncio.get_running_loop().time
        waits, attempt, broken = delays(), 0, clock()
        while True:
            connections = self._connections
            try:
                await self._converse(again=self._ready.done())
                return
            except (ConnectionLost, Overloaded) as error:
                if not self._ready.done() or not self._worth_another_try(error):
                    raise
                reason = error
            if self._connections != connections:  # it had worked before it broke
                waits, attempt, broken = delays(), 0, clock()
            attempt += 1
            in_s = reason.retry_after_s if isinstance(reason, Overloaded) else next(waits)
            if clock() + in_s - broken > self._settings.patience_s:
                raise reason
            await self._mailbox.put(Reconnecting(str(reason), attempt, in_s))
            await asyncio.sleep(in_s)

    def _worth_another_try(self, error: ConnectionLost | Overloaded) -> bool:
        return isinstance(error, Overloaded) or error.close_code in RETRIED

    async def _converse(self, *, again: bool = False) -> None:
        """One connection, until ``Done`` or an error."""
        settings = self._settings
        headers = {"Authorization": f"Bearer {settings.token}"} if settings.token else None
        try:
            async with open_socket(
                self._url,
                subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]  # a NewType of str
                additional_headers=headers,
                compression=None,  # samples do not compress, and a window costs 64 KiB
                max_size=2**20,
            ) as socket:
                await self._greet(socket, again=again)
                sender = asyncio.create_task(self._send(socket))
                try:
                    while not isinstance(await self._receive(socket), Done):
                        pass
                finally:
                    sender.cancel()
                    with suppress(asyncio.CancelledError, ConnectionClosed):
                        await sender
        except InvalidStatus as error:
            raise refusal(self._url, error) from None
        except InvalidURI as error:
            raise ConfigError(f"url: wanted ws://host:port, got {self._url!r}: {error}") from None
        except ConnectionClosed as error:
            raise self._closed(error.rcvd.code if error.rcvd else 1006) from None
        except (OSError, InvalidHandshake, TimeoutError) as error:
            raise ConnectionLost(f"cannot reach {self._url}: {error}", close_code=1006) from None

    def _closed(self, code: int) -> ConnectionLost | Overloaded | ProtocolError:
        """What a close with ``code`` means, in the words of the error event before it."""
        said, self._last_words = self._last_words, None
        message = f"{self._url}: {said.message if said else 'connection closed'} ({code})"
        if code == 1013:
            after_s = said.retry_after_s if said else None
            return Overloaded(message, retry_after_s=after_s or 1.0)
        if said and code not in RETRIED:
            return ProtocolError(message, code=said.code, close_code=code)
        return ConnectionLost(message, close_code=code)

    async def _greet(self, socket: ClientConnection, *, again: bool) -> None:
        s = self._settings
        start: dict[str, Any] = {
            "type": "start",
            "protocol": "1.0",
            "task": "transcribe",
            "audio": {
                "encoding": s.encoding,
                "sample_rate": s.sample_rate,
                "channels": s.channels,
            },
            "metrics_ms": s.metrics_ms,
            **s.options,
        }
        if again and self._token:
            start["resume"] = {"token": self._token, "last_seq": self._last_seq}
        await socket.send(json.dumps(start))
        while not isinstance(ready := await self._receive(socket), Ready):
            pass
        self._connections += 1
        if not again:
            self._ready.set_result(ready)
        elif ready.resumed:
            lost = self._outbox.rewind(self._origin_sample + ready.resume_at_sample)
            await self._mailbox.put(Reconnected(True, lost / self._rate))
        else:
            await self._begin_anew()

    async def _begin_anew(self) -> None:
        """The server knows nothing of us: send again what follows the last final."""
        wanted = round(self._final_end_s * self._rate)
        at = max(wanted, min(self._outbox.kept_from, self._outbox.sent))
        self._outbox.rewind(at)
        self._origin_sample = at
        self._origin = Origin(at / self._rate, self._utterances)
        self._last_seq = 0
        await self._mailbox.put(Reconnected(False, (at - wanted) / self._rate))

    async def _receive(self, socket: ClientConnection) -> Event | None:
        async with asyncio.timeout(CLOSE_S if self._last_words else None):
            message = await socket.recv()
        if isinstance(message, bytes):
            return None  # generated sound: not asked for by a transcribing stream
        event = parse(message, self._origin)
        match event:
            case None:
                return None
            case Ready():
                self._token = event.token or self._token
            case Snapshot():
                self._token = event.token
                self._outbox.forget(self._origin_sample + event.at_sample)
            case GoAway():
                self._token = event.token or self._token
            case Final():
                # Of finals alone: after a new beginning, an utterance that was not final comes
                # again, and has to take its own place.
                self._utterances = max(self._utterances, event.utterance + 1)
                self._final_end_s = max(self._final_end_s, event.end)
            case Flushed():
                self._outbox.flushed(event.id)
            case Metrics():
                self._decoded_s = event.decoded_s
                self._more.set()
            case Refused(fatal=True):
                self._last_words = event  # the close that follows carries the code
        self._last_seq = max(self._last_seq, getattr(event, "seq", 0))
        if not isinstance(event, Ready):  # answered by `ready()` and `Reconnected`
            await self._mailbox.put(event)
        return event

    async def _send(self, socket: ClientConnection) -> None:
        while True:
            self._more.clear()
            ahead_s = self._outbox.sent / self._rate - self._decoded_s
            if self._settings.metrics_ms and ahead_s > self._settings.ahead_s:
                # Woken by metrics; one message after a second of none, so that a server that
                # reports only with progress cannot wait for us while we wait for it.
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._more.wait(), 1.0)
                    continue
            message = self._outbox.next()
            if message is None:
                await self._more.wait()
                continue
            await socket.send(message)
            await self._wake()


def refusal(url: str, error: InvalidStatus) -> ConnectionLost | Overloaded:
    status = error.response.status_code
    if status == 503:
        after = error.response.headers.get("Retry-After", "1")
        after_s = float(after) if after.isdigit() else 1.0
        return Overloaded(f"{url} is full; try again in {after_s:g} s", retry_after_s=after_s)
    cure = "; give a valid token" if status in (401, 403) else ""
    return ConnectionLost(f"{url} answered HTTP {status}{cure}", close_code=1008)


@asynccontextmanager
async def connect(
    url: str, settings: Settings | None = None, **given: Any
) -> AsyncIterator[Stream]:
    """Open a stream and wait until the server is ready.

    Args:
        url: ``ws://host:port`` (the path ``/v1/stream`` is added) or a full address.
        settings: Or the fields of ``Settings`` by keyword.

    Raises:
        ConnectionLost: no server there, or it refused.
        Overloaded: no free stream; says when to try again.
        ProtocolError: the server did not accept what was asked for.
        ConfigError: a setting is out of range.
    """
    stream = Stream(url, settings or Settings(**given))
    try:
        await stream.ready()
        yield stream
    finally:
        await stream.close()
