"""Samples themselves as features: a frame is the samples of 10 ms, and nothing is done to them.

What a network makes of samples it learns (models/pyramid.py). Frames keep everything that counts
and cuts them as it is for log-mel.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiomamba.errors import ConfigError

__all__ = ["StreamingWaveform", "WaveformConfig"]

Samples = NDArray[np.float32]


@dataclass(kw_only=True, frozen=True, slots=True)
class WaveformConfig:
    """Frames of samples, one after another."""

    sample_rate: int = 16_000  # Hz
    hop: int = 160  # samples of a frame

    def __post_init__(self) -> None:
        if self.sample_rate < 1 or self.hop < 1:
            raise ConfigError(
                f"waveform: sample_rate and hop must be at least 1, got {self.sample_rate}, "
                f"{self.hop}"
            )

    @property
    def window(self) -> int:
        """Samples that a frame waits for."""
        return self.hop

    @property
    def bins(self) -> int:
        """Numbers of a frame."""
        return self.hop


class StreamingWaveform:
    """Frames of one stream. Any chunking of the samples gives the same frames."""

    def __init__(self, config: WaveformConfig | None = None) -> None:
        self.config = config or WaveformConfig()
        self._tail: Samples = np.zeros(0, np.float32)

    def feed(self, samples: Samples) -> Samples:
        """Take samples ``(n,)``, any n; return the frames that are whole now, ``(k, hop)``."""
        hop = self.config.hop
        x = np.concatenate([self._tail, samples]) if len(self._tail) else samples
        whole = len(x) // hop * hop
        self._tail = x[whole:].copy()
        frames: Samples = np.array(x[:whole], np.float32).reshape(-1, hop)
        return frames

    def wanted(self, frames: int) -> int:
        """Samples that have to come for so many frames more, at least one."""
        return frames * self.config.hop - len(self._tail)

    def finish(self) -> Samples:
        """End of the samples: what is left over is shorter than a frame, and dropped."""
        self._tail = np.zeros(0, np.float32)
        return np.zeros((0, self.config.hop), np.float32)

    def after(self, last: Samples, frames: int) -> Samples:
        """So many frames of what is heard when all is over: silence."""
        return np.zeros((frames, self.config.hop), np.float32)

    def state(self) -> dict[str, Any]:
        """All that is needed to go on elsewhere."""
        return {"tail": self._tail.copy()}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self._tail = np.asarray(state["tail"], np.float32).copy()
