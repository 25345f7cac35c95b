"""Speakers for synthetic speech: stock voices, and new ones mixed from them.

A voice is a table of style vectors, a row for each number of phones: 128 numbers of timbre, then
128 of prosody. The rows of short lines differ much from the others, so a line takes its own row and
rows are never averaged. Mixes of many voices fall to the middle, so mixes are of two or three.
"""

from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from audiomamba.errors import ConfigError

__all__ = ["HELD_OUT", "Speaker", "Voices", "trim_tables", "uneven"]

# Never heard in training, not even in a mix: voices to measure on.
HELD_OUT = ("af_bella", "bf_emma", "am_michael", "bm_george")

TIMBRE = slice(0, 128)
PROSODY = slice(128, 256)
SPEED = (0.75, 1.2)
PITCH = (0.85, 1.15)
UNEVENNESS = 0.35


class Speaker(NamedTuple):
    """Who says one line, and how.

    Attributes:
        timbre, prosody: Weights of the voices, ``(V,)`` each.
        noise: ``(256,)``, in standard deviations between voices.
        speed: Of speech, 1 as the voice speaks.
        pitch: Factor of the pitch.
        name: Of a stock voice; None for a mix, which never comes twice.
        unevenness: Standard deviation of the logarithm of phones' lengths around the voice's own,
            which are those of a careful reader.
    """

    timbre: NDArray[np.float32]
    prosody: NDArray[np.float32]
    noise: NDArray[np.float32]
    speed: float
    pitch: float
    name: str | None
    unevenness: float = 0.0


def uneven(
    frames: NDArray[np.int64], deviation: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Lengths of a line's tokens, each changed by chance; the zeros at both ends stay as they are.

    A voice that predicts mean lengths says the same word always in the same rhythm; recognisers
    learn more from lengths that are drawn (Rossenbach et al., "On the Effect of Purely Synthetic
    Training Data for Different ASR Architectures", 2024).

    Args:
        frames: ``(P,)``, at least 1 each.
        deviation: Of the logarithm.
        rng: Where all chance comes from.
    """
    drawn = frames * np.exp(deviation * rng.standard_normal(len(frames)))
    changed = np.floor(drawn + rng.random(len(frames))).astype(np.int64)  # right on average
    changed[[0, -1]] = frames[[0, -1]]
    return np.maximum(changed, 1)


def trim_tables(source: Path, target: Path, rows: int) -> None:
    """Copy voice tables, rows of lines too long to occur left out."""
    with np.load(source) as tables:
        np.savez_compressed(target, **{name: tables[name][:rows] for name in tables.files})


@dataclass(frozen=True, slots=True)
class Voices:
    """The tables and their names.

    Attributes:
        names: Of the voices; the first letter is the language (a, b: English), the second the sex.
        tables: ``(V, R, 256)`` float32; row n - 1 is for n phones.
        deviation: Between the voices, ``(R, 256)``.
    """

    names: list[str]
    tables: NDArray[np.float32]
    deviation: NDArray[np.float32]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read an ``.npz`` with one table a voice."""
        with np.load(path) as file:
            names = sorted(file.files)
            tables = np.stack([file[name].astype(np.float32) for name in names])
        if missing := set(HELD_OUT) - set(names):
            raise ConfigError(f"voices: {path} lacks {sorted(missing)}")
        return cls(names, tables, tables.std(0))

    def style(self, speaker: Speaker, phones: int) -> NDArray[np.float32]:
        """Style vector of a speaker for a line of that many phones, ``(256,)``."""
        row = self.tables[:, phones - 1]
        vector = np.concatenate(
            [speaker.timbre @ row[:, TIMBRE], speaker.prosody @ row[:, PROSODY]]
        )
        noisy: NDArray[np.float32] = vector + speaker.noise * self.deviation[phones - 1]
        return noisy.astype(np.float32)

    def draw(self, rng: np.random.Generator, *, british: bool) -> Speaker:
        """A speaker for training.

        A quarter are stock English voices; half are mixes of two or three English ones with noise
        and another pitch; a quarter take in a foreign voice, or one voice's timbre with another's
        prosody.
        """
        kind = rng.random()
        first = rng.choice(self._some("b" if british else "a"))
        if kind < 0.25:
            return self.stock(self.names[first], rng)
        if kind < 0.75:
            count = int(rng.integers(2, 4))
            others = rng.choice(self._some("ab"), count - 1, replace=False)
            weights = self._weights([first, *others], rng.uniform(-0.2, 1.2, count), rng)
            timbre = prosody = weights
        else:
            timbre = self._one(first)
            prosody = timbre
            way = rng.random()
            if way < 0.4:
                prosody = self._one(rng.choice(self._some("ab")))
            elif way < 0.55:
                timbre = prosody = self._one(rng.choice(self._some("efhijpz")))
            else:
                share = rng.uniform(0.4, 0.7)
                pair = [first, rng.choice(self._some("efhijpz"))]
                timbre = prosody = self._weights(pair, np.array([1 - share, share]), rng)
        noise = rng.uniform(0.3, 0.6) * rng.standard_normal(256)
        return Speaker(
            timbre,
            prosody,
            noise.astype(np.float32),
            _log_uniform(rng, *SPEED),
            _log_uniform(rng, *PITCH),
            None,
            float(rng.uniform(0, UNEVENNESS)),
        )

    def stock(self, name: str, rng: np.random.Generator) -> Speaker:
        """A stock voice at some speed and a slightly different pitch."""
        weights = self._one(self.names.index(name))
        return Speaker(
            weights,
            weights,
            np.zeros(256, np.float32),
            _log_uniform(rng, *SPEED),
            _log_uniform(rng, 0.95, 1.05),
            name,
            float(rng.uniform(0, UNEVENNESS)),
        )

    def stock_names(self) -> list[str]:
        """English voices that training may hear, sexes and accents in turn."""
        kinds: dict[str, list[str]] = {}
        for name in (self.names[i] for i in self._some("ab")):
            kinds.setdefault(name[:2], []).append(name)
        rounds = zip_longest(*kinds.values())
        return [name for some in rounds for name in some if name is not None]

    def one_of(self, count: int, rng: np.random.Generator) -> Speaker:
        """One of the first ``count`` stock voices, whatever the accent of the line: what few voices
        are worth is measured with it."""
        names = self.stock_names()
        if not 1 <= count <= len(names):
            raise ConfigError(f"voices: wants 1 to {len(names)} of them, got {count}")
        return self.stock(names[int(rng.integers(count))], rng)

    def held_out(self, rng: np.random.Generator, *, british: bool) -> Speaker:
        """A voice that training never hears, as it is, at its own pace."""
        names = [name for name in HELD_OUT if name.startswith("b" if british else "a")]
        weights = self._one(self.names.index(str(rng.choice(names))))
        name = self.names[int(weights.argmax())]
        return Speaker(weights, weights, np.zeros(256, np.float32), 1.0, 1.0, name)

    def _some(self, languages: str) -> list[int]:
        return [
            i for i, name in enumerate(self.names) if name[0] in languages and name not in HELD_OUT
        ]

    def _one(self, voice: int) -> NDArray[np.float32]:
        weights = np.zeros(len(self.names), np.float32)
        weights[voice] = 1
        return weights

    def _weights(
        self, voices: list[int], shares: NDArray[np.float64], rng: np.random.Generator
    ) -> NDArray[np.float32]:
        # Raw shares can cancel; then an even mix stands in.
        total = shares.sum()
        shares = shares / total if total > 0.5 else np.full(len(voices), 1 / len(voices))
        weights = np.zeros(len(self.names), np.float32)
        np.add.at(weights, voices, shares.astype(np.float32))
        return weights


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
