"""The ASGI application: routes, the page, and WebSockets handed to connections."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import monotonic

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

import audiomamba
from audiomamba.errors import ProtocolError
from audiomamba.streaming.protocol import Dialect, StreamSettings, Task, v1, vosk
from audiomamba.streaming.server.access import Access, Scope, Shown
from audiomamba.streaming.server.account import Account
from audiomamba.streaming.server.config import ServerConfig
from audiomamba.streaming.server.connection import Connection
from audiomamba.streaming.server.frames import Frames
from audiomamba.streaming.server.metrics import CONTENT_TYPE, Metrics
from audiomamba.streaming.server.middleware import Around
from audiomamba.streaming.server.resume import open_streams
from audiomamba.streaming.server.service import Service

__all__ = ["App", "make_app", "make_metrics_app"]

WEB = Path(__file__).parent.parent / "web"
SUBPROTOCOL = "audiomamba.v1"
UNAUTHORIZED, FORBIDDEN, UNAVAILABLE = 401, 403, 503
RETRY_AFTER_S = 2
SAMPLE_LAG_S = 1.0
SPARE_CONNECTIONS = 16
"""WebSockets without a stream that are let in beyond twice the slots, where nothing is set."""

STREAM_SCOPES: tuple[Scope, ...] = ("transcribe", "generate")
SCOPES_OF: dict[Task, tuple[Scope, ...]] = {
    "transcribe": ("transcribe",),
    "generate": ("generate",),
    "both": ("transcribe", "generate"),
}
REJECTED = {
    1003: "audio_before_start",
    1009: "too_big",
    1012: "draining",
    1013: "full",
    4400: "bad_message",
    4401: "token",
    4403: "scope",
    4404: "model",
    4406: "audio_format",
    4408: "timeout",
    4410: "resume",
}
"""Close codes of connections that never had a stream, as reasons in metrics."""


class App:
    """Everything the routes share."""

    def __init__(self, service: Service, config: ServerConfig, metrics: Metrics) -> None:
        self.service = service
        self.metrics = metrics
        self.connections: set[Connection] = set()
        self._config = config
        self._access = Access(config.server)
        self._streams = open_streams(config.resume, metrics)
        self._max_connections = config.limits.connections or (
            2 * config.engine.slots + SPARE_CONNECTIONS
        )

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """The engines run as long as the application does."""
        self.service.engines.observe(self.metrics.phase)
        self.service.engines.start()
        tasks = [asyncio.create_task(work) for work in (self._sample(), self._streams.tend())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            self.service.engines.stop()
            for voice in self.service.voices:
                voice.stop()

    def health(self) -> list[Route]:
        """What machines ask for every few seconds; needs no token."""
        return [Route("/healthz", self.healthz), Route("/readyz", self.readyz)]

    def routes(self) -> list[BaseRoute]:
        """All routes; the page's files come last, under ``/`` and ``/ui/`` alike."""
        own: list[BaseRoute] = [
            *self.health(),
            Route("/v1/models", self.models),
            Route("/version", self.version),
            Route("/ui", lambda request: RedirectResponse("ui/")),
            WebSocketRoute("/v1/stream", self.stream),
        ]
        if self._config.server.metrics_port < 0:
            own.append(Route("/metrics", self.guarded_figures))
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
        engines = self.service.engines
        body = {
            "ready": not reasons,
            "reasons": reasons,
            "streams": engines.live,
            "free": engines.free,
        }
        return JSONResponse(body, UNAVAILABLE if reasons else 200)

    async def models(self, request: Request) -> Response:
        """The models, in the form that OpenAI's clients read and with more than they know."""
        if (refusal := self._refuse_request(request)) is not None:
            return refusal
        return JSONResponse({"object": "list", "data": self.service.models()})

    async def version(self, request: Request) -> Response:
        """Of the package and the model."""
        return JSONResponse({"version": audiomamba.__version__, "model": self.service.model()})

    async def figures(self, request: Request) -> Response:
        """Prometheus' text format."""
        return Response(self.metrics.exposition(), media_type=CONTENT_TYPE)

    async def guarded_figures(self, request: Request) -> Response:
        """The same for those with a token of scope admin, where tokens are asked for."""
        return self._refuse_request(request, admin=True) or await self.figures(request)

    async def stream(self, socket: WebSocket) -> None:
        """``/v1/stream``: our own protocol."""
        offered = socket.scope.get("subprotocols", [])
        subprotocol = SUBPROTOCOL if SUBPROTOCOL in offered else None
        machine = v1.Machine(monotonic())
        await self._serve(socket, machine, subprotocol, token_may_follow=True)

    async def vosk(self, socket: WebSocket) -> None:
        """A WebSocket at ``/``: vosk-server's protocol."""
        settings = self._config.vosk
        defaults = vosk.VoskDefaults(
            sample_rate=settings.sample_rate,
            words=settings.words,
            alternatives=settings.alternatives,
        )
        await self._serve(socket, vosk.Machine(monotonic(), defaults))

    async def _serve(
        self,
        socket: WebSocket,
        dialect: Dialect,
        subprotocol: str | None = None,
        *,
        token_may_follow: bool = False,
    ) -> None:
        shown = self._access.shown(socket.headers, socket.url.query)
        refusal = self._refuse_socket(socket, shown, token_may_follow)
        if refusal is not None:
            await socket.send_denial_response(refusal)
            return
        await socket.accept(subprotocol)
        frames = Frames(socket)
        account = Account(
            secrets.token_hex(16), dialect.name, self.metrics, log_text=self._config.server.log_text
        )
        connection = Connection(
            frames,
            dialect,
            self.service,
            streams=self._streams,
            account=account,
            limits=self._config.limits,
            admit=self._admission(shown),
        )
        if shown is not None:
            self._fail_if_unknown(shown, dialect)
        self.connections.add(connection)
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)
            code = connection.close_code or frames.refused_with
            self.metrics.closed(code)
            if account.opened_at is None and code is not None and code != 1000:
                self.metrics.rejected(REJECTED.get(code, "other"))
            account.ended(code, connection.close_reason, monotonic())

    def _admission(self, shown: Shown | None) -> Callable[[StreamSettings], None]:
        """Checks the token that was shown before, or else the one in the settings."""

        def admit(settings: StreamSettings) -> None:
            for scope in SCOPES_OF[settings.task]:
                self._access.check(shown.token if shown else settings.token, scope)

        return admit

    def _fail_if_unknown(self, shown: Shown, dialect: Dialect) -> None:
        """A browser cannot read an HTTP status: it is told on the open socket."""
        if any(self._access.allows(shown.token, scope) for scope in STREAM_SCOPES):
            return  # which of them it needs is known with the start
        try:
            self._access.check(shown.token, "transcribe")
        except ProtocolError as error:
            dialect.fail(error, monotonic())

    def _refuse_socket(
        self, socket: WebSocket, shown: Shown | None, token_may_follow: bool
    ) -> Response | None:
        """Why a WebSocket is not opened at all, or None."""
        if not self._access.welcomes(socket.headers):
            return self._reject("origin", FORBIDDEN, "pages of this origin may not connect")
        if shown is None and self._access.guarded and not token_may_follow:
            return self._reject("token", UNAUTHORIZED, "a token is needed")
        if shown is not None and shown.place == "header":
            scopes = STREAM_SCOPES if token_may_follow else STREAM_SCOPES[:1]
            allowed = [self._access.allows(shown.token, scope) for scope in scopes]
            if None in allowed:
                return self._reject("token", UNAUTHORIZED, "the token is not known here")
            if not any(allowed):
                return self._reject("scope", FORBIDDEN, "the token is not for transcribe")
        reasons = self.service.unready()
        if len(self.connections) >= self._max_connections:
            reasons.append("too many connections")
        if reasons:
            response = self._reject(reasons[0], UNAVAILABLE, f"no stream now: {reasons[0]}")
            response.headers["Retry-After"] = str(RETRY_AFTER_S)
            return response
        return None

    def _refuse_request(self, request: Request, *, admin: bool = False) -> Response | None:
        """Why an HTTP request with a token of some scope is not answered, or None."""
        if not self._access.guarded:
            return None
        shown = self._access.shown(request.headers, request.url.query)
        known = None if shown is None else self._access.allows(shown.token, "admin")
        if known is None:
            return _error(UNAUTHORIZED, "a token is needed: Authorization: Bearer TOKEN")
        if admin and not known:
            return _error(FORBIDDEN, "the token is not for admin")
        return None

    def _reject(self, reason: str, status: int, message: str) -> Response:
        self.metrics.rejected(reason)
        return _error(status, message)

    async def _sample(self) -> None:
        while True:
            await asyncio.sleep(SAMPLE_LAG_S)
            self.metrics.sample_lag()


def make_app(service: Service, config: ServerConfig, metrics: Metrics) -> tuple[Starlette, App]:
    """The application, and what it is made of for those who stop it."""
    app = App(service, config, metrics)
    routes = app.routes()
    named = [route.path for route in routes if isinstance(route, Route)]
    around = Middleware(Around, routes=named, report=metrics.request)
    return Starlette(routes=routes, middleware=[around], lifespan=app.lifespan), app


def make_metrics_app(app: App) -> Starlette:
    """Figures and health alone, for a port that only the machines of the house reach."""
    return Starlette(routes=[*app.health(), Route("/metrics", app.figures)])


def _error(status: int, message: str) -> Response:
    return Response(
        json.dumps({"error": {"message": message, "code": status}}),
        status,
        media_type="application/json",
    )
