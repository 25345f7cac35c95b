"""A wire between client and server that breaks, for tests of who goes on afterwards."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

__all__ = ["Wire"]

PIECE = 4096


class Wire:
    """Forwards connections to a server, and cuts each after some bytes of the client's.

    Args:
        server_url: Where to.
        cuts: Connections that are cut; later ones last.
        within: Bytes from the client after which one is cut, drawn evenly up to this.
        seed: Of the draw.
    """

    def __init__(self, server_url: str, *, cuts: int = 0, within: int = 1, seed: int = 0) -> None:
        self._to = urlsplit(server_url)
        self._left, self._within = cuts, within
        self._random = random.Random(seed)
        self._open: set[asyncio.Task[None]] = set()
        self.cut = 0
        self.url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Wire"]:
        """Listen as long as the context lasts."""
        server = await asyncio.start_server(self._accept, "127.0.0.1")
        self.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            await asyncio.gather(*self._open)

    def _accept(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._forward(near, back))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _forward(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            far, out = await asyncio.open_connection(self._to.hostname, self._to.port)
            limit = None
            if self._left:
                self._left -= 1
                limit = self._random.randrange(self._within)
            up = asyncio.create_task(self._pass_on(near, out, limit))
            down = asyncio.create_task(self._pass_on(far, back, None))
            await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
            self.cut += limit is not None and not down.done()
            for task in (up, down):
                task.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
            await _abort(out)
        await _abort(back)

    async def _pass_on(
        self, source: asyncio.StreamReader, to: asyncio.StreamWriter, limit: int | None
    ) -> None:
        passed = 0
        while limit is None or passed < limit:
            data = await source.read(PIECE if limit is None else min(PIECE, limit - passed))
            if not data:
                return
            to.write(data)
            await to.drain()
            passed += len(data)


async def _abort(end: asyncio.StreamWriter) -> None:
    end.transport.abort()
    with suppress(ConnectionError):
        await end.wait_closed()
