"""Settings of the server, and how the command line's overrides become them."""

import ipaddress
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from audiomamba.config import from_mapping, to_mapping
from audiomamba.errors import ConfigError, Error
from audiomamba.streaming.server.limits import LimitsConfig
from audiomamba.streaming.server.resume.config import ResumeConfig

__all__ = [
    "EngineConfig",
    "LimitsConfig",
    "ListenConfig",
    "ServerConfig",
    "VoskConfig",
    "compose",
    "compose_apart",
]

NOTICE_S = 5.0


@dataclass(kw_only=True, slots=True)
class ListenConfig:
    """Where the server listens, and whom it answers."""

    host: str = "127.0.0.1"
    port: int = 8765  # 0 = any free one; the line printed at the start says which
    tokens: list[str] = field(default_factory=list)  # "TOKEN [SCOPE,SCOPE]"; none = all may come
    token_file: str = ""  # the same, one a line
    query_token: bool = False  # take ?token=TOKEN too: addresses end up in logs and histories
    origins: list[str] = field(default_factory=list)  # of other sites' pages that may connect
    insecure: bool = False  # allow an address others can reach without any token
    proxies: list[str] = field(default_factory=list)  # whose X-Forwarded-For is believed
    tls_cert: str = ""  # PEM files; a browser gives its microphone to https and loopback alone
    tls_key: str = ""
    metrics_port: int = -1  # -1 = /metrics on the port above; 0 = any free one
    metrics_host: str = "127.0.0.1"  # of a port of its own, which asks for no token
    drain_s: float = 15.0  # longest time for the last words when told to stop
    drain_notice_s: float | None = None  # before them, for balancers: 0 on loopback, else 5
    ping_s: float = 20.0  # from one WebSocket ping to the next
    pong_within_s: float = 60.0
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] = "console"
    log_text: bool = False  # put what was said into the log

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise ConfigError(f"server.port must be in 0..65535, got {self.port}")
        if not -1 <= self.metrics_port <= 65_535:
            raise ConfigError(f"server.metrics_port must be in -1..65535, got {self.metrics_port}")
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ConfigError("server.tls_cert and server.tls_key: wants both or neither")
        if not 0 <= self.notice_s <= 3600:
            raise ConfigError(f"server.drain_notice_s must be in 0..3600, got {self.notice_s}")
        for name in ("drain_s", "ping_s", "pong_within_s"):
            if not 0 < getattr(self, name) <= 3600:
                raise ConfigError(f"server.{name} must be in 0..3600, got {getattr(self, name)}")

    @property
    def notice_s(self) -> float:
        """How long balancers have to see that the server is not ready before it says goodbye."""
        if self.drain_notice_s is not None:
            return self.drain_notice_s
        return NOTICE_S if self.public else 0.0

    @property
    def public(self) -> bool:
        """Whether others than this machine can reach the address."""
        if self.host == "localhost":
            return False
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return True


@dataclass(kw_only=True, slots=True)
class EngineConfig:
    """How the model runs."""

    model: str = "listen-en"  # a name that `audiomamba models` lists, or a folder
    voice: str = "auto"  # the same, of a model that makes sound; auto = all that ship; "" = none
    recordings: int = 16  # made at once by a model
    device: str = "cpu"  # torch's name of it
    slots: int = 64  # streams at once
    # Encoder frames (40 ms) a step: fewer answer sooner, more cost less. 0 = 2 on the native
    # engine, where a stream that is behind takes up to 4 in a step; else 4.
    block: int = 0
    threads: int = 0  # that run the model; 0 = a core each on the native engine, else one
    buffer_s: float = 30.0  # audio that may wait in a stream
    language_model: bool = True  # decode with the checkpoint's, where it has one

    def __post_init__(self) -> None:
        if not 1 <= self.slots <= 65_536:
            raise ConfigError(f"engine.slots must be in 1..65536, got {self.slots}")
        if not 0 <= self.block <= 64:
            raise ConfigError(f"engine.block must be in 0..64, got {self.block}")
        if not 1 <= self.recordings <= 1024:
            raise ConfigError(f"engine.recordings must be in 1..1024, got {self.recordings}")
        if not 0 <= self.threads <= 1024:
            raise ConfigError(f"engine.threads must be in 0..1024, got {self.threads}")
        if not 1 <= self.buffer_s <= 3600:
            raise ConfigError(f"engine.buffer_s must be in 1..3600, got {self.buffer_s}")


@dataclass(kw_only=True, slots=True)
class VoskConfig:
    """What holds for a client of the vosk dialect that sends no configuration."""

    enabled: bool = True
    sample_rate: int = 8000
    words: bool = True
    alternatives: int = 0

    def __post_init__(self) -> None:
        if not 8000 <= self.sample_rate <= 48_000:
            raise ConfigError(f"vosk.sample_rate must be in 8000..48000, got {self.sample_rate}")


@dataclass(kw_only=True, slots=True)
class ServerConfig:
    """Everything ``audiomamba serve`` can be told."""

    server: ListenConfig = field(default_factory=ListenConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    vosk: VoskConfig = field(default_factory=VoskConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    resume: ResumeConfig = field(default_factory=ResumeConfig)

    def __post_init__(self) -> None:
        listen = self.server
        if listen.public and not (listen.tokens or listen.token_file or listen.insecure):
            raise ConfigError(
                f"server.host {listen.host} can be reached by others: set server.tokens or "
                "server.token_file, or server.insecure=true to let everybody in"
            )


def compose(overrides: Sequence[str]) -> ServerConfig:
    """Compose conf/serve.yaml with Hydra overrides such as ``server.port=9000``.

    A process that serves calls :func:`compose_apart`.

    Raises:
        ConfigError: an override cannot be read, a key is unknown, a value is out of range.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_module
    from hydra.core.config_store import ConfigStore
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    ConfigStore.instance().store(name="serve_schema", node=to_mapping(ServerConfig()))
    try:
        with initialize_config_module("audiomamba.conf", version_base="1.3"):
            tree = hydra_compose("serve", overrides=list(overrides))
        plain: Any = OmegaConf.to_container(tree, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_one_line(error)) from None
    return from_mapping(ServerConfig, {str(key): value for key, value in plain.items()})


def compose_apart(overrides: Sequence[str]) -> ServerConfig:
    """As :func:`compose`, by a process of its own where one can be forked.

    Hydra and its parsers take 8 MB that a server has no use for once it knows its settings. Call it
    before there are threads.

    Raises:
        ConfigError: as there.
        Error: that process died.
    """
    if not hasattr(os, "fork"):
        return compose(overrides)
    readable, writable = os.pipe()
    if not (child := os.fork()):
        status = 1
        try:
            os.close(readable)
            with open(writable, "w", encoding="utf-8") as pipe:
                json.dump(_answer(overrides), pipe)
            status = 0
        finally:
            os._exit(status)  # whoever called is the parent's alone
    os.close(writable)
    with open(readable, encoding="utf-8") as pipe:
        answer = pipe.read()
    if os.waitpid(child, 0)[1] or not answer:
        raise Error("serve: the settings could not be composed")
    known: dict[str, Any] = json.loads(answer)
    if "wrong" in known:
        raise ConfigError(known["wrong"])
    return from_mapping(ServerConfig, known["config"])


def _answer(overrides: Sequence[str]) -> dict[str, Any]:
    try:
        return {"config": to_mapping(compose(overrides))}
    except ConfigError as error:
        return {"wrong": str(error)}


def _one_line(error: Exception) -> str:
    """Hydra's message without its advice on Hydra, and its cause, which names the key."""
    cause = error.__cause__ or error
    lines = [line.strip() for line in f"{error}\n{cause}".splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(("To append", "full_key", "object_type"))]
    return "; ".join(dict.fromkeys(kept))
