"""uvicorn's WebSocket, and the three things a connection wants to know of it beyond ASGI.

When something last came, pongs included; to close a socket whose other end does not read; and that
a close never waits for ever for such an end.
"""

from asyncio import TimerHandle
from time import monotonic
from typing import cast

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

__all__ = ["LINGER_S", "WIRE", "Wire"]

WIRE = "audiomamba.wire"
"""Where the ASGI scope's extensions hold the :class:`Wire`."""
LINGER_S = 5.0
"""How long a closed socket may take to be read empty before it is cut."""


class Wire(WebSocketsSansIOProtocol):
    """One WebSocket connection."""

    heard_at = 0.0  # monotonic seconds: the last bytes of the client, whatever they were
    _cut: TimerHandle | None = None

    @property
    def refused_with(self) -> int | None:
        """The code of a close that was ours and not the application's: 1007, 1009 or 1011."""
        sent = self.conn.close_sent
        return sent.code if sent is not None and self.conn.close_rcvd is None else None

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if hasattr(self, "scope"):
            extensions = cast(dict[str, object], self.scope["extensions"])
            extensions[WIRE] = self

    def data_received(self, data: bytes) -> None:
        self.heard_at = monotonic()
        super().data_received(data)

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and self.close_sent:
            self.handshake_complete = True  # refused, which uvicorn logs as a mistake of ours

    def connection_lost(self, exc: Exception | None) -> None:
        if self._cut is not None:
            self._cut.cancel()
        super().connection_lost(exc)

    def send_receive_event_to_app(self) -> None:
        """Refuse text that is no UTF-8 ourselves: uvicorn logs our traceback for it. Read on while
        messages are taken as they come."""
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self.frames = []
                self.conn.send_close(1007, "not UTF-8")
                self.handle_parser_exception()
                return
        # uvicorn stops reading at every message, and goes on once it is taken: two system calls a
        # piece of audio. It is soon enough where one waits already.
        paused, self.read_paused = self.read_paused, True
        super().send_receive_event_to_app()
        self.read_paused = paused
        if not paused and self.queue.qsize() > 1 and not self.close_sent:
            self.read_paused = True
            self.transport.pause_reading()

    def keepalive_timeout(self) -> None:
        """No pong came in time. One that waits behind audio which is sent faster than it is decoded
        is no sign of death."""
        if self.heard_at > self.ping_sent_at:
            self.pong_timer, self.pending_ping_payload = None, None
            self.schedule_ping()
            return
        super().keepalive_timeout()
        self.cut_later()

    def handle_parser_exception(self) -> None:
        super().handle_parser_exception()
        self.cut_later()

    def drop(self, code: int, reason: str) -> None:
        """Close though the client does not read: the close frame goes behind what waits."""
        if not self.close_sent:
            self.conn.send_close(code, reason)
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
        self.stop_keepalive()
        self.transport.close()
        self.cut_later()

    def cut_later(self) -> None:
        """asyncio closes a transport once its buffer is empty, which a dead peer never lets be."""
        if self._cut is None and not self.disconnected:
            self._cut = self.loop.call_later(LINGER_S, self.transport.abort)
