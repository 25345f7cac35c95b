"""What a training run is made of, apart from the model's shape and the data's mixture."""

from dataclasses import dataclass, field
from typing import Literal

from audiomamba.errors import ConfigError

__all__ = ["EvaluationConfig", "LossConfig", "OptimizerConfig", "RunConfig", "TrainConfig"]


@dataclass(kw_only=True, slots=True)
class LossConfig:
    """Weights of the terms; each term is a mean over what it counts (tokens or frames)."""

    inter: float = 0.2  # CTC on the intermediate head, beside 1.0 on the last one
    phone: float = 1.0  # cross-entropy of the phone head at the start of the run
    phone_end: float = 0.1  # and after `phone_share` of it
    phone_share: float = 0.25  # of the run, over which the weight falls linearly
    activity: float = 0.1  # binary cross-entropy of the activity head
    consistency: float = 0.0  # two views of each row shall be heard alike; 0 = a row has one view

    def __post_init__(self) -> None:
        for name in ("inter", "phone", "phone_end", "activity", "consistency"):
            if getattr(self, name) < 0:
                raise ConfigError(f"loss.{name} must be at least 0, got {getattr(self, name)}")

    def phone_at(self, fraction: float) -> float:
        """Weight of the phone term after ``fraction`` (0..1) of the run."""
        part = min(fraction / self.phone_share, 1.0) if self.phone_share > 0 else 1.0
        return self.phone + (self.phone_end - self.phone) * part


@dataclass(kw_only=True, slots=True)
class OptimizerConfig:
    """Optimiser and schedule. Learning rates of both kinds are on AdamW's scale."""

    kind: Literal["adamw", "muon"] = "adamw"
    lr: float = 1.5e-3  # at the flat part
    beta1: float = 0.9
    beta2: float = 0.98
    weight_decay: float = 0.05  # on matrices alone; never on dynamics, norms and biases
    momentum: float = 0.95  # of Muon
    clip: float = 1.0  # largest norm of the whole gradient
    warmup_steps: int = 1000  # of a fresh run
    rewarm_steps: int = 200  # after taking up a run or a checkpoint
    decay_share: float = 0.2  # last part of the run, over which lr falls as 1 - sqrt; 0 = stay flat
    ema: float = 0.9995  # decay a step of the averaged weights

    def __post_init__(self) -> None:
        if self.lr <= 0 or self.clip <= 0:
            raise ConfigError(f"optimizer: lr and clip must be > 0, got {self.lr}, {self.clip}")
        for name in ("beta1", "beta2", "momentum", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"optimizer.{name} must be in [0, 1), got {getattr(self, name)}")
        if not 0 <= self.decay_share <= 1:
            raise ConfigError(f"optimizer.decay_share must be in 0..1, got {self.decay_share}")


@dataclass(kw_only=True, slots=True)
class EvaluationConfig:
    """Word error rates while training."""

    manifests: list[str] = field(default_factory=list)  # .jsonl files beside their .tar
    every_s: float = 120.0  # wall seconds from one to the next; 0 = only at the end
    batch_s: float = 400.0  # seconds of audio a forward, padding included


@dataclass(kw_only=True, slots=True)
class RunConfig:
    """A run of whatever is trained: how long, how fast, where to."""

    out: str = "runs/train"  # folder of the run: last/ (full state) and export/ (a checkpoint)
    resume: str = ""  # "" a fresh run; "last" goes on in `out`; else another run or a checkpoint
    budget_s: float = 0.0  # wall seconds from the start of the command, saving included; 0 = none
    steps: int = 0  # of the whole run, those before a resume included; 0 = no limit
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["bf16", "float32"] = "bf16"  # of products; weights stay float32
    graphs: bool = True  # replay CUDA graphs; False runs every kernel from Python
    prefetch: int = 2  # batches made ahead
    log_every_s: float = 5.0
    save_every_s: float = 300.0  # 0 = only at the end
    reserve_s: float = 15.0  # of the budget, for the last evaluation and saving
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        if self.budget_s < 0 or self.steps < 0:
            raise ConfigError(
                f"train: budget_s and steps must be >= 0, got {self.budget_s}, {self.steps}"
            )
        if not self.budget_s and not self.steps:
            raise ConfigError("train: say how long: train.budget_s=SECONDS or train.steps=N")


@dataclass(kw_only=True, slots=True)
class TrainConfig(RunConfig):
    """A run of a transcriber."""

    tokenizer: str = ""  # sentencepiece model, written into the export
    max_shapes: int = 12  # graphs kept; batches of further shapes run from Python
    statistics_batches: int = 4  # the features' mean and deviation are measured on
    loss: LossConfig = field(default_factory=LossConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
