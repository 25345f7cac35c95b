"""The measure of speed, not the speed."""

from audiomamba.models.wave.bench import guard_cost, measure, products
from audiomamba.models.wave.model import Wave
from tests.models.wave.tiny import tiny_config, tiny_wave


def test_every_engine_is_measured_against_torch() -> None:
    lines = measure(tiny_wave(), streams=(2,), samples=400, rounds=1)
    assert [line["engine"] for line in lines] == ["torch", "native-float32", "native-int8"]
    assert lines[0]["ratio"] == 1.0
    assert all(line["samples_per_s"] > 0 for line in lines)  # type: ignore[operator]


def test_products_of_slower_rates_count_by_their_share() -> None:
    one = products(Wave(tiny_config()))
    slow = products(Wave(tiny_config(pools=[8, 8])))
    head = 256 * 16
    block = 16 * 64 + 32 * 16  # in and out of a block at the samples' rate
    assert head + 2 * block < slow < one < head + 2 * block + 10_000


def test_the_guard_is_measured_on_its_own() -> None:
    line = guard_cost(tiny_wave(), streams=2, rounds=3)
    assert line["streams"] == 2 and 0 < float(str(line["us_per_sample"])) < 1000
