"""How far a run is, and the learning rate there.

Budgets are wall time, so the schedule follows the elapsed share of the run rather than a number of
steps: the same configuration fits a minute and a day.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from audiomamba.training.config import OptimizerConfig

__all__ = ["Clock", "learning_rate"]


@dataclass(slots=True)
class Clock:
    """Elapsed share of a run limited by wall time, by steps, or by whichever ends first.

    Args:
        budget_s: Wall seconds, saving included; 0 = no limit.
        steps: Optimiser steps of the whole run; 0 = no limit.
        reserve_s: Seconds of the budget kept for the last evaluation and saving.
        started: ``now()`` at the start of the command.
    """

    budget_s: float
    steps: int
    reserve_s: float
    started: float
    now: Callable[[], float] = time.monotonic

    def elapsed_s(self) -> float:
        """Wall seconds since the start of the command."""
        return self.now() - self.started

    def left_s(self) -> float:
        """Wall seconds until training must stop; infinite without a budget."""
        return self.budget_s - self.reserve_s - self.elapsed_s() if self.budget_s else math.inf

    def fraction(self, step: int) -> float:
        """Share of the run that is over before step ``step`` (counted from 0), 0..1."""
        by_time = 0.0
        if self.budget_s:
            by_time = self.elapsed_s() / max(self.budget_s - self.reserve_s, 1e-9)
        by_steps = step / self.steps if self.steps else 0.0
        return min(max(by_time, by_steps), 1.0)

    def keep_for_end(self, seconds: float) -> None:
        """Raise the reserve to what the end was seen to need."""
        self.reserve_s = max(self.reserve_s, min(seconds, 0.5 * self.budget_s))


def learning_rate(
    config: OptimizerConfig, *, fraction: float, steps_done: int, warmup_steps: int
) -> float:
    """Linear warm-up, flat, then ``1 - sqrt`` to zero over the last ``config.decay_share``.

    Args:
        config: Peak and share.
        fraction: Elapsed share of the run, 0..1.
        steps_done: Steps since the start or the resume.
        warmup_steps: Steps of the warm-up.

    Source: Hägele et al., "Scaling Laws and Compute-Optimal Training Beyond Fixed Training
    Durations", 2024, section 3.
    """
    warm = min(1.0, (steps_done + 1) / warmup_steps) if warmup_steps else 1.0
    over = fraction - (1.0 - config.decay_share)
    cool = 1.0 - math.sqrt(over / config.decay_share) if over > 0 else 1.0
    return config.lr * warm * max(cool, 0.0)
