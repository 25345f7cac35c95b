"""From samples as they come to features: channels mixed, resampled, and what the model hears."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from audiomamba.audio.features import FeatureConfig, streaming_features
from audiomamba.audio.resample import Resampler
from audiomamba.errors import AudioError

__all__ = ["ChannelMode", "FrontEnd"]

Samples = NDArray[np.float32]
ChannelMode = Literal["mix", "first"]
PIECE = 1 << 16  # samples resampled at once, so that a large feed needs no large memory


class FrontEnd:
    """The front end of one stream; any chunking gives the same features.

    Args:
        features: Of the model.
        sample_rate: Of what is fed, Hz.
        channels: Of what is fed.
        channel_mode: ``mix`` averages the channels, ``first`` takes the first.

    Raises:
        AudioError: the rate or the number of channels is out of range.
    """

    def __init__(
        self,
        features: FeatureConfig,
        sample_rate: int = 16_000,
        *,
        channels: int = 1,
        channel_mode: ChannelMode = "mix",
    ) -> None:
        if not 1 <= channels <= 32:
            raise AudioError(f"channels must be 1 to 32, got {channels}")
        self.channels, self.channel_mode = channels, channel_mode
        self._resampler = Resampler(sample_rate, features.sample_rate)
        self._features = streaming_features(features)

    def feed(self, samples: Samples) -> Samples:
        """Take ``(n,)``, or ``(n, channels)`` of several channels; return new frames ``(k, bins)``.

        Raises:
            AudioError: another shape, or samples that are not finite.
        """
        mono = self._mono(np.asarray(samples, np.float32))
        parts = [
            self._features.feed(self._resampler.feed(mono[start : start + PIECE]))
            for start in range(0, max(1, len(mono)), PIECE)
        ]
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def wanted(self, frames: int) -> int:
        """Samples of each channel that have to come for so many frames more, at least one."""
        return self._resampler.wanted(self._features.wanted(frames))

    def finish(self) -> Samples:
        """The frames that the last samples complete."""
        frames = self._features.feed(self._resampler.finish())
        self._features.finish()
        return frames

    def after(self, last: Samples, frames: int) -> Samples:
        """So many frames as follow ``last (bins,)`` when all is over."""
        return self._features.after(last, frames)

    def state(self) -> dict[str, Any]:
        """All that is needed to go on elsewhere."""
        return {"resampler": self._resampler.state(), "mel": self._features.state()}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self._resampler.load(state["resampler"])
        self._features.load(state["mel"])

    def _mono(self, samples: Samples) -> Samples:
        wanted = "(n,)" if self.channels == 1 else f"(n, {self.channels})"
        if samples.ndim == 2 and samples.shape[1] == self.channels:
            samples = samples.mean(axis=1) if self.channel_mode == "mix" else samples[:, 0]
        elif samples.ndim != 1 or self.channels != 1:
            raise AudioError(f"samples must be {wanted}, got shape {samples.shape}")
        if not np.isfinite(samples).all():
            raise AudioError("samples must be finite, got NaN or infinity")
        return samples
