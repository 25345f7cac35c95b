"""A WebSocket client over a bare socket, for tests of what no library would do.

It answers nothing of itself, no ping and no close, and reads only when it is told to.
"""

import contextlib
import json
import socket
from typing import Any
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from tests.end_to_end.serving import START_WITHIN_S

__all__ = ["Rough"]

SMALL_BUFFER = 4096  # of the kernel, so that a server soon notices that nobody reads


class Rough(contextlib.AbstractContextManager["Rough"]):
    """An open connection to ``url``."""

    def __init__(self, url: str) -> None:
        at = urlsplit(url)
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        self.socket.settimeout(START_WITHIN_S)
        self.socket.connect((at.hostname, at.port))
        self._protocol = ClientProtocol(parse_uri(url), max_size=None)
        self._protocol.send_request(self._protocol.connect())
        self.flush()
        self._events: list[Any] = []
        self._rest = b""
        self._next()  # the response
        if self._protocol.handshake_exc is not None:
            self.socket.close()
            raise self._protocol.handshake_exc

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    def say(self, message: dict[str, Any]) -> None:
        self._protocol.send_text(json.dumps(message).encode())
        self.flush()

    def send(self, audio: bytes) -> None:
        self._protocol.send_binary(audio)
        self.flush()

    def frame(self, opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
        """One frame as it goes over the wire, whatever is in it."""
        return Frame(opcode, data, fin=fin).serialize(mask=True)

    def raw(self, data: bytes) -> None:
        self.socket.sendall(data)

    def shove(self, data: bytes) -> None:
        """Send what the other end takes without being waited for; the rest goes first next time."""
        self._rest = self._rest or data
        self.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while self._rest:
                sent = self.socket.send(self._rest[:65_536])
                self._rest = self._rest[sent:]
        self.socket.settimeout(START_WITHIN_S)

    def hear(self) -> dict[str, Any]:
        """The next event."""
        while True:
            frame = self._next()
            if frame.opcode is Opcode.TEXT:
                event: dict[str, Any] = json.loads(frame.data)
                return event

    def until(self, kind: str) -> list[dict[str, Any]]:
        """Events up to the first of a kind."""
        heard = [self.hear()]
        while heard[-1]["type"] != kind:
            heard.append(self.hear())
        return heard

    def closed_with(self) -> tuple[int | None, list[dict[str, Any]]]:
        """Read to the end: the close code, None where there is none, and the events before."""
        heard: list[dict[str, Any]] = []
        try:
            while True:
                frame = self._next()
                if frame.opcode is Opcode.CLOSE:
                    return int.from_bytes(frame.data[:2], "big"), heard
                if frame.opcode is Opcode.TEXT:
                    heard.append(json.loads(frame.data))
        except (EOFError, ConnectionError):
            return None, heard

    def flush(self) -> None:
        for data in self._protocol.data_to_send():
            self.socket.sendall(data)

    def _next(self) -> Any:
        while not self._events:
            received = self.socket.recv(65_536)
            if not received:
                raise EOFError
            self._protocol.receive_data(received)
            self._protocol.data_to_send()  # pongs and the like are swallowed
            self._events = list(self._protocol.events_received())
        return self._events.pop(0)
