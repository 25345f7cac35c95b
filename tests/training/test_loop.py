"""A run learns, stops in time, and goes on from where it stopped."""

import itertools
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from audiomamba.models.transcriber import Transcriber
from audiomamba.training import loop
from audiomamba.training.config import OptimizerConfig, TrainConfig
from audiomamba.training.loop import Run
from audiomamba.training.parallel import Parallel
from audiomamba.training.schedule import Clock
from audiomamba.training.transcription import Transcription

ALONE = Parallel(0, 1, torch.device("cpu"))


def config(out: Path, steps: int, **more: Any) -> TrainConfig:
    optimizer = OptimizerConfig(lr=3e-3, warmup_steps=3, rewarm_steps=1, decay_share=0.0)
    return TrainConfig(
        out=str(out), steps=steps, device="cpu", precision="float32", statistics_batches=1,
        log_every_s=0.0, optimizer=optimizer, **more,
    )  # fmt: skip


def run(
    model: Transcriber, source: Any, settings: TrainConfig, lines: list[str] | None = None
) -> Run:
    objective = Transcription(model, source, settings, ALONE)
    made = Run(objective, settings, ALONE, say=(lines if lines is not None else []).append)
    made.run()
    return made


def test_the_loss_falls(
    tmp_path: Path, tiny_model: Callable[..., Transcriber], tiny_source: Callable[..., Any]
) -> None:
    lines: list[str] = []
    run(tiny_model(dropout=0.0), tiny_source(), config(tmp_path, 40), lines)
    losses = [float(line.split("ctc")[1].split()[0]) for line in lines if line.startswith("step")]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_a_run_taken_up_again_is_the_run_that_was_not_stopped(
    tmp_path: Path, tiny_model: Callable[..., Transcriber], tiny_source: Callable[..., Any]
) -> None:
    whole = run(tiny_model(), tiny_source(), config(tmp_path / "whole", 6))
    run(tiny_model(), tiny_source(), config(tmp_path / "parts", 3))
    source = tiny_source()
    settings = config(tmp_path / "parts", 6, resume="last")
    settings.optimizer.rewarm_steps = 0
    resumed = run(tiny_model(), source, settings)
    assert resumed.progress.step == whole.progress.step == 6
    assert min(source.asked) == 3
    assert resumed.progress.audio_s == pytest.approx(whole.progress.audio_s)
    for name, tensor in whole.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], tensor, rtol=0.05, atol=0.02)


def test_a_budget_of_time_ends_the_run(
    tmp_path: Path,
    tiny_model: Callable[..., Transcriber],
    tiny_source: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = itertools.count(time.monotonic(), 0.25)  # a busy machine has as many steps as another
    monkeypatch.setattr(loop, "Clock", partial(Clock, now=lambda: next(looks)))
    settings = config(tmp_path, 0, budget_s=8.0, reserve_s=1.0)
    made = run(tiny_model(), tiny_source(), settings)
    assert made.progress.step > 0
    assert (tmp_path / "export" / "config.json").is_file()
    assert (tmp_path / "last").is_dir()
