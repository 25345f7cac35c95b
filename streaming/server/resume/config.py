"""Settings of resumption."""

from dataclasses import dataclass

from audiomamba.errors import ConfigError

__all__ = ["ResumeConfig"]


@dataclass(kw_only=True, slots=True)
class ResumeConfig:
    """What is kept of a stream whose connection is gone."""

    folder: str = ""  # where; a restarted server, or another one, goes on with it. "" = in memory
    ttl_s: float = 120.0  # for how long
    checkpoint_s: float = 5.0  # audio between two snapshots, with a folder; finals are kept at once
    memory_mb: int = 64  # in memory; past it the oldest are given up

    def __post_init__(self) -> None:
        if not 1 <= self.ttl_s <= 86_400:
            raise ConfigError(f"resume.ttl_s wants 1..86400, got {self.ttl_s:g}")
        if not 0.1 <= self.checkpoint_s <= 60:
            raise ConfigError(f"resume.checkpoint_s wants 0.1..60, got {self.checkpoint_s:g}")
        if not 1 <= self.memory_mb <= 1 << 20:
            raise ConfigError(f"resume.memory_mb wants 1..{1 << 20}, got {self.memory_mb}")
