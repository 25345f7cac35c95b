import numpy as np
import pytest

from audiomamba.errors import ConfigError
from audiomamba.training.batches import BatchConfig, Part, SpeechPool
from audiomamba.training.batches.packing import BLOCK, Rows, Shape, pack, shape_of


def encode(text: str) -> list[int]:
    return [1] * len(text)


@pytest.fixture(scope="module")
def pool(parts: list[Part]) -> SpeechPool:
    return SpeechPool.load(parts, encode)


def packed(pool: SpeechPool, seconds: float, seed: int = 0) -> tuple[Shape, Rows]:
    config = BatchConfig(batch_seconds=300)
    shape = shape_of(seconds, config)
    return shape, pack(pool, config, shape, np.ones(3), np.random.default_rng(seed))


@pytest.mark.parametrize("seconds", BatchConfig().row_seconds)
def test_shapes_give_a_multiple_of_four_frames(seconds: float) -> None:
    shape = shape_of(seconds, BatchConfig())
    assert 1 + (shape.samples - 400) // 160 == shape.frames
    assert shape.frames % 4 == 0 and shape.samples % BLOCK == 0
    assert abs(shape.seconds - 1000) < 20


@pytest.mark.parametrize("seconds", [3.0, 8.0, 24.0])
def test_utterances_follow_each_other_and_leave_the_tail_free(
    pool: SpeechPool, seconds: float
) -> None:
    shape, rows = packed(pool, seconds)
    used = rows.lengths > 0
    assert (used.sum(1) == rows.counts).all()
    follows = used[:, 1:]
    gaps = (rows.blocks[:, 1:] - rows.blocks[:, :-1] - rows.lengths[:, :-1])[follows]
    assert (gaps >= 0.05 * 200).all() and (gaps <= 1.5 * 200).all()
    ends = np.where(used, rows.blocks + rows.lengths, 0).max(1)
    assert (ends * BLOCK <= shape.samples - 0.6 * 16_000 + BLOCK).all()


@pytest.mark.parametrize("seconds", [5.0, 8.0, 12.0, 16.0])
def test_less_than_a_tenth_of_the_room_is_left_over(pool: SpeechPool, seconds: float) -> None:
    shape, rows = packed(pool, seconds)
    ends = np.where(rows.lengths > 0, rows.blocks + rows.lengths, 0).max(1)[rows.counts > 0]
    room = shape.samples / BLOCK - 0.6 * 200
    assert np.mean(1 - ends / room) < 0.1


def test_targets_keep_within_their_room(pool: SpeechPool) -> None:
    shape, rows = packed(pool, 5.0)
    needed = np.where(rows.lengths > 0, np.diff(pool.token_starts)[rows.utterances], 0).sum(1)
    assert needed.max() <= shape.tokens


def test_some_rows_are_empty(pool: SpeechPool) -> None:
    empty = sum(int((packed(pool, 3.0, seed)[1].counts == 0).sum()) for seed in range(10))
    assert 0.01 < empty / 1000 < 0.06


def test_a_mixture_of_nothing_is_refused(pool: SpeechPool) -> None:
    config = BatchConfig()
    with pytest.raises(ConfigError, match="weight 0"):
        pack(pool, config, shape_of(3.0, config), np.zeros(3), np.random.default_rng(0))
