"""The training run: batches in, weights out, in a given time."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audiomamba.config import to_mapping
from audiomamba.training import checkpointing
from audiomamba.training.averaging import Average
from audiomamba.training.checkpointing import Progress
from audiomamba.training.config import RunConfig
from audiomamba.training.gradients import FlatGradient
from audiomamba.training.inheritance import Inheritance
from audiomamba.training.objective import Batch, Objective
from audiomamba.training.optimizers import Optimizer
from audiomamba.training.parallel import Parallel
from audiomamba.training.prefetch import Prefetcher
from audiomamba.training.progress import Meter
from audiomamba.training.schedule import Clock, learning_rate

__all__ = ["Run"]

_AGREE_EVERY = 16  # steps after which several processes compare their clocks


@dataclass(slots=True)
class _Due:
    """Something done every so many wall seconds; never where ``every_s`` is 0."""

    every_s: float
    last: float

    def now(self) -> bool:
        if not self.every_s or time.monotonic() - self.last < self.every_s:
            return False
        self.last = time.monotonic()
        return True


class Run:
    """One session of training: a fresh run, or the next part of one.

    Args:
        objective: What is trained, on the device of ``parallel``.
        config: How.
        parallel: This process among the others.
        started: ``time.monotonic()`` at the start of the command, from where the budget counts.
        recipe: The whole configuration, kept beside the weights.
        say: Takes lines of progress; standard error by default.
    """

    def __init__(
        self,
        objective: Objective,
        config: RunConfig,
        parallel: Parallel,
        *,
        started: float | None = None,
        recipe: dict[str, Any] | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.objective, self.config, self.parallel = objective, config, parallel
        self.model = model = objective.model
        self._recipe = recipe or {"train": to_mapping(config)}
        self._say = (say or _to_stderr) if parallel.first else _to_nobody
        self.out = Path(config.out)
        self.progress = Progress()
        self._inheritance = Inheritance()
        started = time.monotonic() if started is None else started
        self._clock = Clock(config.budget_s, config.steps, config.reserve_s, started)
        self._idle = threading.Lock()
        torch.manual_seed(config.seed + parallel.rank)
        self.gradient = FlatGradient(model)
        self.optimizer = Optimizer(model, config.optimizer)
        self.average = Average(model, config.optimizer.ema)
        objective.attach(self.gradient, self._idle)
        self._warmup_steps = config.optimizer.warmup_steps
        self._elapsed_before_s = 0.0
        self._stopping = False
        self._over, self._fraction = False, 0.0

    def run(self) -> Progress:
        """Train until the budget, the steps or a SIGTERM ends it; saves on the way out."""
        self._begin()
        self.model.train()
        first = self.progress.step
        meter = Meter(self.objective.terms, self.parallel.device, self.config.log_every_s)
        evaluate = _Due(self.objective.evaluate_every_s, time.monotonic())
        save = _Due(self.config.save_every_s, time.monotonic())
        batches = Prefetcher(
            self.objective.batch,
            first_step=first,
            depth=self.config.prefetch,
            device=self.parallel.device,
            idle=self._idle,
        )
        with batches, self._stopped_by_signals():
            while self._goes_on(self.progress.step - first):
                batch = batches.next()
                lr, terms, norm = self._step(batch, self.progress.step - first)
                meter.add(terms, norm, batch.seconds)
                self.progress.step += 1
                self.progress.audio_s += batch.seconds * self.parallel.world
                if meter.due():
                    self._say(
                        meter.line(
                            step=self.progress.step,
                            audio_s=self.progress.audio_s,
                            lr=lr,
                            left_s=self._clock.left_s(),
                        )
                    )
                if evaluate.now():
                    self._evaluate()
                if save.now():
                    self._save()
            self._evaluate()
            self._save()
        heard = f", {self.progress.audio_s / 3600:.2f} h of audio" if self.progress.audio_s else ""
        self._say(
            f"done: step {self.progress.step}{heard} in {self._clock.elapsed_s():.0f} s, "
            f"{self.out}/export"
        )
        return self.progress

    def _begin(self) -> None:
        folder = checkpointing.resume_folder(self.config.resume, self.out)
        self._inheritance = Inheritance.of(folder)
        if folder is None:
            self.objective.begin()
        elif checkpointing.is_last(folder):
            self.progress = checkpointing.load_last(
                folder, self.model, self.average, self.optimizer
            )
            self._elapsed_before_s = self.progress.elapsed_s
            self._say(f"resumed {folder} at step {self.progress.step}")
        else:
            checkpointing.load_export(folder, self.model, self.average)
            self._say(f"took the weights of {folder}")
        if folder is not None:
            self._warmup_steps = self.config.optimizer.rewarm_steps
        self.parallel.share_(self.model)
        if folder is None:
            self.average = Average(self.model, self.config.optimizer.ema)

    def _step(self, batch: Batch, steps_done: int) -> tuple[float, Tensor, Tensor]:
        """One optimiser step; returns learning rate, loss terms and gradient norm."""
        config = self.config.optimizer
        lr = learning_rate(
            config,
            fraction=self._fraction,
            steps_done=steps_done,
            warmup_steps=self._warmup_steps,
        )
        terms = self.objective.step(batch, self._fraction)
        self.parallel.mean_(self.gradient.flat)
        norm = self.gradient.clip(config.clip)
        self.optimizer.step(lr)
        self.average.update()
        return lr, terms, norm

    def _goes_on(self, steps_done: int) -> bool:
        """Whether another step is to be taken; sets how far the run is.

        Clocks differ and one process alone evaluates and saves, yet all must take as many steps at
        the same rates, or their weights part. Agreeing waits for the device, so it is done rarely.
        """
        step, steps = self.progress.step, self.config.steps
        if self.parallel.world == 1 or steps_done % _AGREE_EVERY == 0:
            self._over, self._fraction = self.parallel.agree(
                self._stopping or self._clock.left_s() <= 0, self._clock.fraction(step)
            )
        return not (self._over or (steps and step >= steps))

    def _evaluate(self) -> None:
        started = time.monotonic()
        lines = self.objective.evaluate(self.average.weights)
        if not lines:
            return
        self._clock.keep_for_end(2 * (time.monotonic() - started) + 5)
        self._say(f"eval step {self.progress.step}  {lines[0]}")
        for line in lines[1:]:
            self._say(line)

    def _save(self) -> None:
        if not self.parallel.first:
            return
        started = time.monotonic()
        self.progress.elapsed_s = self._elapsed_before_s + self._clock.elapsed_s()
        self.out.mkdir(parents=True, exist_ok=True)
        checkpointing.save_last(
            self.out, self.model, self.average, self.optimizer, self.progress, self._recipe
        )
        description, files = self._inheritance.onto(
            {**self.objective.description, "training": to_mapping(self.progress)},
            self.objective.files,
        )
        checkpointing.save_export(self.out, self.model, self.average, description, files)
        self._clock.keep_for_end(2 * (time.monotonic() - started) + 5)

    @contextmanager
    def _stopped_by_signals(self) -> Iterator[None]:
        """SIGTERM and the first Ctrl-C end the run after the current step, saved."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: object) -> None:
            self._stopping = True
            signal.signal(signal.SIGINT, signal.default_int_handler)

        before = {s: signal.signal(s, stop) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _to_nobody(text: str) -> None:
    return None
