"""Shape of a transcriber: plain data, the same for every engine that runs it."""

import math
from dataclasses import dataclass, field
from typing import Literal

from audiomamba.audio.features import FeatureConfig
from audiomamba.audio.mel import MelConfig
from audiomamba.audio.waveform import WaveformConfig
from audiomamba.errors import ConfigError
from audiomamba.nn.config import LayerConfig, StackConfig
from audiomamba.text.endpoint import EndRule

__all__ = ["FACTOR", "PyramidConfig", "PyramidStage", "TranscriberConfig"]

FACTOR = 4
"""Feature frames to one frame of the encoder."""


def _default_stack() -> StackConfig:
    return StackConfig(
        width=320,
        layers=[
            LayerConfig(dynamics="lti", count=4, state_size=32, ffn_conv_taps=15),
            LayerConfig(dynamics="selective", count=10),
        ],
    )


@dataclass(kw_only=True, slots=True)
class PyramidStage:
    """One rate of the pyramid: a convolution that leads to it, and layers that run at it."""

    stride: int  # frames of the faster rate to one of this
    width: int  # of the stack of these layers; of the first stage: filters
    layers: list[LayerConfig]


def _default_stages() -> list[PyramidStage]:
    first = LayerConfig(dynamics="lti", state_size=32, expand=1, ffn=0.0)
    second = LayerConfig(dynamics="lti", count=2, state_size=32, expand=1, ffn=0.0)
    third = LayerConfig(dynamics="lti", count=2, state_size=32, ffn=0.0)
    return [
        PyramidStage(stride=8, width=64, layers=[first]),
        PyramidStage(stride=4, width=96, layers=[second]),
        PyramidStage(stride=5, width=192, layers=[third]),
    ]


@dataclass(kw_only=True, slots=True)
class PyramidConfig:
    """From samples to frames of the encoder: filters, their logarithm, and slower and slower rates.

    The encoder's own rate is the last one; what leads to it follows from the strides.
    """

    taps: int = 256  # samples a filter sees: 16 ms
    low_hz: float = 60.0  # centre of the lowest filter, at the start of training
    high_hz: float = 7000.0  # and of the highest
    floor: float = 1e-4  # amplitude of a filter's output that counts as silence
    stages: list[PyramidStage] = field(default_factory=_default_stages)
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if not self.stages or any(stage.stride < 1 or stage.width < 1 for stage in self.stages):
            raise ConfigError("pyramid: wants stages, each with a stride and a width of at least 1")
        if self.taps < 1 or self.taps % self.stages[0].stride:
            raise ConfigError(
                f"pyramid: taps must be a multiple of the first stride, got {self.taps} and "
                f"{self.stages[0].stride}"
            )
        if not 0 < self.low_hz < self.high_hz:
            raise ConfigError(
                f"pyramid: wants 0 < low_hz < high_hz, got {self.low_hz}, {self.high_hz}"
            )
        if self.floor <= 0:
            raise ConfigError(f"pyramid: floor must be > 0, got {self.floor}")
        if any(layer.look_ahead for stage in self.stages for layer in stage.layers):
            raise ConfigError("pyramid: its layers are causal; look ahead in the stack")

    @property
    def stride(self) -> int:
        """Samples to a frame of the last stage."""
        return math.prod(stage.stride for stage in self.stages)


@dataclass(kw_only=True, slots=True)
class TranscriberConfig:
    """Shape of a transcriber."""

    vocabulary: int = 512  # pieces, the blank (id 0) among them
    front_end: Literal["mel", "waveform"] = "mel"  # waveform: `pyramid` in the place of log-mel
    mel: MelConfig = field(default_factory=MelConfig)  # of waveform, rate and hop alone count
    pyramid: PyramidConfig = field(default_factory=PyramidConfig)
    subsample_channels: list[int] = field(default_factory=lambda: [32, 64])
    stack: StackConfig = field(default_factory=_default_stack)
    inter_layer: int = 8  # layers before the intermediate CTC head; 0 = no such head
    phone_layer: int = 6  # layers before the phone head, a training aid; 0 = no such head
    phones: int = 178  # symbols of the synthesiser's alphabet
    activity: bool = True  # a head that says whether somebody speaks
    # Seconds; for each, a frame says how likely it is that nobody speaks for so long after what it
    # has heard, 25 ms of sound from its start. Trained apart, over the finished encoder.
    ends: list[float] = field(default_factory=list)
    endpoint: EndRule | None = None  # how they end an utterance, chosen by measuring; None: never
    silence_s: float = 0.6  # pause that ends one whatever they say
    # Mean seconds from a word's beginning to its first piece, look-ahead not counted; measured.
    start_delay_s: float = 0.0
    emission_delay_s: float = 0.0  # the same from its end to its last piece, look-ahead not counted
    confidence_scale: float = 1.0  # of words' log-odds, fitted: training/calibration.py

    def __post_init__(self) -> None:
        depth = len(self.stack.each())
        for name in ("inter_layer", "phone_layer"):
            if not 0 <= getattr(self, name) < depth:
                raise ConfigError(f"{name} must be in 0..{depth - 1}, got {getattr(self, name)}")
        if any(seconds <= 0 for seconds in self.ends):
            raise ConfigError(f"ends must be above 0 s, got {self.ends}")
        if self.endpoint is not None and self.endpoint.output >= len(self.ends):
            raise ConfigError(
                f"endpoint.output must be one of {len(self.ends)} ends, got {self.endpoint.output}"
            )
        if len(self.subsample_channels) != 2:
            raise ConfigError(
                f"subsample_channels wants two numbers, got {self.subsample_channels}"
            )
        if self.front_end == "waveform":
            samples = FACTOR * self.mel.hop
            if samples % self.pyramid.stride:
                raise ConfigError(
                    f"pyramid: its strides must divide the {samples} samples of a frame, "
                    f"got {self.pyramid.stride} together"
                )
            if self.pyramid.high_hz >= self.mel.sample_rate / 2:
                raise ConfigError(
                    f"pyramid: high_hz must be below {self.mel.sample_rate / 2}, "
                    f"got {self.pyramid.high_hz}"
                )

    @property
    def outputs(self) -> int:
        """Numbers that a frame comes to: a logit each of the pieces, then one each of ``ends``."""
        return self.vocabulary + len(self.ends)

    @property
    def features(self) -> FeatureConfig:
        """What the model hears: log-mel, or frames of samples as long."""
        if self.front_end == "mel":
            return self.mel
        return WaveformConfig(sample_rate=self.mel.sample_rate, hop=self.mel.hop)

    @property
    def frame_s(self) -> float:
        """Seconds from one frame of the encoder to the next."""
        return FACTOR * self.mel.hop / self.mel.sample_rate

    @property
    def look_ahead_s(self) -> float:
        """Seconds by which the layers' look-ahead makes every frame late."""
        return self.stack.delay * self.frame_s

    @property
    def phone_look_ahead_s(self) -> float:
        """The part of it that the phone head waits for, which stands inside the stack."""
        return self.frame_s * sum(x.look_ahead for x in self.stack.each()[: self.phone_layer])

    @property
    def delay_s(self) -> float:
        """Mean seconds from a sound to its piece."""
        return self.look_ahead_s + self.emission_delay_s
