"""Shape of a transcriber: plain data, the same for every engine that runs it."""

from dataclasses import dataclass, field

from audiomamba.audio.mel import MelConfig
from audiomamba.errors import ConfigError
from audiomamba.nn.config import LayerConfig, StackConfig

__all__ = ["FACTOR", "TranscriberConfig"]

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
class TranscriberConfig:
    """Shape of a transcriber."""

    vocabulary: int = 512  # pieces, the blank (id 0) among them
    mel: MelConfig = field(default_factory=MelConfig)
    subsample_channels: list[int] = field(default_factory=lambda: [32, 64])
    stack: StackConfig = field(default_factory=_default_stack)
    inter_layer: int = 8  # layers before the intermediate CTC head; 0 = no such head
    phone_layer: int = 6  # layers before the phone head, a training aid; 0 = no such head
    phones: int = 178  # symbols of the synthesiser's alphabet
    activity: bool = True  # a head that says whether somebody speaks
    # Mean seconds from a word's beginning to its first piece, look-ahead not counted; measured.
    start_delay_s: float = 0.0
    emission_delay_s: float = 0.0  # the same from its end to its last piece, look-ahead not counted
    confidence_scale: float = 1.0  # of words' log-odds, fitted: training/calibration.py

    def __post_init__(self) -> None:
        depth = len(self.stack.each())
        for name in ("inter_layer", "phone_layer"):
            if not 0 <= getattr(self, name) < depth:
                raise ConfigError(f"{name} must be in 0..{depth - 1}, got {getattr(self, name)}")
        if len(self.subsample_channels) != 2:
            raise ConfigError(
                f"subsample_channels wants two numbers, got {self.subsample_channels}"
            )

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
