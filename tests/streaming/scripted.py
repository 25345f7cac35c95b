"""A server that speaks the native protocol from a script, for tests of what talks to a server.

It knows in advance what is "said": a list of utterances, each with words evenly spread over its
time. It sends partials and finals as soon as the audio it received reaches that far, so what a
client gets depends only on how many samples it sent.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

TYPES = {
    ".css": "text/css",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
BYTES = {"linear16": 2, "float32": 4, "mulaw": 1, "alaw": 1}


@dataclass(frozen=True)
class Said:
    start: float
    end: float
    text: str

    def words(self, before: float) -> list[dict[str, Any]]:
        """The words that began before a time, with their times."""
        texts = self.text.split()
        step = (self.end - self.start) / len(texts)
        times = [(self.start + i * step, self.start + (i + 1) * step) for i in range(len(texts))]
        return [
            {
                "word": text,
                "start": round(start, 2),
                "end": round(end, 2),
                "conf": 0.99 if i % 7 != 3 else 0.55,
            }
            for i, (text, (start, end)) in enumerate(zip(texts, times, strict=True))
            if start < before
        ]


SCRIPT = (
    Said(0.2, 1.4, "hello and good evening"),
    Said(2.0, 4.0, "this is what the state remembers"),
    Said(4.6, 5.6, "and nothing more"),
)


@dataclass
class Stream:
    """What the server keeps of one stream across connections."""

    rate: int = 16_000
    frame_bytes: int = 2
    received: int = 0  # samples
    seq: int = 0
    utterance: int = 0
    partial_at: float = 0.0
    final_at: int = 0
    log: list[dict[str, Any]] = field(default_factory=list)


def _answers() -> dict[str, tuple[int, Any]]:
    return {
        "/version": (200, {"version": "0", "model": {"name": "scripted"}}),
        "/readyz": (200, {"ready": True, "reasons": []}),
        "/v1/models": (200, {"object": "list", "data": []}),
    }


@dataclass
class ScriptedServer:
    """Behaviour of the server, and what it saw.

    Args:
        script: What is said, in order.
        drop_at_s: Break the connection, once, when this much audio came.
        silent_at_s: Say nothing more, once, on a connection that brought this much audio.
        forget: Do not know the token of a stream after a break, and offer none.
        refuse: A fatal error to answer ``start`` with: code, close code.
        interim_s: Time between partials.
        page: A folder whose files are served to a browser from the same address.
        answers: Status and JSON of other paths, for that browser.
    """

    script: tuple[Said, ...] = SCRIPT
    drop_at_s: float | None = None
    silent_at_s: float | None = None
    forget: bool = False
    refuse: tuple[str, int] | None = None
    interim_s: float = 0.2
    page: Path | None = None
    answers: dict[str, tuple[int, Any]] = field(default_factory=_answers)
    process_request: Callable[[ServerConnection, Request], Response | None] | None = None
    url: str = ""
    starts: list[dict[str, Any]] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    headers: list[Any] = field(default_factory=list)
    streams: dict[str, Stream] = field(default_factory=dict)

    @asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator["ScriptedServer"]:
        async with serve(
            self.converse,
            "127.0.0.1",
            port,
            subprotocols=["audiomamba.v1"],  # type: ignore[list-item]
            compression=None,
            process_request=self._answer if self.page else self.process_request,
        ) as server:
            self.url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
            yield self

    def _answer(self, _: ServerConnection, request: Request) -> Response | None:
        """A file of the page, what the page asks beside a stream, or None for the stream."""
        if request.path in self.answers:
            status, body = self.answers[request.path]
            return _json(status, body)
        if request.path.startswith("/v1/"):
            return None
        assert self.page is not None
        name = request.path.split("?")[0].removeprefix("/ui/") or "index.html"
        file = self.page / name
        if not file.is_file():
            return Response(404, "Not Found", Headers(), b"")
        body = file.read_bytes()
        headers = Headers({"Content-Type": TYPES[file.suffix], "Content-Length": str(len(body))})
        return Response(200, "OK", headers, body)

    async def converse(self, socket: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            await self._converse(socket)

    async def _converse(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        self.headers.append(socket.request.headers)
        start = json.loads(await socket.recv())
        self.starts.append(start)
        if self.refuse:
            code, close_code = self.refuse
            refusal = {"type": "error", "code": code, "message": f"no: {code}", "fatal": True}
            await socket.send(json.dumps(refusal))
            await socket.close(close_code)
            return
        stream = await self._open(socket, start)
        async for message in socket:
            if isinstance(message, bytes):
                assert len(message) % stream.frame_bytes == 0
                stream.received += len(message) // stream.frame_bytes
                await self._advance(socket, stream)
                if (
                    self.silent_at_s is not None
                    and stream.received / stream.rate >= self.silent_at_s
                ):
                    self.silent_at_s = None
                    await _swallow(socket)
                    return
                if self.drop_at_s is not None and stream.received / stream.rate >= self.drop_at_s:
                    self.drop_at_s = None
                    socket.transport.abort()
                    return
                continue
            said = json.loads(message)
            self.messages.append(said)
            match said["type"]:
                case "gap":
                    stream.received += said["samples"]
                    await self._advance(socket, stream)
                case "flush":
                    await self._final(socket, stream, "flush")
                    audio_s = stream.received / stream.rate
                    await self._send(socket, stream, "flushed", id=said["id"], audio_s=audio_s)
                case "ping":
                    await self._send(socket, stream, "pong", t=said.get("t"))
                case "finish":
                    await self._final(socket, stream, "finish")
                    audio_s = stream.received / stream.rate
                    finals = stream.utterance
                    await self._send(
                        socket, stream, "done", reason="finished", audio_s=audio_s, finals=finals
                    )
                    return

    async def _open(self, socket: ServerConnection, start: dict[str, Any]) -> Stream:
        resume = start.get("resume")
        stream = self.streams.get(resume["token"]) if resume and not self.forget else None
        resumed = stream is not None
        if stream is None:
            audio = start["audio"]
            frame_bytes = BYTES[audio["encoding"]] * audio.get("channels", 1)
            stream = Stream(rate=audio["sample_rate"], frame_bytes=frame_bytes)
        token = secrets.token_hex(8)
        self.streams[token] = stream
        await self._send(
            socket,
            stream,
            "ready",
            protocol="1.0",
            stream_id=f"s-{len(self.streams)}",
            model={"name": "scripted", "sample_rate": 16_000, "frame_ms": 40, "look_ahead_ms": [0]},
            limits={"buffer_s": 30},
            resume=None if self.forget else {"token": token, "ttl_s": 120},
            resumed=resumed,
            resume_at_sample=stream.received,
            features=["interim", "words"],
            something_new=True,
        )
        if resume and resumed:
            for event in stream.log:
                if event["seq"] > resume["last_seq"]:
                    await socket.send(json.dumps(event))
        return stream

    async def _advance(self, socket: ServerConnection, stream: Stream) -> None:
        now = stream.received / stream.rate
        while stream.utterance < len(self.script):
            said = self.script[stream.utterance]
            if now >= said.end + 0.3:
                await self._final(socket, stream, "endpoint")
                continue
            words = said.words(now)
            if words and now >= stream.partial_at:
                stream.partial_at = now + self.interim_s
                texts = [w["word"] for w in words]
                stable, unstable = texts[:-2], texts[-2:]
                await self._send(
                    socket,
                    stream,
                    "partial",
                    utterance=stream.utterance,
                    channel=0,
                    start=said.start,
                    end=round(now, 2),
                    stable=" ".join(stable) + (" " if stable else ""),
                    unstable=" ".join(unstable),
                    words=[w | {"stable": i < len(stable)} for i, w in enumerate(words)],
                )
            break
        await self._send(
            socket,
            stream,
            "metrics",
            received_s=now,
            decoded_s=now,
            lag_s=0.12,
            buffered_s=0.0,
            rtf=0.04,
            step_ms_p50=3.1,
            batch=1,
            state_bytes=412_672,
        )

    async def _final(self, socket: ServerConnection, stream: Stream, reason: str) -> None:
        if stream.utterance >= len(self.script):
            return
        now = stream.received / stream.rate
        said = self.script[stream.utterance]
        words = said.words(now)
        if not words:
            return
        await self._send(
            socket,
            stream,
            "final",
            utterance=stream.utterance,
            channel=0,
            start=said.start,
            end=words[-1]["end"],
            text=" ".join(w["word"] for w in words),
            confidence=0.91,
            words=words,
            reason=reason,
        )
        stream.utterance += 1
        if not self.forget:
            token = next(t for t, s in self.streams.items() if s is stream)
            await self._send(
                socket, stream, "snapshot", token=token, at_sample=stream.received, ttl_s=120
            )

    async def _send(self, socket: ServerConnection, stream: Stream, kind: str, **f: Any) -> None:
        stream.seq += 1
        event = {"type": kind, "seq": stream.seq, **f}
        if kind == "final":
            stream.log.append(event)
        await socket.send(json.dumps(event))


async def _swallow(socket: ServerConnection) -> None:
    """Read on and never answer."""
    async for _ in socket:
        pass


def _json(status: int, value: Any) -> Response:
    body = json.dumps(value).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    return Response(status, "", Headers(headers), body)


async def _serve_forever(port: int) -> None:
    async with ScriptedServer().running(port) as server:
        print(server.url, flush=True)
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(_serve_forever(8765))
