"""What the training of a waveform model is made of, apart from its shape."""

from dataclasses import dataclass, field

from audiomamba.errors import ConfigError
from audiomamba.models.wave.config import WaveConfig
from audiomamba.models.wave.sampling import Sampling
from audiomamba.training.config import RunConfig

__all__ = ["MadeConfig", "StringsConfig", "WaveDataConfig", "WaveExperiment", "WaveRunConfig"]


@dataclass(kw_only=True, slots=True)
class MadeConfig:
    """Sound made by rule (training/wave/procedural.py)."""

    minutes: float = 0.0  # of each of the two kinds; 0 = none
    kinds: list[str] = field(default_factory=lambda: ["music", "ambience"])
    piece_s: float = 60.0  # length of one piece


@dataclass(kw_only=True, slots=True)
class StringsConfig:
    """Words of a speaker strung together (training/wave/strings.py)."""

    minutes: float = 0.0  # of all speakers together; 0 = none
    piece_s: float = 20.0  # length of one string
    pause_least_s: float = 0.1  # between two words
    pause_most_s: float = 0.6
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.pause_least_s <= self.pause_most_s:
            raise ConfigError(
                f"data.strings: pauses must be in order and not below 0, "
                f"got {self.pause_least_s} and {self.pause_most_s}"
            )
        if self.minutes < 0 or self.piece_s <= 0:
            raise ConfigError(
                f"data.strings: minutes must be >= 0 and piece_s > 0, "
                f"got {self.minutes} and {self.piece_s}"
            )


@dataclass(kw_only=True, slots=True)
class WaveDataConfig:
    """Recordings, and how rows of a batch are cut out of them."""

    manifests: list[str] = field(default_factory=list)  # .jsonl, recordings in a .tar or beside
    corpora: list[str] = field(default_factory=list)  # folders of training/corpus.py
    corpora_weight: float = 1.0  # how often one of their utterances comes beside a recording
    made: MadeConfig = field(default_factory=MadeConfig)
    strings: StringsConfig = field(default_factory=StringsConfig)
    labels: list[str] = field(default_factory=list)  # take these alone; none: all there are
    peak: float = 0.0  # every recording is brought to this peak; 0 = left as it is
    trim_db: float = 0.0  # silence so far below the peak is cut off at both ends; 0 = kept
    held_out_takes: int = 5  # records with an `index` below this are measured on alone
    held_out_every: int = 20  # of records without index and split, each so-manyth
    length: int = 8_192  # samples a row and step
    carry: int = 1  # steps over which a row goes on in its recording, its state handed on
    batch: int = 64  # rows
    lead_s: float = 0.05  # most silence before a recording
    tail_s: float = 0.1  # silence after a recording that the model shall learn
    tail_weight: float = 1.0  # of a sample of it in the loss; silence is soon learnt, words are not
    gain_db: float = 0.0  # loudness is drawn within plus and minus this
    speed: float = 0.0  # speed is drawn within one plus and minus this
    align: bool = True  # parts of words where they sound alike, not equal ones; see alignment.py
    splice: float = 0.0  # share of rows that begin as something else; see splices.py
    drop_label: float = 0.1  # share of rows that are not told what is said; see batches.py
    drop_speaker: float = 0.1  # share of rows that are not told who speaks

    def __post_init__(self) -> None:
        for name in ("length", "carry", "batch", "held_out_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"data.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("drop_label", "drop_speaker", "peak", "splice", "tail_weight"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"data.{name} must be in 0..1, got {getattr(self, name)}")
        if not 0 < self.corpora_weight <= 1_000:
            raise ConfigError(f"data.corpora_weight must be above 0, got {self.corpora_weight}")
        if not 0 <= self.speed < 0.5:
            raise ConfigError(f"data.speed must be in 0..0.5, got {self.speed}")


@dataclass(kw_only=True, slots=True)
class WaveRunConfig(RunConfig):
    """A run of a waveform model."""

    evaluate_every_s: float = 120.0  # wall seconds from one measure to the next; 0 = at the end
    evaluate_takes: int = 200  # held-out recordings, or windows of them, that are measured
    sampling: Sampling = field(default_factory=Sampling)  # of the checkpoint, unless one says other
    word_length: float = 1.0  # of the checkpoint's words beside those that were measured
    word_spread: float = 1.0  # how much their lengths differ, beside those

    def __post_init__(self) -> None:
        RunConfig.__post_init__(self)  # super() does not know a class with slots
        for name in ("word_length", "word_spread"):
            if not 0 < getattr(self, name) <= 10:
                raise ConfigError(f"train.{name} must be in 0..10, got {getattr(self, name)}")


@dataclass(kw_only=True, slots=True)
class WaveExperiment:
    """What conf/ composes for a waveform model."""

    kind: str = "wave"
    model: WaveConfig = field(default_factory=WaveConfig)
    data: WaveDataConfig = field(default_factory=WaveDataConfig)
    train: WaveRunConfig = field(default_factory=lambda: WaveRunConfig(steps=1))
