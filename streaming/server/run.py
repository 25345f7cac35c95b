"""The server process: a socket, uvicorn, and a calm end."""

import asyncio
import contextlib
import signal
import socket

import uvicorn

from audiomamba.errors import Error
from audiomamba.streaming.server.app import App, make_app
from audiomamba.streaming.server.config import ServerConfig
from audiomamba.streaming.server.service import Service, load_service

__all__ = ["serve"]

MAX_FRAME_BYTES = 1 << 20
LAST_WORDS_S = 0.2


def serve(config: ServerConfig) -> int:
    """Serve until SIGINT or SIGTERM; returns the exit code.

    Raises:
        ModelError: the model cannot be loaded.
        Error: the address cannot be bound.
    """
    engine = config.engine
    listening = _bind(config.server.host, config.server.port)
    with listening:
        service = load_service(
            engine.model,
            device=engine.device,
            slots=engine.slots,
            block=engine.block,
            buffer_s=engine.buffer_s,
        )
        return asyncio.run(_run(service, config, listening))


async def _run(service: Service, config: ServerConfig, listening: socket.socket) -> int:
    starlette, app = make_app(service, config)
    server = _Server(
        uvicorn.Config(
            starlette,
            log_level=config.server.log_level,
            ws_max_size=MAX_FRAME_BYTES,
            ws_ping_interval=config.server.ping_s,
            ws_ping_timeout=config.server.pong_within_s,
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=round(config.server.drain_s) + 1,
            lifespan="on",
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    stopping = asyncio.create_task(stop.wait())
    announcing = asyncio.create_task(_announce(service, config, listening))
    await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
    announcing.cancel()
    if stop.is_set():
        await _drain(app, config.server.drain_s)
        server.should_exit = True
    stopping.cancel()
    await serving
    return 0


class _Server(uvicorn.Server):
    """uvicorn would take the signals, and stop before the last words are out."""

    def capture_signals(self) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]
        return contextlib.nullcontext()


async def _announce(service: Service, config: ServerConfig, listening: socket.socket) -> None:
    """One line, once a client is welcome; the port is the one that was found."""
    while not service.engine.ready:
        await asyncio.sleep(0.02)
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    print(f"audiomamba serves {service.name} on http://{shown}:{port}/", flush=True)


async def _drain(app: App, within_s: float) -> None:
    """Let every stream say its last words; nobody new comes in."""
    app.service.draining = True
    for connection in list(app.connections):
        connection.drain(within_s)
    deadline = asyncio.get_running_loop().time() + within_s
    while app.connections and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(LAST_WORDS_S / 10)


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        reason = error.strerror or str(error)
        raise Error(f"cannot listen on {host}:{port}: {reason}; try server.port=0") from None
    return listening
