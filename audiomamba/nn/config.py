"""What a stack is made of: one entry a run of equal layers.

The switch the project is named for is ``dynamics``, one word a layer: ``lti`` (S4D; right for
waveforms and the first acoustic layers), ``selective`` (S6; right once the signal is compressed
or tokenised), ``ssd`` (Mamba-2: selective, one decay a head, large states) or ``mamba3`` (the same
with states that turn; waveforms again). Block, state protocol and checkpoint format stay the same.
"""

from dataclasses import dataclass, field
from typing import Literal

from audiomamba.errors import ConfigError

__all__ = ["Dynamics", "LayerConfig", "StackConfig"]

Dynamics = Literal["lti", "selective", "ssd", "mamba3"]


@dataclass(kw_only=True, slots=True)
class LayerConfig:
    """A run of equal layers: a gated state-space mixer and a feed-forward part."""

    dynamics: Dynamics = "selective"
    count: int = 1
    expand: int = 2  # channels of the mixer over the width of the stack
    state_size: int = 16  # states a channel; for lti real numbers, so half as many complex pairs
    values: Literal["complex", "real"] = "complex"  # of the states of lti alone
    conv_taps: int = 4  # of the short causal convolution before the dynamics
    dt_rank: int = 0  # of the projection that makes the step size; 0 = width / 16, rounded up
    dt_min: float = 1e-3  # smallest step size at the start, in frames
    dt_max: float = 1e-1  # largest step size at the start, in frames
    dt_floor: float = 0.0  # least step size at any time, in frames; ssd alone
    dt_ceiling: float = 0.0  # largest step size at any time, in frames; 0 = no limit; ssd alone
    discretization: Literal["zoh", "bilinear"] = "zoh"  # lti alone
    head_width: int = 64  # channels that share a decay; ssd and mamba3
    groups: int = 1  # of heads that share the projections of the state; ssd and mamba3
    rotation: float = 0.5  # share of the states that turn; mamba3 alone, which has no conv_taps
    ffn: float = 2.0  # width of the feed-forward part over that of the stack; 0 = none
    ffn_conv_taps: int = 0  # of the causal convolution on its gate; 0 = none
    look_ahead: int = 0  # frames of the future that each layer sees; its output is so much later

    def __post_init__(self) -> None:
        for name in ("count", "expand", "state_size", "conv_taps", "head_width", "groups"):
            if getattr(self, name) < 1:
                raise ConfigError(f"layer: {name} must be at least 1, got {getattr(self, name)}")
        if self.look_ahead < 0:
            raise ConfigError(f"layer: look_ahead must not be negative, got {self.look_ahead}")
        if self.dynamics == "lti" and self.values == "complex" and self.state_size % 2:
            raise ConfigError(f"layer: complex lti wants an even state_size, got {self.state_size}")
        if not 0 < self.rotation <= 1:
            raise ConfigError(f"layer: wants 0 < rotation <= 1, got {self.rotation}")
        if self.dynamics == "mamba3" and self.state_size < 2:
            raise ConfigError(f"layer: mamba3 wants at least 2 states, got {self.state_size}")
        if not 0 < self.dt_min <= self.dt_max:
            raise ConfigError(
                f"layer: wants 0 < dt_min <= dt_max, got {self.dt_min}, {self.dt_max}"
            )


@dataclass(kw_only=True, slots=True)
class StackConfig:
    """A stack of residual blocks over one width."""

    width: int = 320
    layers: list[LayerConfig] = field(default_factory=lambda: [LayerConfig()])
    dropout: float = 0.0  # on what a mixer or feed-forward part adds to the residual stream
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        if self.width < 1 or not self.layers:
            raise ConfigError(f"stack: wants a width and layers, got {self.width}, {self.layers}")

    @property
    def delay(self) -> int:
        """Frames by which the output is later than the input."""
        return sum(layer.look_ahead for layer in self.each())

    def each(self) -> list[LayerConfig]:
        """One entry a layer."""
        return [layer for layer in self.layers for _ in range(layer.count)]
