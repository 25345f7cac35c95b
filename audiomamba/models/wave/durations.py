"""How long words are, and which share of a word each of its parts has, as measured in training."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiomamba.errors import ConfigError

__all__ = ["Durations", "equal_shares"]

_MOST_DEVIATIONS = 1.5  # from the mean of a word's log length
_LONGEST_S = 3.0  # of a word, whatever was measured
_USUAL_S = 0.45  # of a word that was not measured
_ENOUGH = 10  # words of a label by a speaker, whose lengths are then known


@dataclass(kw_only=True, slots=True)
class Durations:
    """How long words and their parts were; a section of a checkpoint's ``config.json``.

    Lengths are logarithms of seconds. The log length of a word is what this speaker's words of the
    label have, where enough were measured; else the label's mean, the speaker's offset, and chance.
    """

    labels: dict[str, list[float]] = field(default_factory=dict)  # mean and deviation
    speakers: dict[str, float] = field(default_factory=dict)  # what is added to the mean
    own: dict[str, dict[str, list[float]]] = field(default_factory=dict)  # by speaker and label
    # Shares of a word after which its next part begins, by label, and by speaker and label.
    parts: dict[str, list[float]] = field(default_factory=dict)
    own_parts: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {"labels": self.labels, **{f"own.{n}": own for n, own in self.own.items()}}
        parts = {"parts": self.parts, **{f"own_parts.{n}": x for n, x in self.own_parts.items()}}
        for place, table in (lengths | parts).items():
            if not isinstance(table, Mapping):
                raise ConfigError(f"durations.{place}: wants a mapping, got {table}")
        for place, table in lengths.items():
            for name, pair in table.items():
                if len(pair) != 2 or not all(map(math.isfinite, pair)) or pair[1] < 0:
                    raise ConfigError(
                        f"durations.{place}: {name!r} wants mean and deviation, got {pair}"
                    )
        for place, table in parts.items():
            for name, shares in table.items():
                if sorted(shares) != shares or not all(0 < share < 1 for share in shares):
                    raise ConfigError(
                        f"durations.{place}: {name!r} wants shares of a word in order, got {shares}"
                    )
        for name, offset in self.speakers.items():
            if not math.isfinite(offset):
                raise ConfigError(f"durations.speakers: {name!r} wants a number, got {offset}")

    @classmethod
    def measured(
        cls,
        words: Sequence[tuple[str, str | None, float]],
        parts: Sequence[tuple[str, str | None, Sequence[float]]] = (),
    ) -> "Durations":
        """Of words: label, speaker, seconds; and label, speaker, shares where parts begin."""
        words = [word for word in words if word[2] > 0]
        if not words:
            return cls()
        logs = np.log([seconds for _, _, seconds in words])
        means = _means([label for label, _, _ in words], logs)
        left = logs - [means[label] for label, _, _ in words]
        offsets = _means([speaker for _, speaker, _ in words], left)
        left = left - [offsets[speaker] for _, speaker, _ in words]
        spread = _means([label for label, _, _ in words], np.square(left))
        logs_of = _grouped(
            (speaker, (label, log))
            for (label, speaker, _), log in zip(words, logs.tolist(), strict=True)
            if speaker is not None
        )
        shares_of = _grouped((who, (label, x)) for label, who, x in parts if who is not None)
        return cls(
            labels={n: [round(means[n], 4), round(math.sqrt(spread[n]), 4)] for n in sorted(means)},
            speakers={n: round(x, 4) for n, x in sorted(offsets.items(), key=str) if n is not None},
            own={who: own for who in sorted(logs_of) if (own := _lengths(logs_of[who]))},
            parts=_mean_shares([(label, shares) for label, _, shares in parts]),
            own_parts={
                who: own
                for who in sorted(shares_of)
                if (own := _mean_shares(shares_of[who], _ENOUGH))
            },
        )

    def shares(self, label: str, speaker: str | None, states: int) -> list[float]:
        """After which shares of a word the next of its ``states`` parts begins.

        Raises:
            ConfigError: those that were measured are of another number of parts.
        """
        own = {} if speaker is None else self.own_parts.get(speaker, {})
        shares = own.get(label) or self.parts.get(label)
        if shares is None:
            return equal_shares(states)
        if len(shares) != states - 1:
            raise ConfigError(
                f"durations.parts: {label!r} wants {states - 1} shares, got {len(shares)}"
            )
        return shares

    def scaled(self, length: float, spread: float) -> "Durations":
        """Words ``length`` times as long, that differ ``spread`` times as much."""
        longer = math.log(length)

        def of(table: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
            return {
                label: [round(mean + longer, 4), round(deviation * spread, 4)]
                for label, (mean, deviation) in table.items()
            }

        own = {speaker: of(table) for speaker, table in self.own.items()}
        return replace(self, labels=of(self.labels), own=own)

    def draw(self, label: str, speaker: str | None, rng: np.random.Generator) -> float:
        """Seconds of a word; one number of ``rng`` whatever is known of it."""
        chance = float(np.clip(rng.standard_normal(), -_MOST_DEVIATIONS, _MOST_DEVIATIONS))
        mean, deviation = self.labels.get(label, [math.log(_USUAL_S), 0.0])
        offset = 0.0
        if speaker is not None:
            offset = self.speakers.get(speaker, 0.0)
            if own := self.own.get(speaker, {}).get(label):
                (mean, deviation), offset = own, 0.0
        return min(math.exp(min(mean + offset + chance * deviation, 10.0)), _LONGEST_S)


def equal_shares(states: int) -> list[float]:
    """After which shares of a word the next of so many equal parts begins."""
    return [part / states for part in range(1, states)]


def _grouped(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, list[Any]]:
    """The values of each name."""
    found: dict[Any, list[Any]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


def _means(names: Sequence[Any], values: NDArray[np.float64]) -> dict[Any, float]:
    """The mean of the values of each name."""
    grouped = _grouped(zip(names, values.tolist(), strict=True))
    return {name: sum(own) / len(own) for name, own in grouped.items()}


def _mean_shares(
    words: Sequence[tuple[str, Sequence[float]]], least: int = 1
) -> dict[str, list[float]]:
    """Mean shares by label, of labels with enough words."""
    return {
        label: [round(float(share), 4) for share in np.mean(own, 0)]
        for label, own in sorted(_grouped(words).items())
        if len(own) >= least
    }


def _lengths(words: Sequence[tuple[str, float]]) -> dict[str, list[float]]:
    """Mean and deviation of the logarithms by label, of labels with enough words."""
    return {
        label: [round(float(np.mean(logs)), 4), round(float(np.std(logs)), 4)]
        for label, logs in sorted(_grouped(words).items())
        if len(logs) >= _ENOUGH
    }
