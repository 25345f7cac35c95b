"""What a dialect asks of the session behind it."""

from dataclasses import dataclass

from audiomamba.streaming.protocol.settings import (
    EndpointSettings,
    GenerationSettings,
    StreamSettings,
)

__all__ = [
    "Audio",
    "Cancel",
    "CancelGeneration",
    "Credit",
    "Finish",
    "Flush",
    "Gap",
    "Generate",
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
class Generate:
    """Make a recording, after those asked for before; answered with ``GenerationStart``, ``Sound``
    as it is made, and ``GenerationEnd``."""

    settings: GenerationSettings


@dataclass(frozen=True, slots=True)
class Credit:
    """So much more of a recording may be sent."""

    id: str
    seconds: float


@dataclass(frozen=True, slots=True)
class CancelGeneration:
    """Stop making a recording; answered with its ``GenerationEnd``."""

    id: str


@dataclass(frozen=True, slots=True)
class TakeSnapshot:
    """Save the state; to be answered with ``Snapshot``."""


@dataclass(frozen=True, slots=True)
class Report:
    """To be answered with ``Metrics``."""


Request = (
    Open | Audio | Gap | Update | Flush | Finish | Cancel | Generate | Credit | CancelGeneration
    | TakeSnapshot | Report
)  # fmt: skip
