"""Shapes that make sense, and the sizes of the models that ship."""

import pytest

from audiomamba.errors import ConfigError
from audiomamba.models.wave.config import StageConfig, WaveConfig
from audiomamba.models.wave.model import Wave
from tests.models.wave.tiny import tiny_config


def test_the_default_is_the_size_that_runs_live() -> None:
    size = sum(p.numel() for p in Wave(WaveConfig()).parameters())
    assert 2.2e6 < size < 2.4e6


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"pools": [4]}, "a stage more than pools"),
        ({"pools": [1, 4]}, "at least 2"),
        ({"pools": [4096, 4096]}, "2\\^20"),
        ({"sample_rate": 44}, "sample_rate"),
        ({"labels": ["a", "a"]}, "labels must be different"),
    ],
)
def test_a_shape_that_cannot_be_is_one_clear_error(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        WaveConfig(**changes)  # type: ignore[arg-type]


def test_every_block_has_its_columns_of_the_condition_in_the_order_of_a_sample() -> None:
    config = tiny_config()
    blocks = config.blocks()
    assert [block.prefix for block in blocks] == [
        "net.down.blocks.0.",
        "net.inner.down.blocks.0.",
        "net.inner.inner.down.blocks.0.",
        "net.inner.up.blocks.0.",
        "net.up.blocks.0.",
    ]
    assert [block.column for block in blocks] == [16, 32, 48, 64, 80]
    assert config.condition_size == 96
    assert WaveConfig(stages=[StageConfig()] * 3).condition_size == 0


def test_names_of_blocks_are_names_of_weights() -> None:
    config = tiny_config()
    weights = set(Wave(config).state_dict())
    assert all(block.prefix + "norm.weight" in weights for block in config.blocks())
