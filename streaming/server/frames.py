"""A Starlette WebSocket as the ``Socket`` that a connection wants."""

from starlette.websockets import WebSocket, WebSocketDisconnect

from audiomamba.streaming.server.connection import Gone
from audiomamba.streaming.server.wire import WIRE, Wire

__all__ = ["Frames"]

REASON_BYTES = 120
"""Of a close's reason: a close frame holds 125 bytes with its code."""


class Frames:
    """See :class:`audiomamba.streaming.server.connection.Socket`."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._wire: Wire = socket.scope["extensions"][WIRE]

    @property
    def refused_with(self) -> int | None:
        """Close code of what the WebSocket layer itself refused, such as a frame too big."""
        return self._wire.refused_with

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
            await self._socket.close(code, _cut(reason))
        except (WebSocketDisconnect, RuntimeError):
            raise Gone from None
        self._wire.cut_later()

    def drop(self, code: int, reason: str) -> None:
        """Close without waiting for a client that does not read."""
        self._wire.drop(code, _cut(reason))

    def heard_at(self) -> float:
        """When the client last sent anything, a pong included."""
        return self._wire.heard_at


def _cut(reason: str) -> str:
    return reason.encode()[:REASON_BYTES].decode(errors="ignore")
