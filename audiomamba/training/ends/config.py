"""What the training of endpoint outputs is made of."""

from dataclasses import dataclass, field

from audiomamba.errors import ConfigError
from audiomamba.training.config import RunConfig

__all__ = ["EndsConfig", "EndsDataConfig", "EndsExperiment", "EndsRunConfig"]


@dataclass(kw_only=True, slots=True)
class EndsConfig:
    """Which outputs, over frames of which width."""

    width: int = 320  # of the encoder's frames
    horizons_s: list[float] = field(default_factory=lambda: [0.3, 0.6, 1.0, 2.0])

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ConfigError(f"model.width must be at least 1, got {self.width}")
        if not self.horizons_s or min(self.horizons_s) <= 0:
            raise ConfigError(f"model.horizons_s must be above 0, got {self.horizons_s}")


@dataclass(kw_only=True, slots=True)
class EndsDataConfig:
    """Folders of encoded speech (training/delayed/encode.py) with its activity."""

    encoded: list[str] = field(default_factory=list)
    held_out: list[str] = field(default_factory=list)  # to measure on at the end
    batch: int = 16  # rows

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ConfigError(f"data.batch must be at least 1, got {self.batch}")


@dataclass(kw_only=True, slots=True)
class EndsRunConfig(RunConfig):
    """A run of endpoint outputs."""

    encoder: str = "listen-en"  # the transcriber whose frames these are


@dataclass(kw_only=True, slots=True)
class EndsExperiment:
    """What conf/ composes for endpoint outputs."""

    kind: str = "ends"
    model: EndsConfig = field(default_factory=EndsConfig)
    data: EndsDataConfig = field(default_factory=EndsDataConfig)
    train: EndsRunConfig = field(default_factory=lambda: EndsRunConfig(steps=1))
