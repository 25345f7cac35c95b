"""The end of a server: told to stop, it stops taking streams, says the last words, and goes."""

import asyncio
import logging
import signal

from audiomamba.streaming.server.app import App
from audiomamba.streaming.server.config import ListenConfig

__all__ = ["Drain"]

log = logging.getLogger(__name__)

LOOK_S = 0.02


class Drain:
    """Waits for a signal and then ends every stream.

    Args:
        app: Whose connections are drained.
        listen: How long each part may take.
    """

    def __init__(self, app: App, listen: ListenConfig) -> None:
        self.exit_code = 0
        self._app = app
        self._listen = listen
        self._asked = asyncio.Event()
        self._hurry = asyncio.Event()

    def signalled(self, number: int) -> None:
        """The process got a signal: the first asks it to stop, the second to stop now."""
        name = signal.Signals(number).name
        if not self._asked.is_set():
            log.info("%s: draining", name, extra={"event": "drain", "signal": name})
            self._asked.set()
            return
        log.warning("%s again: stopping now", name, extra={"event": "hurry", "signal": name})
        self.exit_code = 128 + number
        self._hurry.set()

    async def run(self) -> None:
        """Return once the server may go."""
        await self._asked.wait()
        self._app.service.draining = True  # not ready any more, and new streams get a 503
        await self._pause(self._listen.notice_s)
        connections = list(self._app.connections)
        for connection in connections:
            connection.drain(self._listen.drain_s)
        ends = asyncio.get_running_loop().time() + self._listen.drain_s
        while self._app.connections and asyncio.get_running_loop().time() < ends:
            if await self._pause(LOOK_S):
                return
        left = len(self._app.connections)
        if left:
            log.warning("%d streams did not end in time", left, extra={"event": "drain_cut"})
        log.info("drained", extra={"event": "drained", "streams": len(connections) - left})

    async def _pause(self, seconds: float) -> bool:
        """Wait; returns at once, and True, when there is no time any more."""
        try:
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
        except TimeoutError:
            return False
        return True
