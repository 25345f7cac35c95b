"""A second text output: one piece or none a step, a fixed time after it was heard.

Where CTC writes each frame without knowing what it wrote before, this head reads its own text: the
input of a step is what the encoder made of two frames, and the piece of the step before. Text and
audio are two streams side by side, the text some steps late, so that a choice can wait for what
comes next (Zeghidour et al., "Streaming Sequence-to-Sequence Learning with Delayed Streams
Modeling", 2025, 2509.08753, section 3). Its state is that of its layers, of constant size.

What CTC hears goes in as well, as the pieces' vectors weighted by their probabilities: the
encoder's last layer says already most of what the head had to learn first (after 166 steps of 32
rows 3.7 nats a piece were left with it, 4.2 without; after 446, 2.7 and 2.8).

How late is a choice at run time: the head is trained with several delays, and told which by a
vector that is added to its input.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiomamba.errors import ConfigError, ShapeError
from audiomamba.nn import LayerConfig, Stack, StackConfig, StackState

__all__ = ["NOTHING", "DelayedStreams", "DelayedStreamsConfig"]

NOTHING = 0
"""The token of a step in which no piece is written: the id that is CTC's blank."""


def _default_stack() -> StackConfig:
    return StackConfig(width=256, layers=[LayerConfig(dynamics="selective", count=3, ffn=1.5)])


@dataclass(kw_only=True, slots=True)
class DelayedStreamsConfig:
    """Shape of the head."""

    vocabulary: int = 512  # pieces, NOTHING among them
    audio_width: int = 320  # of the encoder's frames
    stride: int = 2  # frames of the encoder a step
    delays: list[int] = field(default_factory=lambda: [0, 1, 2, 4, 8])  # steps, those it can have
    stack: StackConfig = field(default_factory=_default_stack)

    def __post_init__(self) -> None:
        if self.stride < 1:
            raise ConfigError(f"delayed streams: stride must be at least 1, got {self.stride}")
        if not self.delays or min(self.delays) < 0:
            raise ConfigError(f"delayed streams: delays are steps from 0 on, got {self.delays}")


class DelayedStreams(nn.Module):
    """Frames of an encoder and the text so far to logits of what the next step writes."""

    def __init__(self, config: DelayedStreamsConfig) -> None:
        super().__init__()
        self.config = config
        width = config.stack.width
        self.ctc = nn.Linear(config.audio_width, config.vocabulary).requires_grad_(False)
        self.audio = nn.Linear(config.stride * config.audio_width, width)
        self.embedding = nn.Embedding(config.vocabulary, width)
        self.delay = nn.Embedding(len(config.delays), width)
        with torch.no_grad():
            self.audio.weight.mul_(0.1)  # at first the pieces are louder
            for table in (self.embedding, self.delay):
                nn.init.normal_(table.weight, std=0.05)
        self.stack = Stack(config.stack)

    def set_ctc(self, weight: Tensor, bias: Tensor) -> None:
        """The encoder's CTC head, ``(vocabulary, audio_width)`` and ``(vocabulary,)``; kept."""
        with torch.no_grad():
            self.ctc.weight.copy_(weight)
            self.ctc.bias.copy_(bias)

    def init_state(
        self, batch: int, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
    ) -> StackState:
        """The state before the first step of ``batch`` streams."""
        return self.stack.init_state(batch, device=device, dtype=dtype)

    def forward(
        self, encoded: Tensor, before: Tensor, delay: Tensor, state: StackState | None = None
    ) -> tuple[Tensor, StackState]:
        """Logits ``(B, T, vocabulary)`` of ``T`` steps, and the state after them.

        Args:
            encoded: ``(B, T stride, audio_width)``, the encoder's frames.
            before: ``(B, T)`` int64, what the step before each wrote; NOTHING before the first.
            delay: ``(B,)`` int64, a position in ``config.delays``.
            state: From the call before; None at the beginning.

        Raises:
            ShapeError: frames and steps do not go together.
        """
        B, T = before.shape
        frames = self.config.stride * T
        if encoded.shape != (B, frames, self.config.audio_width):
            raise ShapeError(
                f"delayed streams: {T} steps want ({B}, {frames}, {self.config.audio_width}), "
                f"got {tuple(encoded.shape)}"
            )
        heard = self.ctc(encoded).float().softmax(-1).view(B, T, -1, self.config.vocabulary).sum(2)
        x = self.audio(encoded.reshape(B, T, -1)) + heard @ self.embedding.weight
        x = x + self.embedding(before) + self.delay(delay)[:, None]
        y, state = self.stack(x, state)
        # Tied: a piece is written and read by the same vector.
        return F.linear(y, self.embedding.weight), state
