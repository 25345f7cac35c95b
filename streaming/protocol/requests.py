"""What a dialect asks of the session behind it."""

from dataclasses import dataclass

from audiomamba.streaming.protocol.settings import EndpointSettings, StreamSettings

__all__ = [
    "Audio",
    "Cancel",
    "Finish",
    "Flush",
    "Gap",
    "Open",
    "Report",
    "Request",
    "TakeSnapshot",
    "Update",
]


@dataclass(frozen=True, slots=True)
class Open:
    """Open a session; to be answered with ``opened`` or ``fail`` before anything else."""

    settings: StreamSettings


@dataclass(frozen=True, slots=True)
class Audio:
    """Whole samples in the encoding of the settings, never empty."""

    samples: bytes


@dataclass(frozen=True, slots=True)
class Gap:
    """Time passes and nothing is heard."""

    samples: int


@dataclass(frozen=True, slots=True)
class Update:
    """Other thresholds from the next block on."""

    endpointing: EndpointSettings


@dataclass(frozen=True, slots=True)
class Flush:
    """Make everything received so far final; to be answered with ``Flushed``."""

    id: str | None


@dataclass(frozen=True, slots=True)
class Finish:
    """No more audio comes; to be answered with ``Drained`` after the last final."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop now, nothing more is wanted."""


@dataclass(frozen=True, slots=True)
class TakeSnapshot:
    """Save the state; to be answered with ``Snapshot``."""


@dataclass(frozen=True, slots=True)
class Report:
    """To be answered with ``Metrics``."""


Request = Open | Audio | Gap | Update | Flush | Finish | Cancel | TakeSnapshot | Report
