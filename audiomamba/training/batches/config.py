"""What batches are made of."""

from dataclasses import dataclass, field

from audiomamba.errors import ConfigError

__all__ = ["BatchConfig"]


@dataclass(kw_only=True, slots=True)
class BatchConfig:
    """Shapes, mixture and timing of training batches."""

    batch_seconds: float = 1000.0  # audio a batch, silence included
    row_seconds: list[float] = field(default_factory=lambda: [3.0, 5.0, 8.0, 12.0, 16.0, 24.0])
    row_weights: list[float] = field(default_factory=lambda: [0.06, 0.12, 0.22, 0.25, 0.20, 0.15])
    tokens_a_second: float = 8.0  # room for targets; what would exceed it is left out

    real_share: float = 0.35  # of the audio, from step `real_until` on
    real_share_start: float = 0.35  # until step `real_from`; between the two it moves linearly
    real_from: int = 0
    real_until: int = 0
    source_weights: dict[str, float] = field(default_factory=dict)  # beside the default of 1
    source_power: float = 0.5  # of a real source's length, which it counts by; 1 = every hour alike
    noise_rows: float = 0.03  # rows without speech

    speed_share: float = 0.7  # utterances played faster or slower
    slowest: float = 0.87
    fastest: float = 1.15
    gap_shortest_s: float = 0.05  # between utterances joined in a row
    gap_longest_s: float = 1.5
    lead_s: float = 0.5  # longest silence before the first
    tail_s: float = 0.6  # shortest silence after the last, in which the model catches up

    phone_delay_s: float = 0.24  # a phone is to be named this long after it sounds
    activity_delay_s: float = 0.08

    hidden_share: float = 0.25  # of the frames, in stretches of up to 0.64 s that may overlap
    augment_from: int = 0  # augmentation grows from nothing at this step
    augment_until: int = 4000  # to full strength at this one

    def __post_init__(self) -> None:
        if len(self.row_seconds) != len(self.row_weights) or not self.row_seconds:
            raise ConfigError(
                f"batches: {len(self.row_seconds)} row_seconds want as many row_weights, "
                f"got {len(self.row_weights)}"
            )
        if min(self.row_seconds) < self.lead_s + self.tail_s + 0.5:
            raise ConfigError("batches: row_seconds must leave room for lead, tail and 0.5 s")
        if not 0.5 <= self.slowest <= 1 <= self.fastest <= 2:
            raise ConfigError("batches: wants 0.5 <= slowest <= 1 <= fastest <= 2")
        for name in (
            "real_share", "real_share_start", "source_power", "noise_rows", "speed_share",
            "hidden_share",
        ):  # fmt: skip
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"batches.{name} must be in 0..1, got {getattr(self, name)}")

    def real_share_at(self, step: int) -> float:
        """Share of real recordings in the speech of batch ``step``."""
        part = _ramp(step, self.real_from, self.real_until)
        return self.real_share_start + (self.real_share - self.real_share_start) * part

    def strength_at(self, step: int) -> float:
        """Strength of the augmentation of batch ``step``, in 0..1."""
        return _ramp(step, self.augment_from, self.augment_until)


def _ramp(step: int, start: int, end: int) -> float:
    return 1.0 if step >= end else min(max((step - start) / max(end - start, 1), 0.0), 1.0)
