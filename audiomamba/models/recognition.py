"""One stream on its way to words, without the model: audio to blocks of features, logits to events.

A stream is cut into blocks of a fixed number of feature frames whatever pieces it arrives in, so
that text and times depend neither on those pieces nor on who else shares a batch. Both the single
stream of the library and the many of the serving engine are this, around their own way of running
a model.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiomamba.audio.features import FeatureConfig
from audiomamba.audio.frontend import ChannelMode, FrontEnd
from audiomamba.text.events import Event
from audiomamba.text.fusion import Fusion, make_decoder
from audiomamba.text.utterances import DecoderConfig
from audiomamba.text.vocabulary import Vocabulary

__all__ = ["TAIL_S", "Recognition"]

Samples = NDArray[np.float32]
Features = NDArray[np.float32]

TAIL_S = 0.8
"""Seconds of silence fed after the end, beside the model's delay, for what it writes late."""
LEAD_S = 0.32
"""Seconds of silence heard before the first sample. A recording may begin in the middle of a sound,
which the model, whose training clips begin with a breath of silence, would take for noise: of 100
tightly cut digits of one speaker it heard 3 without this and 77 with it. No time is counted."""


class Recognition:
    """Front end, blocks and decoder of one stream.

    Args:
        vocabulary: Of the model.
        features: Of the model.
        decoder: Times, endpoints.
        block_frames: Feature frames a block; a multiple of the model's subsampling.
        sample_rate: Of what is fed, Hz.
        channels: Of what is fed.
        channel_mode: How several channels become one.
        fusion: A language model to decode with.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        features: FeatureConfig,
        decoder: DecoderConfig,
        *,
        block_frames: int,
        sample_rate: int = 16_000,
        channels: int = 1,
        channel_mode: ChannelMode = "mix",
        fusion: Fusion | None = None,
    ) -> None:
        self.sample_rate, self.channels = sample_rate, channels
        self.block_frames = block_frames
        self._delay_s = decoder.emission_delay_s
        self._front = FrontEnd(features, sample_rate, channels=channels, channel_mode=channel_mode)
        self._vocabulary, self._fusion = vocabulary, fusion
        self._decoder = make_decoder(vocabulary, _after_lead(decoder), fusion)
        self._waiting: list[Features] = []
        self._waiting_frames = 0
        self._hear_silence(LEAD_S)

    def push(self, samples: Samples) -> None:
        """Take samples ``(n,)`` or ``(n, channels)``, any n."""
        self._keep(self._front.feed(samples))

    def push_end(self, tail_s: float = TAIL_S) -> None:
        """Take the end of the audio, and silence until every word is out, padded to a whole block.

        ``tail_s``: seconds of silence beside the model's delay; 0 if it has heard enough of it.
        """
        self._hear_silence(tail_s + self._delay_s if tail_s else 0.0)
        self._keep(self._front.finish())
        short = -self._waiting_frames % self.block_frames
        if short and self._waiting_frames:
            self._keep(self._front.after(self._waiting[-1][-1], short))

    def next_block(self) -> Features | None:
        """The next ``(block_frames, bins)``, or None until more audio came."""
        if self._waiting_frames < self.block_frames:
            return None
        frames = np.concatenate(self._waiting) if len(self._waiting) > 1 else self._waiting[0]
        rest = frames[self.block_frames :]
        self._waiting = [rest] if len(rest) else []
        self._waiting_frames = len(rest)
        return frames[: self.block_frames]

    def wanted(self) -> int:
        """Samples of each channel that have to come before there is a next block."""
        short = self.block_frames - self._waiting_frames
        return self._front.wanted(short) if short > 0 else 0

    def accept(self, log_probs: NDArray[np.float32]) -> list[Event]:
        """Take what the model made of a block, ``(T, outputs)``; what it changes is returned.

        Behind the pieces' come those of the model's ``ends``, if it has any.
        """
        pieces = len(self._vocabulary)
        return self._decoder.feed(log_probs[:, :pieces], log_probs[:, pieces:])

    def flush(self) -> list[Event]:
        """Close the utterance; the stream goes on."""
        return self._decoder.flush()

    def finish(self) -> list[Event]:
        """After the last block: close the utterance."""
        return self._decoder.finish()

    def configure(self, decoder: DecoderConfig) -> None:
        """Use other endpoints from the next block on."""
        state = self._decoder.state()
        self._decoder = make_decoder(self._vocabulary, _after_lead(decoder), self._fusion)
        self._decoder.load(state)

    def audio_state(self) -> dict[str, Any]:
        """Copy of what was heard and is in no block yet."""
        return {"front": self._front.state(), "waiting": [part.copy() for part in self._waiting]}

    def load_audio_state(self, state: dict[str, Any]) -> None:
        """Go on from that copy."""
        self._front.load(state["front"])
        self._waiting = [part.copy() for part in state["waiting"]]
        self._waiting_frames = sum(len(part) for part in self._waiting)

    def decoder_state(self) -> dict[str, Any]:
        """Copy of what was understood and is not final, of JSON's types."""
        return self._decoder.state()

    def load_decoder_state(self, state: dict[str, Any]) -> None:
        """Go on from that copy."""
        self._decoder.load(state)

    def _hear_silence(self, seconds: float) -> None:
        silence = np.zeros((round(seconds * self.sample_rate), self.channels), np.float32)
        self._keep(self._front.feed(silence if self.channels > 1 else silence[:, 0]))

    def _keep(self, frames: Features) -> None:
        if len(frames):
            self._waiting.append(frames)
            self._waiting_frames += len(frames)


def _after_lead(decoder: DecoderConfig) -> DecoderConfig:
    """Times count from the first sample, not from the silence before it."""
    return replace(decoder, emission_delay_s=decoder.emission_delay_s + LEAD_S)
