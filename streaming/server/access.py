"""Who may come in: tokens, and the origins of pages."""

import hashlib
import hmac
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from audiomamba.errors import ConfigError
from audiomamba.streaming.server.config import ListenConfig

__all__ = ["Access"]

LOOPBACK = {"localhost", "127.0.0.1", "::1"}
BEARER = "bearer."


class Access:
    """Tokens are kept as digests and compared in constant time.

    Raises:
        ConfigError: the token file cannot be read or is empty.
    """

    def __init__(self, config: ListenConfig) -> None:
        tokens = list(config.tokens)
        if config.token_file:
            try:
                lines = Path(config.token_file).read_text(encoding="utf-8").splitlines()
            except OSError as error:
                raise ConfigError(f"server.token_file: {error}") from None
            tokens += [line.strip() for line in lines if line.strip()]
            if not tokens:
                raise ConfigError(f"server.token_file: {config.token_file} holds no token")
        self._digests = [_digest(token) for token in tokens]
        self._origins = set(config.origins)

    def knows(self, headers: Mapping[str, str], query: str) -> bool:
        """Whether a request shows a token, or none is asked for.

        Looked for in ``Authorization: Bearer``, ``X-API-Key`` and the WebSocket subprotocol
        ``bearer.TOKEN``, which is what a browser can send.
        """
        if not self._digests:
            return True
        shown = [headers.get("x-api-key", "")]
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() in ("bearer", "token"):
            shown.append(token.strip())
        offered = headers.get("sec-websocket-protocol", "").split(",")
        shown += [p.strip()[len(BEARER) :] for p in offered if p.strip().startswith(BEARER)]
        return any(
            hmac.compare_digest(_digest(token), digest)
            for token in shown
            if token
            for digest in self._digests
        )

    def welcomes(self, headers: Mapping[str, str]) -> bool:
        """Whether the page that a request comes from may connect; no ``Origin`` is no browser."""
        origin = headers.get("origin")
        if origin is None or origin in self._origins:
            return True
        page, host = urlsplit(origin), urlsplit(f"//{headers.get('host', '')}")
        return page.hostname in LOOPBACK or (page.hostname, page.port) == (host.hostname, host.port)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
