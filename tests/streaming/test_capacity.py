"""What counts as held, and the search for the most of it, on models of known speed."""

import json
from collections.abc import Callable, Sequence

import pytest

from audiomamba.streaming.load import capacity
from tests.cli.test_main import audiomamba
from tests.streaming.energy import EnergyModel

HOP_S = EnergyModel(1).block_s
Make = Callable[[int], EnergyModel]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.perf_counter", clock)
    monkeypatch.setattr("time.monotonic", clock)
    return clock


def holding(clock: Clock, held: int, *, late: int = 0) -> Make:
    """Models that hold so many streams and not one more; ``late`` steps after the warm ones lag."""

    def make(slots: int) -> EnergyModel:
        model = EnergyModel(slots, block=1)
        done = 0

        def pass_time(asked: Sequence[int]) -> None:
            nonlocal done
            assert sorted(asked) == list(range(1, slots + 1))
            lags = capacity.WARM <= done < capacity.WARM + late
            clock.now += model.block_s * (9.0 if lags else slots / (held + 0.5))
            done += 1

        model.before_step = pass_time
        return model

    return make


def test_streams_are_held_where_their_steps_are_over_within_the_hop(clock: Clock) -> None:
    found = capacity.measure(holding(clock, 10), 10, steps=50)
    assert found.in_real_time and found.steps == 50
    assert found.p50_s == pytest.approx(found.p99_s) and found.p99_s < found.hop_s
    assert found.times_real_time == pytest.approx(10.5)
    assert not capacity.measure(holding(clock, 10), 11, steps=50).in_real_time


def test_one_step_of_a_hundred_may_be_late_and_a_second_ends_the_measurement(clock: Clock) -> None:
    one = capacity.measure(holding(clock, 9, late=1), 1, steps=100)
    two = capacity.measure(holding(clock, 9, late=2), 1, steps=100)
    assert one.in_real_time and one.steps == 100
    assert not two.in_real_time and two.steps == 2


def test_a_measurement_keeps_to_its_time(clock: Clock) -> None:
    found = capacity.measure(holding(clock, 10), 10, steps=50, within_s=0.35)
    assert 0.35 < found.steps * found.p50_s < 0.35 + HOP_S


@pytest.mark.parametrize("held", [3, 23, 50])
def test_the_search_comes_near_to_what_is_held(clock: Clock, held: int) -> None:
    make = holding(clock, held)
    first = capacity.measure(make, 2, steps=3)
    tried = list(capacity.search(make, first, steps=3, budget_s=1e9, most=1 << 20))
    best = max([first.streams, *(one.streams for one in tried if one.in_real_time)])
    assert held / capacity.FINEST - 1 <= best <= held
    assert all(one.in_real_time == (one.streams <= held) for one in tried)


def test_the_search_ends_at_what_does_not_fit_at_the_most_and_in_time(clock: Clock) -> None:
    make = holding(clock, 1000)

    def small(slots: int) -> EnergyModel:
        if slots > 40:
            raise RuntimeError("out of memory")
        return make(slots)

    def tried(make: Make, most: int, budget_s: float = 1e9) -> list[int]:
        first = capacity.measure(make, 8, steps=3)
        found = capacity.search(make, first, steps=3, budget_s=budget_s, most=most)
        return [one.streams for one in found]

    assert tried(small, 999)[:2] == [16, 32] and 38 <= max(tried(small, 999)) <= 40
    assert tried(make, 30) == [16, 30]
    assert tried(make, 30, budget_s=0.0) == []


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["native", "torch"])
def test_the_command_measures_each_number_and_the_largest(engine: str) -> None:
    sizes = ("--streams", "1", "2", "--steps", "3", "--search", "5", "--most", "3")
    done = audiomamba("bench", "engine", "--engine", engine, *sizes)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and [line["streams"] for line in lines[:2]] == [1, 2]
    assert all(line["what"] == f"engine {engine}" and line["hop_ms"] == 160 for line in lines)
    assert all(line["step_ms_p50"] <= line["step_ms_p99"] for line in lines)
    held = [line["streams"] for line in lines if line["in_real_time"]]
    assert not held or (lines[-1]["largest"] and lines[-1]["streams"] == max(held))
    assert audiomamba("bench", "engine", "--streams", "0").returncode == 2
