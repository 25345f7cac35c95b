"""Shape of a waveform model: plain data, the same for every engine that runs it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from audiomamba.errors import ConfigError
from audiomamba.nn.config import LayerConfig

__all__ = ["ConditionedBlock", "StageConfig", "WaveConfig"]


def _lti(count: int) -> LayerConfig:
    return LayerConfig(dynamics="lti", count=count, state_size=32, ffn=0.0)


def _selective(count: int) -> LayerConfig:
    return LayerConfig(dynamics="selective", count=count, state_size=16, ffn=0.0)


@dataclass(kw_only=True, slots=True)
class StageConfig:
    """The blocks at one rate; outside the innermost they stand once before and once after it."""

    width: int = 48
    layers: list[LayerConfig] = field(default_factory=lambda: [_lti(3)])

    def each(self) -> list[LayerConfig]:
        """One entry a block."""
        return [layer for layer in self.layers for _ in range(layer.count)]


def _live() -> list[StageConfig]:
    return [
        StageConfig(width=48, layers=[_lti(3)]),
        StageConfig(width=96, layers=[_lti(3)]),
        StageConfig(width=192, layers=[_selective(6)]),
    ]


@dataclass(frozen=True, slots=True)
class ConditionedBlock:
    """Where a block stands: its weights' names, its layer, its part of the condition."""

    prefix: str  # of its weights in a checkpoint
    width: int
    layer: LayerConfig
    column: int  # of the condition, where its gains begin
    number: int  # of its gains, after the offset of the embedding


@dataclass(kw_only=True, slots=True)
class WaveConfig:
    """Shape of a waveform model; the defaults are the size that runs live on a CPU."""

    sample_rate: int = 8_000  # Hz
    pools: list[int] = field(default_factory=lambda: [4, 4])  # frames to one of the next stage
    stages: list[StageConfig] = field(default_factory=_live)  # from the samples inwards
    labels: list[str] = field(default_factory=list)  # what can be asked for; none: unconditional
    label_states: int = 1  # parts of a spoken word, one after another; 1: a label for all of it
    speakers: list[str] = field(default_factory=list)
    condition_width: int = 32  # of a label's and a speaker's vector
    dropout: float = 0.0
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        if len(self.stages) != len(self.pools) + 1:
            raise ConfigError(
                f"wave: wants a stage more than pools, got {len(self.stages)} and {len(self.pools)}"
            )
        if any(pool < 2 for pool in self.pools):
            raise ConfigError(f"wave: pools must be at least 2, got {self.pools}")
        if any(layer.look_ahead for stage in self.stages for layer in stage.layers):
            raise ConfigError("wave: a sample cannot depend on later ones; look_ahead must be 0")
        if self.period > 1 << 20:
            raise ConfigError(f"wave: pools {self.pools} make a period beyond 2^20 samples")
        if not 4_000 <= self.sample_rate <= 192_000:
            raise ConfigError(f"wave: sample_rate must be 4000 to 192000, got {self.sample_rate}")
        if not 1 <= self.label_states <= 256:
            raise ConfigError(f"wave: label_states must be 1 to 256, got {self.label_states}")
        for name in ("labels", "speakers"):
            names = getattr(self, name)
            if len(set(names)) != len(names):
                raise ConfigError(f"wave: {name} must be different, got {names}")

    @property
    def period(self) -> int:
        """Samples to one frame of the innermost stage."""
        return math.prod(self.pools)

    @property
    def label_rows(self) -> int:
        """Rows of the table of labels: ``label * label_states + part``, then the silence."""
        return len(self.labels) * self.label_states + (self.label_states > 1)

    @property
    def silence_row(self) -> int:
        """The row that asks for silence before and after words, of a model that divides them.

        To ask for nothing is something else: whatever comes, words without end.
        """
        return len(self.labels) * self.label_states

    @property
    def is_conditional(self) -> bool:
        """Whether there is anything to ask for."""
        return bool(self.labels or self.speakers)

    @property
    def condition_widths(self) -> list[int]:
        """What a condition falls into: the offset of the samples' embedding, a gain a block."""
        if not self.is_conditional:
            return []
        return [self.stages[0].width, *(block.width for block in self.blocks())]

    @property
    def condition_size(self) -> int:
        """Numbers that a condition makes: an offset of the samples' embedding, gains of blocks."""
        return sum(self.condition_widths)

    def blocks(self) -> list[ConditionedBlock]:
        """All blocks in the order in which a sample passes them."""
        places = list(self._places())
        starts = [self.stages[0].width]
        for _, width, _ in places:
            starts.append(starts[-1] + width)
        return [
            ConditionedBlock(prefix, width, layer, starts[number], number)
            for number, (prefix, width, layer) in enumerate(places)
        ]

    def _places(self) -> Iterator[tuple[str, int, LayerConfig]]:
        innermost = len(self.pools)
        ways = [("down", depth) for depth in range(innermost + 1)]
        ways += [("up", depth) for depth in reversed(range(innermost))]
        for side, depth in ways:
            stage = self.stages[depth]
            for i, layer in enumerate(stage.each()):
                yield f"net.{'inner.' * depth}{side}.blocks.{i}.", stage.width, layer
