"""What the training of a language model is made of, apart from its shape."""

from dataclasses import dataclass, field

from audiomamba.errors import ConfigError
from audiomamba.models.language import LanguageModelConfig
from audiomamba.training.config import RunConfig

__all__ = ["LanguageDataConfig", "LanguageExperiment", "LanguageRunConfig"]


@dataclass(kw_only=True, slots=True)
class LanguageDataConfig:
    """Arrays of pieces (training/language/pieces.py), and how rows are cut out of them."""

    pieces: list[str] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)  # a piece's, one each; none: all alike
    held_out: str = ""  # an array that is measured on; none where it is empty
    length: int = 256  # pieces a row
    batch: int = 64  # rows
    fresh_share: float = 0.5  # of the sentences inside a row that begin with nothing remembered

    def __post_init__(self) -> None:
        for name in ("length", "batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"data.{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.fresh_share <= 1:
            raise ConfigError(f"data.fresh_share must be in 0..1, got {self.fresh_share}")
        if self.weights and len(self.weights) != len(self.pieces):
            raise ConfigError(
                f"data.weights: {len(self.weights)} for {len(self.pieces)} arrays of pieces"
            )
        if any(weight <= 0 for weight in self.weights):
            raise ConfigError(f"data.weights must be above 0, got {self.weights}")


@dataclass(kw_only=True, slots=True)
class LanguageRunConfig(RunConfig):
    """A run of a language model."""

    tokenizer: str = ""  # of the pieces; "" that of the transcriber that ships
    evaluate_every_s: float = 120.0  # wall seconds from one measure to the next; 0 = at the end


@dataclass(kw_only=True, slots=True)
class LanguageExperiment:
    """What conf/ composes for a language model."""

    kind: str = "language"
    model: LanguageModelConfig = field(default_factory=LanguageModelConfig)
    data: LanguageDataConfig = field(default_factory=LanguageDataConfig)
    train: LanguageRunConfig = field(default_factory=lambda: LanguageRunConfig(steps=1))
