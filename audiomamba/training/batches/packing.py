"""Which utterance goes where: rows of one length, filled with joined utterances.

A row looks like this, with everything on a grid of ``BLOCK`` samples::

    |  lead  | utterance | gap | utterance | gap | utterance | what is left |    tail    |

All rows of a batch are filled at once. In turn each row draws a source, then an utterance that
still fits: half of the time any, half of the time one that fills most of what is left. Lengths of a
source are sorted, so what fits is a range and a draw is one multiplication; no loop runs over rows.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audiomamba.errors import ConfigError
from audiomamba.training.batches.config import BatchConfig
from audiomamba.training.batches.pool import SpeechPool
from audiomamba.training.corpus import SAMPLE_RATE

__all__ = ["BLOCK", "HOP", "Rows", "Shape", "pack", "shape_of"]

BLOCK = 80  # samples, 5 ms: utterances start at multiples of it
HOP = 160  # samples from one feature frame to the next
WINDOW = 400  # samples a feature frame sees
MAX_JOINED = 32  # utterances in a row

_TURNS = 44  # draws a row gets
_FILLS = 0.6  # a filling draw takes at least this share of what is left


class Shape(NamedTuple):
    """The shape of a batch; one of few, so that each can have its CUDA graph."""

    rows: int  # B
    samples: int  # S
    frames: int  # F, feature frames, a multiple of 4
    tokens: int  # L

    @property
    def seconds(self) -> float:
        """Audio in the batch."""
        return self.rows * self.samples / SAMPLE_RATE


class Rows(NamedTuple):
    """Rows of a batch. Columns of ``K`` joined utterances; unused ones have length 0."""

    utterances: NDArray[np.int64]  # (B, K) positions in the pool
    blocks: NDArray[np.int64]  # (B, K) block where it starts, rising; unused: past the row
    lengths: NDArray[np.int64]  # (B, K) blocks it lasts, its speed counted in
    speeds: NDArray[np.float64]  # (B, K) samples of the pool to a sample of the row
    counts: NDArray[np.int64]  # (B,) utterances

    @property
    def speech_seconds(self) -> float:
        """What the utterances last."""
        return float(self.lengths.sum()) * BLOCK / SAMPLE_RATE

    @property
    def filled_seconds(self) -> float:
        """From the beginning of each row to the end of its last utterance."""
        ends = np.where(self.lengths > 0, self.blocks + self.lengths, 0).max(axis=1)
        return float(ends.sum()) * BLOCK / SAMPLE_RATE


def shape_of(seconds: float, config: BatchConfig) -> Shape:
    """The shape of batches whose rows last about ``seconds``."""
    frames = 4 * round(seconds * SAMPLE_RATE / HOP / 4)
    rows = max(1, round(config.batch_seconds / seconds))
    tokens = -(-int(seconds * config.tokens_a_second) // 8) * 8
    return Shape(rows, HOP * (frames - 1) + WINDOW, frames, tokens)


def pack(
    pool: SpeechPool,
    config: BatchConfig,
    shape: Shape,
    weights: NDArray[np.float64],
    rng: np.random.Generator,
) -> Rows:
    """Fill the rows of a batch.

    Args:
        pool: What there is.
        config: Timing.
        shape: Of the batch.
        weights: ``(G,)`` share of the audio for each of the pool's groups.
        rng: Where all chance comes from.

    Raises:
        ConfigError: the weights are all zero.
    """
    if not weights.any():
        raise ConfigError("batches: every source has weight 0")
    B, K = shape.rows, MAX_JOINED
    row_blocks = shape.samples // BLOCK
    tail = _blocks(config.tail_s)
    at = rng.integers(0, _blocks(config.lead_s) + 1, B)  # next free block of each row
    end = np.full(B, row_blocks - tail)
    end[rng.random(B) < config.noise_rows] = 0
    rows = Rows(
        utterances=np.zeros((B, K), np.int64),
        blocks=np.full((B, K), row_blocks + 1),
        lengths=np.zeros((B, K), np.int64),
        speeds=np.ones((B, K)),
        counts=np.zeros(B, np.int64),
    )
    tokens_left = np.full(B, shape.tokens)
    shortest = min(int(g.lengths[0]) for g in pool.groups) / BLOCK
    # A draw of a source whose utterances are short adds little audio: draw it more often.
    means = np.array([g.lengths[: _fitting(g.lengths, end.max())].mean() for g in pool.groups])
    chances = np.nan_to_num(weights / means)
    bounds = np.cumsum(chances / chances.sum())
    for _ in range(_TURNS):
        left = end - at
        open_rows = np.flatnonzero((left >= shortest) & (rows.counts < K))
        if not len(open_rows):
            break
        speeds = _speeds(config, len(open_rows), rng)
        room = np.floor(left[open_rows] * BLOCK * speeds)
        picks = _draw(pool, bounds, room, rng)
        taken = picks >= 0
        picks = np.where(taken, picks, 0)
        needed = pool.token_starts[picks + 1] - pool.token_starts[picks]
        taken &= needed <= tokens_left[open_rows]
        row, pick, speed = open_rows[taken], picks[taken], speeds[taken]
        column = rows.counts[row]
        lasts = np.ceil(pool.lengths[pick] / (BLOCK * speed)).astype(np.int64)
        rows.utterances[row, column] = pick
        rows.blocks[row, column] = at[row]
        rows.lengths[row, column] = lasts
        rows.speeds[row, column] = speed
        rows.counts[row] += 1
        tokens_left[row] -= needed[taken]
        at[row] += lasts + _gaps(config, len(row), rng)
    return rows


def _blocks(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE / BLOCK)


def _fitting(lengths: NDArray[np.int64], blocks: int) -> int:
    return max(1, int(np.searchsorted(lengths, blocks * BLOCK, side="right")))


def _speeds(config: BatchConfig, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    changed = rng.random(count) < config.speed_share
    return np.where(changed, rng.uniform(config.slowest, config.fastest, count), 1.0)


def _gaps(config: BatchConfig, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Silences, short ones more often than long ones."""
    low, high = np.log(config.gap_shortest_s), np.log(config.gap_longest_s)
    seconds = np.exp(rng.uniform(low, high, count))
    return np.rint(seconds * SAMPLE_RATE / BLOCK).astype(np.int64)


def _draw(
    pool: SpeechPool,
    bounds: NDArray[np.float64],
    room: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """An utterance that fits into each room (samples of the pool), -1 where none was found."""
    source = np.searchsorted(bounds, rng.random(len(room)), side="right")
    place, filling = rng.random(len(room)), rng.random(len(room)) < 0.5
    picks = np.full(len(room), -1)
    for number, group in enumerate(pool.groups):
        mine = np.flatnonzero(source == number)
        if not len(mine):
            continue
        high = np.searchsorted(group.lengths, room[mine], side="right")
        low = np.searchsorted(group.lengths, room[mine] * _FILLS, side="left")
        low = np.where(filling[mine] & (low < high), low, 0)
        chosen = low + (place[mine] * (high - low)).astype(np.int64)
        found = high > 0
        picks[mine[found]] = group.members[chosen[found]]
    return picks
