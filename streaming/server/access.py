"""Who may come in: tokens with scopes, and the origins of pages."""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, urlsplit

from audiomamba.errors import ConfigError, ProtocolError
from audiomamba.streaming.server.config import ListenConfig

__all__ = ["SCOPES", "Access", "Scope", "Shown"]

Scope = Literal["transcribe", "generate", "admin"]
SCOPES: tuple[Scope, ...] = ("transcribe", "generate", "admin")
USUAL: tuple[Scope, ...] = ("transcribe", "generate")
"""What a token is for where nothing is said."""
LOOPBACK = {"localhost", "127.0.0.1", "::1"}
BEARER = "bearer."
HASHED = re.compile(r"sha256:([0-9a-f]{64})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Shown:
    """A token and where it was shown."""

    place: Literal["header", "subprotocol", "query"]
    token: str


class Access:
    """Tokens are kept as digests and compared in constant time.

    An entry is ``TOKEN`` or ``TOKEN SCOPE,SCOPE``; ``sha256:DIGEST`` stands for a token that is not
    to be written down. Without scopes it may transcribe and generate.

    Raises:
        ConfigError: the token file cannot be read or is empty, or a scope is unknown.
    """

    def __init__(self, config: ListenConfig) -> None:
        entries = [entry for entry in config.tokens if entry.strip()]
        if config.token_file:
            entries += _lines(config.token_file)
        self._scopes = dict(_entry(entry) for entry in entries)
        self._origins = set(config.origins)
        self._query = config.query_token

    @property
    def guarded(self) -> bool:
        """Whether a token is asked for at all."""
        return bool(self._scopes)

    def shown(self, headers: Mapping[str, str], query: str) -> Shown | None:
        """The token that a request shows: the first of header, subprotocol and, if on, query."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() in ("bearer", "token") and token.strip():
            return Shown("header", token.strip())
        if key := headers.get("x-api-key", "").strip():
            return Shown("header", key)
        for offered in headers.get("sec-websocket-protocol", "").split(","):
            if offered.strip().startswith(BEARER):
                return Shown("subprotocol", offered.strip()[len(BEARER) :])
        if self._query and (found := parse_qs(query).get("token")):
            return Shown("query", found[0])
        return None

    def allows(self, token: str, scope: Scope) -> bool | None:
        """Whether a token is for ``scope``; None where it is not known."""
        if not self.guarded:
            return True
        wanted = _digest(token)
        found: frozenset[str] | None = None
        for digest, scopes in self._scopes.items():  # all of them, whichever it is
            if hmac.compare_digest(wanted, digest):
                found = scopes
        return None if found is None else scope in found

    def check(self, token: str | None, scope: Scope) -> None:
        """Raise ProtocolError with close code 4401 or 4403 unless the token is for ``scope``."""
        allowed = self.allows(token or "", scope)
        if allowed is None:
            message = "a token is needed" if not token else "the token is not known here"
            raise ProtocolError(message, code="unauthorized", close_code=4401)
        if not allowed:
            message = f"the token is not for scope {scope}"
            raise ProtocolError(message, code="forbidden", close_code=4403)

    def welcomes(self, headers: Mapping[str, str]) -> bool:
        """Whether the page that a request comes from may connect; no ``Origin`` is no browser."""
        origin = headers.get("origin")
        if origin is None or origin in self._origins:
            return True
        page, host = urlsplit(origin), urlsplit(f"//{headers.get('host', '')}")
        return page.hostname in LOOPBACK or (page.hostname, page.port) == (host.hostname, host.port)


def _lines(path: str) -> list[str]:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"server.token_file: {error}") from None
    kept = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not kept:
        raise ConfigError(f"server.token_file: {path} holds no token")
    return kept


def _entry(entry: str) -> tuple[bytes, frozenset[str]]:
    token, *rest = entry.split()
    scopes = ",".join(rest).split(",") if rest else list(USUAL)
    scopes = [scope for scope in scopes if scope]
    if unknown := [scope for scope in scopes if scope not in SCOPES]:
        known = ", ".join(SCOPES)
        raise ConfigError(f"server.tokens: no scope {unknown[0]!r}; a token may have {known}")
    hashed = HASHED.fullmatch(token)
    return bytes.fromhex(hashed[1]) if hashed else _digest(token), frozenset(scopes)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
