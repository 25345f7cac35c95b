"""What is behind a connection: a session that hears, recordings that are made, and their past."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from audiomamba.errors import Overloaded, ProtocolError, StateError
from audiomamba.streaming.engine import Session
from audiomamba.streaming.protocol import Dialect, StreamSettings, events, requests
from audiomamba.streaming.server.account import Account
from audiomamba.streaming.server.generations import Generations
from audiomamba.streaming.server.limits import LimitsConfig
from audiomamba.streaming.server.pace import Pace
from audiomamba.streaming.server.resume import Holder, Past, Streams
from audiomamba.streaming.server.service import Service

if TYPE_CHECKING:
    from audiomamba.streaming.engine.voice import Voice

__all__ = ["Stream"]


class Stream:
    """One stream, as long as one connection holds it.

    Args:
        dialect: Asks, and is told.
        service: The models.
        streams: Keep what the client may come back for.
        account: Told of what happens; names the stream.
        limits: How long the client may keep us waiting.
        holder: The connection, for a newer one to take the stream from.
        notify: Called, from any thread, when :meth:`collect` has something to do.
    """

    def __init__(
        self,
        dialect: Dialect,
        service: Service,
        streams: Streams,
        *,
        account: Account,
        limits: LimitsConfig,
        holder: Holder,
        notify: Callable[[], None],
    ) -> None:
        self._dialect = dialect
        self._service = service
        self._streams = streams
        self._account = account
        self._limits = limits
        self._holder = holder
        self._notify = notify
        self._id = account.stream_id
        self._session: Session | None = None
        self._voice: Voice | None = None
        self._sounds: Generations | None = None
        self._room = asyncio.Event()  # the session may have taken audio
        self._news = asyncio.Event()  # it may have said something
        self._draining = False
        self._finishing = False  # the client said that no more audio comes
        self._over = False  # the session has said its last
        self._pace: Pace | None = None

    def stir(self) -> None:
        """What ``notify`` was called for."""
        self._room.set()
        self._news.set()

    async def open(self, settings: StreamSettings) -> None:
        """Open a stream, or go on with one, and tell the dialect.

        Raises:
            ProtocolError: it is not offered here, or cannot be gone on with.
            Overloaded: no capacity now.
        """
        self._account.task = settings.task
        if settings.task != "transcribe":
            self._voice = self._service.voice(settings)
            self._sounds = Generations(self._voice, settings.audio, self._notify)
        if settings.task == "generate":
            self._ready()
            return
        past = await self._resume(settings) if settings.resume else None
        self._pace = Pace(settings.audio.sample_rate)
        if past is None:
            self._session = self._service.open(settings, self._notify)
            self._streams.enter(self._id, self._holder)
        self._ready(past)
        if past is None and self._streams.durable:
            await self._streams.keep(Past(self._id, None, self._dialect.past(), 0))
        if settings.resume and past is None:
            message = "the stream is not known here any more; a new one begins"
            self._dialect.emit(events.Warned("resume_unavailable", message), time.monotonic())

    async def ask(self, request: requests.Request) -> None:
        """Do what the dialect asks for, once the stream is open.

        Raises:
            ProtocolError: the request, or audio in it, is not as it should be.
            AudioError: a sample is not a number.
            Overloaded: no room comes within the limits.
        """
        if self._draining and not isinstance(request, requests.Cancel):
            return  # the session was told to finish; what comes now belongs to the next server
        if self._sounds is not None:
            self._ask_for_sound(self._sounds, request)
        if self._session is not None:
            await self._ask_session(self._session, request)

    async def collect(self) -> None:
        """Let the dialect hear what happened."""
        for event in self._session.take_events() if self._session else []:
            self._account.said(event, time.monotonic())
            await self._take(event)
        for event in self._sounds.take_events() if self._sounds else []:
            self._account.said(event, time.monotonic())
            self._dialect.emit(event, time.monotonic())

    def report(self) -> None:
        """Let the dialect hear the figures."""
        if self._session is not None:
            figures = self._service.engines.metrics(self._session)
            self._dialect.emit(figures, time.monotonic())

    def drain(self, within_s: float) -> None:
        """Come to the last words: the server stops in ``within_s`` seconds."""
        if self._dialect.closed or self._draining:
            return
        self._draining = True
        # The next server can go on with the stream only where it finds the snapshot.
        parks = self._streams.durable and self._dialect.resumable
        token = self._streams.token(self._id) if parks else None
        self._dialect.emit(events.GoAway("drain", within_s, token), time.monotonic())
        if self._session is None:
            self._restart()
        elif parks and not self._finishing:
            self._session.park()
        elif not self._finishing:
            self._session.finish()

    async def leave(self) -> None:
        """The connection is gone: give the stream up, or keep it for its client to come back to."""
        self._dialect.lost()
        if self._sounds is not None:
            self._sounds.close()
        session = self._session
        if session is not None and self._dialect.resumable and not self._over:
            await self._suspend(session)
        if session is not None:
            session.cancel()
            if not self._dialect.resumable:
                await self._streams.forget(self._id)
        await self._streams.leave(self._id)

    def _ready(self, past: Past | None = None) -> None:
        if (opened := self._session or self._sounds) is not None:
            self._account.stream_id = self._id
            self._account.opened(opened, time.monotonic())
        hears = self._session is not None or past is not None
        token = {"token": self._streams.token(self._id), "ttl_s": self._streams.ttl_s}
        voice = self._voice or next(iter(self._service.voices), None)
        ready = events.Ready(
            self._id,
            self._service.model(),
            self._service.limits(),
            self._service.features(),
            token if hears else None,
            resumed=past is not None,
            resume_at_sample=past.at_sample if past else 0,
            generator=voice.description() if voice else None,
        )
        self._dialect.opened(ready, time.monotonic(), past.dialect if past else None)

    async def _resume(self, settings: StreamSettings) -> Past | None:
        """Take up an earlier stream; one that has ended has no session.

        Raises:
            ProtocolError: it cannot be, and the client wants no other.
            Overloaded: no capacity now.
        """
        assert settings.resume is not None
        past = await self._streams.resume(settings.resume.token, self._holder)
        why = "the stream is not known here any more"
        if past is not None:
            try:
                if not past.ended:
                    self._session = self._service.open(settings, self._notify, past.session)
                self._id = past.stream_id
            except StateError as error:
                await self._streams.leave(past.stream_id)
                why, past = str(error), None
            except (ProtocolError, Overloaded):
                await self._streams.leave(past.stream_id)
                raise
        self._streams.resumed(past)
        if past is None and settings.on_resume_fail == "fail":
            raise ProtocolError(f"resume: {why}", code="resume_unavailable", close_code=4410)
        return past

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
                self._dialect.emit(events.Drained(), time.monotonic())

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

    async def _feed(self, session: Session, samples: bytes) -> None:
        """Feed all of ``samples``, waiting for room as long as may be."""
        while True:
            self._room.clear()
            taken = session.feed(samples)
            now = time.monotonic()
            self._account.fed(now)
            if self._pace is not None and (warning := self._pace.look(session.received, now)):
                self._dialect.emit(warning, now)
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
                self._dialect.emit(event, time.monotonic())
                if self._session is not None and self._dialect.resumable:
                    at, past = self._session.received, self._dialect.past()
                    await self._streams.keep(Past(self._id, None, past, at, ended=True))
            case _:
                self._dialect.emit(event, time.monotonic())

    async def _keep(self, event: events.Checkpoint) -> None:
        past = Past(self._id, event.state, self._dialect.past(), event.at_sample)
        if await self._streams.keep(past):
            token, ttl_s = self._streams.token(self._id), self._streams.ttl_s
            snapshot = events.Snapshot(token, event.at_sample, ttl_s)
            self._dialect.emit(snapshot, time.monotonic())
        elif event.requested:
            error = ProtocolError("snapshot: it could not be stored", code="not_stored")
            self._dialect.fail(error, time.monotonic())

    async def _suspend(self, session: Session) -> None:
        """Let the session come to the end of what it was fed, and keep what it says."""
        with contextlib.suppress(TimeoutError, Overloaded):
            if not (self._finishing or self._draining):
                session.park()
            async with asyncio.timeout(self._limits.unread_s):
                while not self._over:
                    self._news.clear()
                    await self.collect()
                    if not self._over:
                        await self._news.wait()

    def _restart(self) -> None:
        error = ProtocolError("the server stops; come again", code="restart", close_code=1012)
        self._dialect.fail(error, time.monotonic())
