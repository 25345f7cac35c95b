"""What the engine needs of a model, and of the way from samples to events around it."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from audiomamba.text.ctc import DecoderConfig
from audiomamba.text.events import Event

__all__ = ["FloatArray", "Recognizer", "StepModel"]

FloatArray = NDArray[np.float32]


class StepModel(Protocol):
    """A model with a state a slot. Used by one thread at a time.

    Slot 0 is the null slot: batches are padded with it, and nothing looks at it.
    """

    @property
    def kind(self) -> str:
        """What it runs on: ``native`` or ``torch``."""

    @property
    def num_mel_bins(self) -> int:
        """Width of a feature frame."""

    @property
    def frames_per_block(self) -> int:
        """Feature frames of one step."""

    @property
    def most_blocks(self) -> int:
        """Blocks that one step may take of each stream; cheaper together than one by one."""

    @property
    def block_s(self) -> float:
        """Seconds of sound in a step."""

    @property
    def slots(self) -> int:
        """Streams at once; they are numbered 1..slots."""

    @property
    def best_batch(self) -> int:
        """Streams of one step beyond which more are not cheaper each."""

    @property
    def state_bytes(self) -> int:
        """Size of one stream's state."""

    @property
    def fingerprint(self) -> str:
        """Equal only where a saved state can be put back."""

    def step(self, features: FloatArray, slots: Sequence[int]) -> FloatArray:
        """Advance every slot by a block.

        Args:
            features: ``(M, k * frames_per_block, num_mel_bins)`` float32, k up to
                ``most_blocks``.
            slots: M numbers; only the null slot may come twice.

        Returns:
            Log-probabilities ``(M, T, V)`` float32, of pieces and, behind them, of whatever else
            the model says for its recognizer. A step that raises has advanced no slot, so that its
            streams can be tried one by one.
        """

    def reset(self, slot: int) -> None:
        """Make the state that of a stream before its first frame; it may hold no memory then."""

    def save(self, slot: int) -> bytes:
        """Copy of the state of one stream."""

    def load(self, slot: int, snapshot: bytes) -> None:
        """Put a copy back; raises StateError when it belongs to another model."""


class Recognizer(Protocol):
    """The rest of one stream: audio to blocks of features, log-probabilities to events."""

    def push(self, samples: FloatArray) -> None:
        """Take samples ``(n,)`` or ``(n, channels)``."""

    def push_end(self, tail_s: float) -> None:
        """Take ``tail_s`` seconds of silence, padded to a whole block."""

    def next_block(self) -> FloatArray | None:
        """The next ``(frames_per_block, num_mel_bins)``, or None until more audio came."""

    def wanted(self) -> int:
        """Samples of each channel that have to come before there is a next block."""

    def accept(self, log_probs: FloatArray) -> list[Event]:
        """Take the log-probabilities ``(T, V)`` of a block."""

    def flush(self) -> list[Event]:
        """Close the utterance; the stream goes on."""

    def finish(self) -> list[Event]:
        """Close the last utterance."""

    def audio_state(self) -> dict[str, Any]:
        """Copy of what was heard and is not in a block yet."""

    def load_audio_state(self, state: dict[str, Any]) -> None:
        """Put that copy back."""

    def decoder_state(self) -> dict[str, Any]:
        """Copy of what was understood and is not final."""

    def load_decoder_state(self, state: dict[str, Any]) -> None:
        """Put that copy back."""

    def configure(self, decoder: DecoderConfig) -> None:
        """Other thresholds from the next block on."""
