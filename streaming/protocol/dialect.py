"""What every wire dialect is to the server: frames in, requests out; events in, frames out.

A dialect owns no socket, task, thread or clock. Whoever drives it passes ``now`` in seconds of any
monotonic clock, answers the requests it returns, and sends what ``outgoing`` hands out.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from audiomamba.errors import Overloaded, ProtocolError
from audiomamba.streaming.protocol.events import Event, Failed, Ready
from audiomamba.streaming.protocol.requests import Request

__all__ = ["Close", "Dialect", "Outgoing", "internal_error"]


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection; nothing follows."""

    code: int
    reason: str = ""


Outgoing = str | bytes | Close


class Dialect(Protocol):
    """The server's end of one connection."""

    @property
    def name(self) -> str:
        """For metrics and logs."""

    @property
    def closed(self) -> bool:
        """Whether a Close was handed out, or will be by the next ``outgoing``."""

    @property
    def has_news(self) -> bool:
        """Whether ``outgoing`` has something to send."""

    @property
    def deadline(self) -> float | None:
        """When ``tick`` wants to be called, or None."""

    def receive(self, frame: str | bytes, now: float) -> list[Request]:
        """Take one frame of the client."""

    def tick(self, now: float) -> list[Request]:
        """Let time pass."""

    @property
    def resumable(self) -> bool:
        """Whether the client may come back: for the stream, or for what it missed of its end."""

    def opened(self, ready: Ready, now: float, past: dict[str, Any] | None = None) -> None:
        """The request ``Open`` succeeded; ``past`` is that of the stream it goes on with."""

    def lost(self) -> None:
        """The connection is gone; what is emitted from now on is kept for the next one."""

    def past(self) -> dict[str, Any]:
        """What the dialect has to know to go on with the stream in another connection."""

    def fail(self, error: ProtocolError | Overloaded, now: float) -> None:
        """A request was refused, or the session failed; the error says whether that is the end."""

    def emit(self, event: Event, now: float) -> None:
        """Take an event of the session."""

    def outgoing(self) -> list[Outgoing]:
        """What is to be sent, in order; each is handed out once."""


def internal_error(event: Failed) -> ProtocolError:
    """What a client hears of our own mistakes: that there was one, and what to quote."""
    message = f"the server made a mistake; quote {event.ref} when you report it"
    return ProtocolError(message, code="internal", close_code=1011)
