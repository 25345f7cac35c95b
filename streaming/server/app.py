"""The ASGI application: routes, the page, and WebSockets handed to connections."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

import audiomamba
from audiomamba.streaming.protocol import Dialect, v1, vosk
from audiomamba.streaming.server.access import Access
from audiomamba.streaming.server.config import ServerConfig
from audiomamba.streaming.server.connection import Connection, Gone
from audiomamba.streaming.server.service import Service

__all__ = ["make_app"]

WEB = Path(__file__).parent.parent / "web"
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; connect-src 'self'; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
)
SUBPROTOCOL = "audiomamba.v1"
UNAUTHORIZED, FORBIDDEN, UNAVAILABLE = 401, 403, 503


class Frames:
    """A Starlette WebSocket as the ``Socket`` that a connection wants."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    async def receive(self) -> str | bytes:
        """The next frame."""
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise Gone
        data: bytes | None = message.get("bytes")
        return data if data is not None else str(message["text"])

    async def send(self, frame: str | bytes) -> None:
        """Send a text or binary frame."""
        try:
            if isinstance(frame, str):
                await self._socket.send_text(frame)
            else:
                await self._socket.send_bytes(frame)
        except (WebSocketDisconnect, RuntimeError):
            raise Gone from None

    async def close(self, code: int, reason: str) -> None:
        """Close with a code; the reason is cut to what a close frame holds."""
        try:
            await self._socket.close(code, reason.encode()[:120].decode(errors="ignore"))
        except (WebSocketDisconnect, RuntimeError):
            raise Gone from None


class App:
    """Everything the routes share."""

    def __init__(self, service: Service, config: ServerConfig) -> None:
        self.service = service
        self._config = config
        self._access = Access(config.server)
        self.connections: set[Connection] = set()

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """The engine runs as long as the application does."""
        self.service.engine.start()
        try:
            yield
        finally:
            self.service.engine.stop()

    def routes(self) -> list[BaseRoute]:
        """All routes; the page's files come last, under ``/`` and ``/ui/`` alike."""
        own: list[BaseRoute] = [
            Route("/healthz", self.healthz),
            Route("/readyz", self.readyz),
            Route("/v1/models", self.models),
            Route("/version", self.version),
            Route("/ui", lambda request: RedirectResponse("ui/")),
            WebSocketRoute("/v1/stream", self.stream),
        ]
        if self._config.vosk.enabled:
            own.append(WebSocketRoute("/", self.vosk))
        files = StaticFiles(directory=WEB, html=True)
        return [*own, Mount("/ui", files), Mount("/", files)]

    async def healthz(self, request: Request) -> Response:
        """The process is alive."""
        return JSONResponse({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        """Whether a stream can be opened now; 503 and the reasons where not."""
        reasons = self.service.unready()
        engine = self.service.engine
        body = {
            "ready": not reasons,
            "reasons": reasons,
            "streams": engine.live,
            "free": engine.free,
        }
        return JSONResponse(body, UNAVAILABLE if reasons else 200)

    async def models(self, request: Request) -> Response:
        """The one model, in the form that OpenAI's clients read."""
        if not self._access.knows(request.headers, request.url.query):
            return _error(UNAUTHORIZED, "a token is needed: Authorization: Bearer TOKEN")
        model = {"id": self.service.name, "object": "model", "created": 0, "owned_by": "audiomamba"}
        return JSONResponse({"object": "list", "data": [model]})

    async def version(self, request: Request) -> Response:
        """Of the package and the model."""
        return JSONResponse({"version": audiomamba.__version__, "model": self.service.model()})

    async def stream(self, socket: WebSocket) -> None:
        """``/v1/stream``: our own protocol."""
        offered = socket.scope.get("subprotocols", [])
        await self._serve(socket, v1.Machine, SUBPROTOCOL if SUBPROTOCOL in offered else None)

    async def vosk(self, socket: WebSocket) -> None:
        """A WebSocket at ``/``: vosk-server's protocol."""
        settings = self._config.vosk
        defaults = vosk.VoskDefaults(
            sample_rate=settings.sample_rate,
            words=settings.words,
            alternatives=settings.alternatives,
        )
        await self._serve(socket, lambda now: vosk.Machine(now, defaults), None)

    async def _serve(
        self, socket: WebSocket, dialect: Callable[[float], Dialect], subprotocol: str | None
    ) -> None:
        refusal = self._refuse(socket)
        if refusal is not None:
            await socket.send_denial_response(refusal)
            return
        await socket.accept(subprotocol)
        connection = Connection(Frames(socket), dialect(monotonic()), self.service)
        self.connections.add(connection)
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)

    def _refuse(self, socket: WebSocket) -> Response | None:
        """Why a WebSocket is not opened at all, or None."""
        if not self._access.welcomes(socket.headers):
            return _error(FORBIDDEN, "pages of this origin may not connect; see server.origins")
        if not self._access.knows(socket.headers, socket.url.query):
            return _error(UNAUTHORIZED, "a token is needed: Authorization: Bearer TOKEN")
        reasons = self.service.unready()
        if reasons:
            response = _error(UNAVAILABLE, f"no stream can be opened now: {', '.join(reasons)}")
            response.headers["Retry-After"] = "2"
            return response
        return None


def make_app(service: Service, config: ServerConfig) -> tuple[Starlette, App]:
    """The application, and what it is made of for those who stop it."""
    app = App(service, config)
    starlette = Starlette(
        routes=app.routes(),
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=_guard)],
        lifespan=app.lifespan,
    )
    return starlette, app


async def _guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Headers that keep the page to itself."""
    response = await call_next(request)
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-cache"
    return response


def _error(status: int, message: str) -> Response:
    return Response(
        json.dumps({"error": {"message": message, "code": status}}),
        status,
        media_type="application/json",
    )
