"""Automatic gain: quiet speech is raised to the level that models are trained at."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiomamba.errors import ConfigError

__all__ = ["LevelConfig", "LevelControl"]


@dataclass(kw_only=True, frozen=True, slots=True)
class LevelConfig:
    """How the gain follows the level. Levels are mean squares of a frame, in dB of full scale."""

    target_db: float = -24.0  # what the loudest frames are raised to
    most_db: float = 14.0  # highest gain; nothing is ever made quieter
    release_db_s: float = 1.0  # how fast the loudest frame is forgotten, a second
    frame_s: float = 0.01

    def __post_init__(self) -> None:
        if self.most_db < 0 or self.release_db_s < 0:
            raise ConfigError(
                f"level: most_db and release_db_s must be >= 0, got {self.most_db}, "
                f"{self.release_db_s}"
            )


class LevelControl:
    """Gain of each frame from the frames so far.

    The level followed is that of the loudest frame, falling slowly. It begins at the level of the
    highest gain, so that a first quiet word is heard; a loud frame takes the gain down at once, so
    that nothing loud is ever raised. One number is all that is remembered.
    """

    def __init__(self, config: LevelConfig | None = None) -> None:
        self.config = config or LevelConfig()
        c = self.config
        self._lowest = 10.0 ** ((c.target_db - c.most_db) / 10)
        self._target = 10.0 ** (c.target_db / 10)
        self._keep = 10.0 ** (-c.release_db_s * c.frame_s / 10)
        self._level = self._lowest

    def gains(self, energies: NDArray[np.float32]) -> NDArray[np.float32]:
        """Mean squares of the next frames, ``(k,)``, to the factors of their power, >= 1."""
        out = np.empty(len(energies), np.float32)
        for i, energy in enumerate(energies.tolist()):
            self._level = max(energy, self._lowest, self._level * self._keep)
            out[i] = max(1.0, self._target / self._level)
        return out

    def state(self) -> dict[str, Any]:
        """All that is needed to go on elsewhere."""
        return {"level": self._level}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self._level = float(state["level"])
