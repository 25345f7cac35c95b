"""Log-mel features, a frame every 10 ms, as samples come.

Power spectrum of Hann windows, Slaney's mel scale and area normalisation (the defaults of
``librosa.filters.mel``), natural logarithm. Windows are not centred: frame i covers samples
``i * hop`` to ``i * hop + window``, so a frame waits for its last sample and for nothing after it.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiomamba.audio.level import LevelControl
from audiomamba.errors import ConfigError

__all__ = [
    "MelConfig",
    "StreamingMel",
    "hz_to_mel",
    "mel_filterbank",
    "mel_to_hz",
    "window_function",
]

Samples = NDArray[np.float32]


@dataclass(kw_only=True, frozen=True, slots=True)
class MelConfig:
    """Features of a model; the same in training and in use."""

    sample_rate: int = 16_000  # Hz
    window: int = 400  # samples of a window: 25 ms
    hop: int = 160  # samples from one frame's start to the next: 10 ms
    fft: int = 512  # points of the transform; the window is padded with zeros at its end
    bins: int = 80
    low_hz: float = 20.0
    high_hz: float = 7600.0
    floor: float = 1e-5  # least energy of a bin, before the logarithm

    @classmethod
    def at(cls, sample_rate: int, bins: int) -> "MelConfig":
        """Windows of 25 ms every 10 ms of another sample rate; of 16 kHz those of the defaults."""
        window = round(0.025 * sample_rate)
        return cls(
            sample_rate=sample_rate,
            window=window,
            hop=round(0.01 * sample_rate),
            fft=1 << (window - 1).bit_length(),
            bins=bins,
            high_hz=0.475 * sample_rate,
        )

    def __post_init__(self) -> None:
        if not 0 < self.hop <= self.window <= self.fft:
            raise ConfigError(
                f"mel: wants 0 < hop <= window <= fft, got {self.hop}, {self.window}, {self.fft}"
            )
        if not 0 <= self.low_hz < self.high_hz <= self.sample_rate / 2:
            raise ConfigError(
                f"mel: wants 0 <= low_hz < high_hz <= {self.sample_rate / 2}, "
                f"got {self.low_hz}, {self.high_hz}"
            )


def hz_to_mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Slaney's scale: linear to 1 kHz (a mel is 200 / 3 Hz), then 27 mels to a factor of 6.4."""
    above = 15.0 + 27.0 * np.log(np.maximum(hz, 1e-9) / 1000.0) / np.log(6.4)
    return np.where(hz < 1000.0, hz * 3.0 / 200.0, above)


def mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of ``hz_to_mel``."""
    return np.where(mel < 15.0, mel * 200.0 / 3.0, 1000.0 * 6.4 ** ((mel - 15.0) / 27.0))


@lru_cache(maxsize=8)
def mel_filterbank(config: MelConfig) -> Samples:
    """Triangles ``(bins, fft / 2 + 1)`` that sum a power spectrum to mel bands.

    Source: Slaney, "Auditory Toolbox", 1998; each triangle has area 2 / (its width in Hz).
    """
    frequencies = np.fft.rfftfreq(config.fft, 1.0 / config.sample_rate)
    ends = hz_to_mel(np.array([config.low_hz, config.high_hz]))
    edges = mel_to_hz(np.linspace(ends[0], ends[1], config.bins + 2))
    rising = (frequencies - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - frequencies) / np.diff(edges)[1:, None]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    triangles *= 2.0 / (edges[2:] - edges[:-2])[:, None]
    bank: Samples = triangles.astype(np.float32)
    bank.setflags(write=False)
    return bank


@lru_cache(maxsize=8)
def _bands_of(config: MelConfig) -> Samples:
    """The same as the product wants it, ``(fft / 2 + 1, bins)``: once for all streams."""
    bank = np.ascontiguousarray(mel_filterbank(config).T)
    bank.setflags(write=False)
    return bank


def window_function(config: MelConfig) -> Samples:
    """Periodic Hann window, ``(window,)``."""
    phase = 2.0 * np.pi * np.arange(config.window) / config.window
    hann: Samples = (0.5 - 0.5 * np.cos(phase)).astype(np.float32)
    return hann


class StreamingMel:
    """Features of one stream. Any chunking of the samples gives the same frames.

    Args:
        config: The features.
        level: Raises quiet frames before the logarithm; None leaves them.
    """

    def __init__(self, config: MelConfig | None = None, level: LevelControl | None = None) -> None:
        self.config = config or MelConfig()
        self._level = level
        self._window = window_function(self.config)
        self._window_energy = np.float32(np.square(self._window).sum())
        self._bank = _bands_of(self.config)
        self._tail: Samples = np.zeros(0, np.float32)

    def feed(self, samples: Samples) -> Samples:
        """Take samples ``(n,)``, any n; return the frames that are whole now, ``(k, bins)``."""
        c = self.config
        x = np.concatenate([self._tail, samples]) if len(self._tail) else samples
        frames = max(0, (len(x) - c.window) // c.hop + 1)
        self._tail = x[frames * c.hop :].copy()
        if frames == 0:
            return np.zeros((0, c.bins), np.float32)
        view = np.lib.stride_tricks.sliding_window_view(x, c.window)[: frames * c.hop : c.hop]
        windowed = view * self._window
        spectrum = np.fft.rfft(windowed, c.fft)
        power = spectrum.real**2 + spectrum.imag**2
        # A product a frame: one of all frames would round by how many came together.
        bands = np.matmul(power[:, None], self._bank)[:, 0]
        if self._level is not None:
            energies = np.matmul(windowed[:, None], windowed[:, :, None])[:, 0, 0]
            bands = bands * self._level.gains(energies / self._window_energy)[:, None]
        features: Samples = np.log(np.maximum(bands, np.float32(c.floor)))
        return features

    def wanted(self, frames: int) -> int:
        """Samples that have to come for so many frames more, at least one."""
        return self.config.window + (frames - 1) * self.config.hop - len(self._tail)

    def finish(self) -> Samples:
        """End of the samples: what is left over is shorter than a frame, and dropped."""
        self._tail = np.zeros(0, np.float32)
        return np.zeros((0, self.config.bins), np.float32)

    def after(self, last: Samples, frames: int) -> Samples:
        """So many frames of what is heard when all is over: ``last (bins,)`` goes on."""
        return np.repeat(last[None], frames, axis=0)

    def state(self) -> dict[str, Any]:
        """All that is needed to go on elsewhere."""
        level = {} if self._level is None else self._level.state()
        return {"tail": self._tail.copy(), **level}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self._tail = np.asarray(state["tail"], np.float32).copy()
        if self._level is not None:
            self._level.load(state)
