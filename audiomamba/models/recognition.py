"""One stream on its way to words, without the model: audio to blocks of features, logits to events.

A stream is cut into blocks of a fixed number of feature frames whatever pieces it arrives in, so
that text and times depend neither on those pieces nor on who else shares a batch. Both the single
stream of the library and the many of the serving engine are this, around their own way of running
a model.
"""

import numpy as np
from numpy.typing import NDArray

from audiomamba.audio.frontend import ChannelMode, FrontEnd
from audiomamba.audio.mel import MelConfig
from audiomamba.text.ctc import CtcDecoder, DecoderConfig
from audiomamba.text.events import Event
from audiomamba.text.vocabulary import Vocabulary

__all__ = ["TAIL_S", "Recognition"]

Samples = NDArray[np.float32]
Features = NDArray[np.float32]

TAIL_S = 0.8
"""Seconds of silence fed after the end, for what the model writes with its delay."""


class Recognition:
    """Front end, blocks and decoder of one stream.

    Args:
        vocabulary: Of the model.
        mel: Features of the model.
        decoder: Times, endpoints.
        block_frames: Feature frames a block; a multiple of the model's subsampling.
        sample_rate: Of what is fed, Hz.
        channels: Of what is fed.
        channel_mode: How several channels become one.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        mel: MelConfig,
        decoder: DecoderConfig,
        *,
        block_frames: int,
        sample_rate: int = 16_000,
        channels: int = 1,
        channel_mode: ChannelMode = "mix",
    ) -> None:
        self.sample_rate, self.channels = sample_rate, channels
        self.block_frames = block_frames
        self._front = FrontEnd(mel, sample_rate, channels=channels, channel_mode=channel_mode)
        self._decoder = CtcDecoder(vocabulary, decoder)
        self._waiting: list[Features] = []
        self._waiting_frames = 0

    def push(self, samples: Samples) -> None:
        """Take samples ``(n,)`` or ``(n, channels)``, any n."""
        self._keep(self._front.feed(samples))

    def push_end(self) -> None:
        """Take the end of the audio: a tail of silence, padded to a whole block."""
        silence = np.zeros((round(TAIL_S * self.sample_rate), self.channels), np.float32)
        self._keep(self._front.feed(silence if self.channels > 1 else silence[:, 0]))
        self._keep(self._front.finish())
        short = -self._waiting_frames % self.block_frames
        if short and self._waiting_frames:
            self._keep(np.repeat(self._waiting[-1][-1:], short, axis=0))

    def next_block(self) -> Features | None:
        """The next ``(block_frames, bins)``, or None until more audio came."""
        if self._waiting_frames < self.block_frames:
            return None
        frames = np.concatenate(self._waiting) if len(self._waiting) > 1 else self._waiting[0]
        rest = frames[self.block_frames :]
        self._waiting = [rest] if len(rest) else []
        self._waiting_frames = len(rest)
        return frames[: self.block_frames]

    def accept(self, log_probs: NDArray[np.float32]) -> list[Event]:
        """Take what the model made of a block, ``(T, vocabulary)``; what it changes is returned."""
        return self._decoder.feed(log_probs)

    def finish(self) -> list[Event]:
        """After the last block: close the utterance."""
        return self._decoder.finish()

    def _keep(self, frames: Features) -> None:
        if len(frames):
            self._waiting.append(frames)
            self._waiting_frames += len(frames)
