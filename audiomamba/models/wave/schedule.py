"""Which label is asked for at which sample: words one after another, each in its parts.

    label     |   three, parts 0 to 7   | silence |  one, parts 0 to 7 | silence |
              0                      its length   pause                  end     samples

A label is a row of as many parts as the model has states (``WaveConfig.label_states``), as the
words it learnt from were divided; between words there is silence, which is given to the model
and not drawn from it. Lengths of words are drawn from what was measured in training
(durations.py), and parts have their mean shares of them; pauses are drawn evenly. A switch is where
a period of the model begins.

Source of conditions that change in time: van den Oord et al., "WaveNet", 2016, section 2.5.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from audiomamba.errors import ConfigError
from audiomamba.models.wave.config import WaveConfig
from audiomamba.models.wave.durations import Durations

__all__ = ["PAUSE_S", "Schedule", "dumped", "restored", "spoken", "stretched", "words_of"]

PAUSE_S = (0.08, 0.25)  # after a word
_NOBODY = -1


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
