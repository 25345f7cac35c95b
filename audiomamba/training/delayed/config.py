"""What the training of a delayed-streams head is made of, apart from its shape."""

from dataclasses import dataclass, field

from audiomamba.errors import ConfigError
from audiomamba.models.delayed_streams import DelayedStreamsConfig
from audiomamba.training.config import RunConfig

__all__ = ["DelayedDataConfig", "DelayedExperiment", "DelayedRunConfig"]


@dataclass(kw_only=True, slots=True)
class DelayedDataConfig:
    """Folders of encoded speech (training/delayed/encode.py), and how batches are made of them."""

    encoded: list[str] = field(default_factory=list)
    batch: int = 64  # rows
    token_noise: float = 0.15  # of the tokens that are read again, replaced by others
    hidden_share: float = 0.1  # of the frames, in stretches, replaced by their mean

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ConfigError(f"data.batch must be at least 1, got {self.batch}")
        for name in ("token_noise", "hidden_share"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"data.{name} must be in 0..1, got {getattr(self, name)}")


@dataclass(kw_only=True, slots=True)
class DelayedRunConfig(RunConfig):
    """A run of a delayed-streams head."""

    encoder: str = "listen-en"  # the transcriber whose frames these are: its tokenizer is taken
    nothing_weight: float = 1.0  # of steps that write nothing, in the loss: less learns faster, and
    # says too much; end with 1

    def __post_init__(self) -> None:
        RunConfig.__post_init__(self)  # slots: super() would be another class's
        if self.nothing_weight <= 0:
            raise ConfigError(f"train.nothing_weight must be above 0, got {self.nothing_weight}")


@dataclass(kw_only=True, slots=True)
class DelayedExperiment:
    """What conf/ composes for a delayed-streams head."""

    kind: str = "delayed"
    model: DelayedStreamsConfig = field(default_factory=DelayedStreamsConfig)
    data: DelayedDataConfig = field(default_factory=DelayedDataConfig)
    train: DelayedRunConfig = field(default_factory=lambda: DelayedRunConfig(steps=1))
