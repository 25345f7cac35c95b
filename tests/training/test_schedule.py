"""How far a run is, and the learning rate there."""

import math

import pytest

from audiomamba.training.config import OptimizerConfig
from audiomamba.training.schedule import Clock, learning_rate


def clock(at: float, *, budget_s: float = 100.0, steps: int = 0) -> Clock:
    return Clock(budget_s, steps, 20.0, started=0.0, now=lambda: at)


def test_the_run_ends_when_the_reserve_begins() -> None:
    assert clock(40.0).fraction(0) == 0.5
    assert clock(80.0).fraction(0) == 1.0
    assert clock(80.0).left_s() == 0.0


def test_whichever_limit_is_nearer_counts() -> None:
    assert clock(8.0, steps=10).fraction(5) == 0.5
    assert clock(40.0, steps=10).fraction(1) == 0.5
    assert clock(1e9, budget_s=0.0, steps=10).fraction(5) == 0.5
    assert clock(1e9, budget_s=0.0, steps=10).left_s() == math.inf


def test_the_reserve_grows_to_what_the_end_needs_and_never_eats_the_run() -> None:
    grown = clock(0.0)
    grown.keep_for_end(30.0)
    assert grown.reserve_s == 30.0
    grown.keep_for_end(10.0)
    assert grown.reserve_s == 30.0
    grown.keep_for_end(1000.0)
    assert grown.reserve_s == 50.0


def test_the_rate_rises_stays_and_falls_to_zero() -> None:
    config = OptimizerConfig(lr=1.0, decay_share=0.2)

    def rate(fraction: float, steps_done: int) -> float:
        return learning_rate(config, fraction=fraction, steps_done=steps_done, warmup_steps=10)

    assert rate(0.0, 0) == pytest.approx(0.1)
    assert rate(0.1, 9) == rate(0.5, 100) == rate(0.8, 100) == 1.0
    assert rate(0.85, 100) == pytest.approx(0.5)
    assert rate(1.0, 100) == pytest.approx(0.0)


def test_without_a_decay_the_rate_stays() -> None:
    config = OptimizerConfig(lr=1.0, decay_share=0.0)
    assert learning_rate(config, fraction=1.0, steps_done=5, warmup_steps=0) == 1.0
