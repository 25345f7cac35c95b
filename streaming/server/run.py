"""The server process: sockets, uvicorn, and a calm end."""

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
from importlib.metadata import version

import uvicorn

import audiomamba
from audiomamba.errors import ConfigError, Error
from audiomamba.streaming.server import logs
from audiomamba.streaming.server.app import make_app, make_metrics_app
from audiomamba.streaming.server.config import ListenConfig, ServerConfig
from audiomamba.streaming.server.drain import Drain
from audiomamba.streaming.server.memory import frugal_allocator, give_memory_back
from audiomamba.streaming.server.metrics import Metrics
from audiomamba.streaming.server.service import Service, load_service
from audiomamba.streaming.server.wire import Wire

__all__ = ["serve"]

MAX_FRAME_BYTES = 1 << 20
SIGNALS = (signal.SIGINT, signal.SIGTERM)

log = logging.getLogger(__name__)


def serve(config: ServerConfig) -> int:
    """Serve until SIGINT or SIGTERM; returns the exit code.

    0 when every stream could say its last words or ran into ``server.drain_s``; 128 and the
    signal's number when a second one cut that short.

    Raises:
        ModelError: the model cannot be loaded.
        ConfigError: a certificate or a token file cannot be read.
        Error: an address cannot be bound.
    """
    frugal_allocator()
    listen, engine = config.server, config.engine
    logs.configure(listen.log_level, listen.log_format)
    _check_certificate(listen)
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(_bind(listen.host, listen.port))]
        if listen.metrics_port >= 0:
            sockets.append(stack.enter_context(_bind(listen.metrics_host, listen.metrics_port)))
        service = load_service(
            engine.model,
            device=engine.device,
            slots=engine.slots,
            block=engine.block,
            threads=engine.threads,
            voice=engine.voice,
            recordings=engine.recordings,
            buffer_s=engine.buffer_s,
            checkpoint_s=config.resume.checkpoint_s if config.resume.folder else 0.0,
            language_model=engine.language_model,
        )
        give_memory_back()
        return asyncio.run(_run(service, config, sockets))


async def _run(service: Service, config: ServerConfig, sockets: list[socket.socket]) -> int:
    engines = service.engines
    metrics = Metrics(build=_build(service), state_bytes=engines.state_bytes, slots=engines.slots)
    starlette, app = make_app(service, config, metrics)
    servers = [_Server(_public(starlette, config))]
    if len(sockets) > 1:
        servers.append(_Server(_private(make_metrics_app(app))))
    serving = [
        asyncio.create_task(server.serve(sockets=[listening]))
        for server, listening in zip(servers, sockets, strict=True)
    ]
    drain = Drain(app, config.server)
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, drain.signalled, number)
    announcing = asyncio.create_task(_announce(service, config.server, sockets))
    draining = asyncio.create_task(drain.run())
    await asyncio.wait([*serving, draining], return_when=asyncio.FIRST_COMPLETED)
    for task in (announcing, draining):
        task.cancel()
    for server in servers:
        server.should_exit = True
        server.force_exit = drain.exit_code != 0
    await asyncio.gather(*serving)
    log.info("server stopped", extra={"event": "stopped", "exit_code": drain.exit_code})
    return drain.exit_code


class _Server(uvicorn.Server):
    """uvicorn would take the signals, and stop before the last words are out."""

    def capture_signals(self) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]
        return contextlib.nullcontext()


def _public(app: object, config: ServerConfig) -> uvicorn.Config:
    listen = config.server
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        log_config=None,
        access_log=False,
        ws=Wire,
        ws_max_size=MAX_FRAME_BYTES,
        ws_ping_interval=listen.ping_s,
        ws_ping_timeout=listen.pong_within_s,
        ws_per_message_deflate=False,
        proxy_headers=bool(listen.proxies),
        forwarded_allow_ips=list(listen.proxies),
        server_header=False,
        ssl_certfile=listen.tls_cert or None,
        ssl_keyfile=listen.tls_key or None,
        timeout_graceful_shutdown=2,
        lifespan="on",
    )


def _private(app: object) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=1,
        lifespan="off",
    )


async def _announce(service: Service, listen: ListenConfig, sockets: list[socket.socket]) -> None:
    """One line, once a client is welcome; the port is the one that was found."""
    while not service.engines.ready:
        await asyncio.sleep(0.02)
    scheme = "https" if listen.tls_cert else "http"
    print(f"audiomamba serves {service.name} on {scheme}://{_address(sockets[0])}/", flush=True)
    if len(sockets) > 1:
        print(f"metrics on http://{_address(sockets[1])}/metrics", flush=True)
    log.info("server ready", extra={"event": "ready", "model": service.name})


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _build(service: Service) -> dict[str, str]:
    """What runs here, for ``build_info``."""
    kind = service.engines.kind
    return {
        "version": audiomamba.__version__,
        "model": service.name,
        "engine": kind,
        "torch": version("torch") if kind == "torch" else "",
    }


def _check_certificate(listen: ListenConfig) -> None:
    if not listen.tls_cert:
        return
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
            listen.tls_cert, listen.tls_key
        )
    except OSError as error:  # ssl's own errors are among them
        raise ConfigError(f"server.tls_cert, server.tls_key: {error}") from None


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
