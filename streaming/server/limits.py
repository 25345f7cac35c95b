"""How long a connection may keep the server waiting."""

from collections.abc import Callable
from dataclasses import dataclass

from audiomamba.errors import ConfigError, ProtocolError
from audiomamba.streaming.protocol import events

__all__ = ["IdleWatch", "LimitsConfig"]


@dataclass(kw_only=True, slots=True)
class LimitsConfig:
    """Bounds of one connection, in seconds unless said otherwise."""

    connections: int = 0  # WebSockets at once, with those that have no stream yet; 0 = 2 slots + 16
    room_s: float = 10.0  # the socket stays unread for want of room; longer, and pongs are missed
    unread_s: float = 30.0  # a client may leave what it is sent unread
    idle_s: float = 300.0  # nothing comes: no frame, no pong
    idle_warning_s: float = 240.0  # of that, when the client is warned

    def __post_init__(self) -> None:
        if not 0 <= self.connections <= 1_000_000:
            raise ConfigError(f"limits.connections wants 0..1000000, got {self.connections}")
        for name in ("room_s", "unread_s", "idle_s", "idle_warning_s"):
            if not 0 < getattr(self, name) <= 86_400:
                raise ConfigError(f"limits.{name} wants 0..86400, got {getattr(self, name)}")
        if self.idle_warning_s >= self.idle_s:
            raise ConfigError(
                f"limits.idle_warning_s wants less than idle_s ({self.idle_s:g}), "
                f"got {self.idle_warning_s:g}"
            )


class IdleWatch:
    """Notices that nothing comes from a client any more.

    A client that is muted sends nothing and still answers pings, which counts as a sign of life.

    Args:
        limits: How long is too long.
        heard_at: When something last came, in seconds of a monotonic clock.
    """

    def __init__(self, limits: LimitsConfig, heard_at: Callable[[], float]) -> None:
        self._limits = limits
        self._heard_at = heard_at
        self._warned_of: float | None = None  # the silence that was warned of began then

    @property
    def deadline(self) -> float:
        """When ``look`` may have something to say."""
        heard = self._heard_at()
        warned = self._warned_of == heard
        return heard + (self._limits.idle_s if warned else self._limits.idle_warning_s)

    def look(self, now: float) -> events.Warned | ProtocolError | None:
        """A warning, the end of the connection, or nothing yet."""
        heard = self._heard_at()
        silent = now - heard
        if silent >= self._limits.idle_s:
            message = f"nothing came for {self._limits.idle_s:g} s, not even a pong"
            return ProtocolError(message, code="timeout", close_code=4408)
        if silent >= self._limits.idle_warning_s and self._warned_of != heard:
            self._warned_of = heard
            left = self._limits.idle_s - silent
            return events.Warned("idle", f"nothing came for {silent:.0f} s; closing in {left:.0f}")
        return None
