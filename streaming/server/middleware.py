"""What is done around every HTTP request: headers, its time, its line in the log."""

import logging
from collections.abc import Callable, Iterable
from time import monotonic

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["HEALTH", "Around"]

log = logging.getLogger("audiomamba.http")

HEALTH = {"/healthz", "/readyz", "/metrics"}
"""Asked for every few seconds by machines; not in the log."""
METHODS = {"GET", "HEAD", "POST", "OPTIONS"}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
        "connect-src 'self'; worker-src 'self' blob:; object-src 'none'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
"""They keep the page to itself."""

Report = Callable[[str, str, int, float], None]


class Around:
    """ASGI middleware.

    Args:
        app: What answers.
        routes: Paths that are reported under their own name; all others are ``page``.
        report: Told route, method, status and seconds of each request.
    """

    def __init__(self, app: ASGIApp, routes: Iterable[str], report: Report) -> None:
        self._app = app
        self._routes = frozenset(routes)
        self._report = report

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = monotonic(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            self._note(scope, status, monotonic() - began)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = scope["path"] if scope["path"] in self._routes else "page"
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._report(route, method, status, seconds)
        if route in HEALTH:
            return
        client = scope.get("client")
        fields = {
            "event": "http",
            "method": method,
            "route": route,
            "status": status,
            "seconds": round(seconds, 4),
            "client": client[0] if client else None,
        }
        log.info("%s %s %d", method, route, status, extra=fields)
