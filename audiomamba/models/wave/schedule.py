"""Which label is asked for at which sample: words one after another, each in its parts.

    label     |   three, parts 0 to 7   | silence |  one, parts 0 to 7 | silence |
              0                      its length   pause                  end     samples

A label is a row of as many parts as the model has states (``WaveConfig.label_states``), as the
words it learnt from were divided; between words there is silence, which is given to the model
and not drawn from it. Lengths of words are drawn from what was measured in training
(:class:`Durations`), and parts have their mean shares of them; pauses are drawn evenly. A switch is
where a period of the model begins.

Source of the division: the flat start of recognisers that are trained without an alignment; of
conditions that change in time: van den Oord et al., "WaveNet", 2016, section 2.5.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from audiomamba.errors import ConfigError
from audiomamba.models.wave.config import WaveConfig

__all__ = ["Durations", "Schedule", "dumped", "restored", "spoken", "stretched", "words_of"]

PAUSE_S = (0.08, 0.25)  # after a word
MOST_DEVIATIONS = 1.5  # from the mean of a word's log length
LONGEST_S = 3.0  # of a word, whatever was measured
_USUAL_S = 0.45  # of a word that was not measured
_ENOUGH = 10  # words of a label by a speaker, whose lengths are then known
_NOBODY = -1


@dataclass(kw_only=True, slots=True)
class Durations:
    """How long words were in training; part of a checkpoint's ``config.json``.

    Logarithms of seconds. The log length of a word is what this speaker's words of the label have,
    where enough were measured; else the label's mean, the speaker's offset, and chance.
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
        by_both: dict[str, dict[str, list[float]]] = {}
        for (label, speaker, _), log in zip(words, logs.tolist(), strict=True):
            if speaker is not None:
                by_both.setdefault(speaker, {}).setdefault(label, []).append(log)
        return cls(
            labels={n: [round(means[n], 4), round(math.sqrt(spread[n]), 4)] for n in sorted(means)},
            speakers={n: round(x, 4) for n, x in sorted(offsets.items(), key=str) if n is not None},
            own={
                speaker: own for speaker in sorted(by_both) if (own := _lengths(by_both[speaker]))
            },
            parts=_mean_shares([(label, shares) for label, _, shares in parts]),
            own_parts={
                who: own
                for who in sorted({who for _, who, _ in parts if who is not None})
                if (own := _mean_shares([(n, x) for n, one, x in parts if one == who], _ENOUGH))
            },
        )

    def shares(self, label: str, speaker: str | None, states: int) -> list[float]:
        """After which shares of a word the next of its ``states`` parts begins.

        Raises:
            ConfigError: those that were measured are of another number of parts.
        """
        own = self.own_parts.get(speaker or "", {})
        shares = own.get(label) or self.parts.get(label)
        if shares is None:
            return [part / states for part in range(1, states)]
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
        chance = float(np.clip(rng.standard_normal(), -MOST_DEVIATIONS, MOST_DEVIATIONS))
        mean, deviation = self.labels.get(label, [math.log(_USUAL_S), 0.0])
        offset = 0.0
        if speaker is not None:
            offset = self.speakers.get(speaker, 0.0)
            if own := self.own.get(speaker, {}).get(label):
                (mean, deviation), offset = own, 0.0
        return min(math.exp(min(mean + offset + chance * deviation, 10.0)), LONGEST_S)


class Schedule(NamedTuple):
    """What one recording is asked for; ``rows[i]`` of the label table from ``starts[i]`` on."""

    starts: list[int]  # samples, from 0
    rows: list[int]  # -1: nothing is asked for
    speaker: int
    samples: int  # until the pause after the last word is over; 0 where no word is asked for
    silence: int  # the row that asks for silence

    def at(self, sample: int) -> int:
        """The row that is asked for."""
        return self.rows[bisect_right(self.starts, sample) - 1]

    def left(self, sample: int) -> int | None:
        """Samples until it changes; None where it does not any more."""
        place = bisect_right(self.starts, sample)
        return self.starts[place] - sample if place < len(self.starts) else None


def words_of(config: WaveConfig, asked: str | None) -> list[int]:
    """Labels, by number, of a wish: a label, or several with spaces between them.

    Raises:
        ConfigError: the model does not know one of them.
    """
    if asked is None:
        return []
    known = {name: number for number, name in enumerate(config.labels)}
    words = [asked] if asked in known or config.label_states == 1 else asked.split() or [asked]
    for word in words:
        if word not in known:
            have = ", ".join(known) if known else "none: the model knows no labels"
            raise ConfigError(f"label {word!r} is not known; there are {have}")
    return [known[word] for word in words]


def spoken(
    config: WaveConfig,
    words: Sequence[int],
    speaker: int,
    durations: Durations,
    *,
    seed: int,
    heard: int = 0,
) -> Schedule:
    """Words one after another, their lengths and the pauses drawn.

    Args:
        config: Of the model.
        words: Numbers of labels; none: nothing is asked for, ever.
        speaker: Number, or -1.
        durations: Of what it learnt from.
        seed: Of the lengths.
        heard: Samples the model has heard before the first.
    """
    rng = np.random.default_rng([seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF])
    who = config.speakers[speaker] if speaker >= 0 else None
    spans, at = [], 0.0
    for word in words:
        seconds = durations.draw(config.labels[word], who, rng)
        # Each part is a period at least.
        samples = max(seconds * config.sample_rate, config.label_states * config.period)
        shares = durations.shares(config.labels[word], who, config.label_states)
        spans.append((at, [samples * share for share in (0.0, *shares)], samples))
        at += samples + rng.uniform(*PAUSE_S) * config.sample_rate
    return _laid_out(config, words, speaker, spans, round(at), heard)


def stretched(config: WaveConfig, words: Sequence[int], speaker: int, samples: int) -> Schedule:
    """Words that share ``samples`` evenly, without pauses; the last part lasts."""
    states = config.label_states
    count = len(words) * states
    parts = {
        _aligned(samples * i / count, config.period, 0): words[i // states] * states + i % states
        for i in range(count)
    } or {0: _NOBODY}
    length = samples if words else 0
    return Schedule(list(parts), list(parts.values()), speaker, length, config.silence_row)


def _laid_out(
    config: WaveConfig,
    words: Sequence[int],
    speaker: int,
    spans: Sequence[tuple[float, Sequence[float], float]],
    samples: int,
    heard: int,
) -> Schedule:
    """Words that begin at a sample, their parts so long after it, and last so many samples; no
    part of no length is left in."""
    if not words:
        return Schedule([0], [_NOBODY], speaker, 0, config.silence_row)
    # A later one at the same sample takes the place of one.
    parts = {0: config.silence_row}
    for word, (begin, starts_of, length) in zip(words, spans, strict=True):
        for part, after in enumerate(starts_of):
            start = _aligned(begin + after, config.period, heard)
            parts[start] = word * config.label_states + part
        parts[_aligned(begin + length, config.period, heard)] = config.silence_row
    starts = sorted(parts)
    rows = [parts[start] for start in starts]
    return Schedule(starts, rows, speaker, samples, config.silence_row)


def _aligned(sample: float, period: int, heard: int) -> int:
    """The nearest sample at which a period of the model begins."""
    return max(0, round((sample + heard) / period) * period - heard)


def dumped(schedules: Sequence[Schedule]) -> dict[str, NDArray[Any]]:
    """Schedules as arrays."""
    return {
        "starts": np.array([at for own in schedules for at in own.starts], np.int64),
        "rows": np.array([row for own in schedules for row in own.rows], np.int64),
        "each": np.array([[len(own.starts), own.speaker, own.samples] for own in schedules]),
    }


def restored(arrays: Mapping[str, NDArray[Any]], config: WaveConfig) -> list[Schedule]:
    """What :func:`dumped` made arrays of; KeyError or ValueError where they are damaged."""
    starts, rows, each = (arrays[name].tolist() for name in ("starts", "rows", "each"))
    schedules, at = [], 0
    for parts, speaker, samples in each:
        place = slice(at, at + parts)
        own = Schedule(starts[place], rows[place], speaker, samples, config.silence_row)
        if len(own.rows) != parts or own.starts[:1] != [0] or sorted(own.starts) != own.starts:
            raise ValueError("a schedule has no order")
        if not -1 <= speaker < max(1, len(config.speakers)) or not all(
            -1 <= row < config.label_rows for row in own.rows
        ):
            raise ValueError("a schedule asks for what the model does not know")
        schedules.append(own)
        at += parts
    return schedules


def _means(names: Sequence[Any], values: NDArray[np.float64]) -> dict[Any, float]:
    """The mean of the values of each name."""
    found: dict[Any, list[float]] = {}
    for name, value in zip(names, values, strict=True):
        found.setdefault(name, []).append(float(value))
    return {name: sum(own) / len(own) for name, own in found.items()}


def _mean_shares(
    words: Sequence[tuple[str, Sequence[float]]], least: int = 1
) -> dict[str, list[float]]:
    """Mean shares by label, of labels with enough words."""
    by_label: dict[str, list[Sequence[float]]] = {}
    for label, shares in words:
        by_label.setdefault(label, []).append(shares)
    return {
        label: [round(float(share), 4) for share in np.mean(own, 0)]
        for label, own in sorted(by_label.items())
        if len(own) >= least
    }


def _lengths(table: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """Mean and deviation by label, of labels with enough words."""
    return {
        label: [round(float(np.mean(logs)), 4), round(float(np.std(logs)), 4)]
        for label, logs in sorted(table.items())
        if len(logs) >= _ENOUGH
    }
