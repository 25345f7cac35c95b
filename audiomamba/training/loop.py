"""The training run: batches in, weights out, in a given time."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from audiomamba.config import to_mapping
from audiomamba.models.transcriber import Transcriber
from audiomamba.training import checkpointing
from audiomamba.training.averaging import Average
from audiomamba.training.checkpointing import Progress
from audiomamba.training.config import TrainConfig
from audiomamba.training.encoder import Encoder
from audiomamba.training.evaluation import Evaluator
from audiomamba.training.gradients import FlatGradient
from audiomamba.training.losses import Counts, LossWeights, transcription_loss
from audiomamba.training.optimizers import Optimizer
from audiomamba.training.parallel import Parallel
from audiomamba.training.prefetch import Prefetcher, Prepared
from audiomamba.training.preparation import SoundBatch, feature_statistics, prepare
from audiomamba.training.progress import Meter
from audiomamba.training.schedule import Clock, learning_rate
from audiomamba.training.word_errors import line

__all__ = ["BatchSource", "Run"]


class BatchSource(Protocol):
    """Where batches come from: the same number always gives the same batch."""

    def batch(self, number: int) -> SoundBatch:
        """Batch ``number``, from 0; safe to call from one thread that is not the caller's own."""
        ...

    def mask(self, features: Tensor, lengths: Tensor, number: int) -> Tensor:
        """Features ``(B, F, bins)`` of batch ``number`` with parts hidden."""
        ...


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
        model: A transcriber on the device of ``parallel``.
        source: Its batches.
        config: How.
        parallel: This process among the others.
        evaluator: Word error rates while training; None for none.
        started: ``time.monotonic()`` at the start of the command, from where the budget counts.
        recipe: The whole configuration, kept beside the weights.
        say: Takes lines of progress; standard error by default.
    """

    def __init__(
        self,
        model: Transcriber,
        source: BatchSource,
        config: TrainConfig,
        parallel: Parallel,
        *,
        evaluator: Evaluator | None = None,
        started: float | None = None,
        recipe: dict[str, Any] | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.model, self.source, self.config, self.parallel = model, source, config, parallel
        self._evaluator = evaluator if parallel.first else None
        self._recipe = recipe or {"train": to_mapping(config)}
        self._say = (say or _to_stderr) if parallel.first else _to_nobody
        self.out = Path(config.out)
        self.progress = Progress()
        started = time.monotonic() if started is None else started
        self._clock = Clock(config.budget_s, config.steps, config.reserve_s, started)
        self._idle = threading.Lock()
        torch.manual_seed(config.seed + parallel.rank)
        self.gradient = FlatGradient(model)
        self.optimizer = Optimizer(model, config.optimizer)
        self.average = Average(model, config.optimizer.ema)
        self._encoder = Encoder(model, self.gradient, config, self._idle)
        self._warmup_steps = config.optimizer.warmup_steps
        self._elapsed_before_s = 0.0
        self._stopping = False

    def run(self) -> Progress:
        """Train until the budget, the steps or a SIGTERM ends it; saves on the way out."""
        self._begin()
        self.model.train()
        first = self.progress.step
        meter = Meter(self.parallel.device, self.config.log_every_s)
        evaluate = _Due(self.config.evaluation.every_s, time.monotonic())
        save = _Due(self.config.save_every_s, time.monotonic())
        batches = Prefetcher(
            self._make,
            first_step=first,
            depth=self.config.prefetch,
            device=self.parallel.device,
            idle=self._idle,
        )
        with batches, self._stopped_by_signals():
            while not self._over():
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
        self._say(
            f"done: step {self.progress.step}, {self.progress.audio_s / 3600:.2f} h of audio "
            f"in {self._clock.elapsed_s():.0f} s, {self.out}/export"
        )
        return self.progress

    def _begin(self) -> None:
        folder = checkpointing.resume_folder(self.config.resume, self.out)
        if folder is None:
            mean, std = feature_statistics(
                self._sound, self.model.config.mel, self.config.statistics_batches, self.parallel
            )
            self.model.set_feature_statistics(mean, std)
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

    def _sound(self, step: int) -> SoundBatch:
        return self.source.batch(step * self.parallel.world + self.parallel.rank)

    def _make(self, step: int) -> Prepared:
        number = step * self.parallel.world + self.parallel.rank
        return prepare(
            self.source.batch(number),
            self.model.config.mel,
            mask=lambda features, lengths: self.source.mask(features, lengths, number),
        )

    def _step(self, batch: Prepared, steps_done: int) -> tuple[float, Tensor, Tensor]:
        """One optimiser step; returns learning rate, loss terms and gradient norm."""
        config = self.config
        fraction = self._clock.fraction(self.progress.step)
        lr = learning_rate(
            config.optimizer,
            fraction=fraction,
            steps_done=steps_done,
            warmup_steps=self._warmup_steps,
        )
        weights = LossWeights(
            config.loss.inter, config.loss.phone_at(fraction), config.loss.activity
        )
        total, terms = transcription_loss(
            self._encoder.forward(batch.features), batch.targets, self._counts(batch), weights
        )
        total.backward()
        self._encoder.backward()
        self.parallel.mean_(self.gradient.flat)
        norm = self.gradient.clip(config.optimizer.clip)
        self.optimizer.step(lr)
        self.average.update()
        return lr, terms, norm

    def _counts(self, batch: Prepared) -> Counts:
        if self.parallel.world == 1:
            return batch.counts
        counts = torch.stack(list(batch.counts))
        self.parallel.mean_(counts)
        return Counts(*counts.unbind())

    def _over(self) -> bool:
        steps = self.config.steps
        return self.parallel.any(
            self._stopping
            or self._clock.left_s() <= 0
            or bool(steps and self.progress.step >= steps)
        )

    def _evaluate(self) -> None:
        if self._evaluator is None:
            return
        started = time.monotonic()
        rates, results = self._evaluator.measure(
            self.model, self.average.weights, bf16=self.config.precision == "bf16"
        )
        self._clock.keep_for_end(2 * (time.monotonic() - started) + 5)
        self._say(f"eval step {self.progress.step}  {line(rates)}")
        for result in results[:: max(1, len(results) // 3)][:3]:
            self._say(f"  {result.reference!r} -> {result.hypothesis!r}")

    def _save(self) -> None:
        if not self.parallel.first:
            return
        started = time.monotonic()
        self.progress.elapsed_s = self._elapsed_before_s + self._clock.elapsed_s()
        self.out.mkdir(parents=True, exist_ok=True)
        checkpointing.save_last(
            self.out, self.model, self.average, self.optimizer, self.progress, self._recipe
        )
        checkpointing.save_export(
            self.out,
            self.model,
            self.average,
            to_mapping(self.model.config),
            tokenizer=Path(self.config.tokenizer) if self.config.tokenizer else None,
            notes=to_mapping(self.progress),
        )
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
