"""Learning to go on with a sound: cross-entropy of the next sample, in bits."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audiomamba.config import to_mapping
from audiomamba.models.wave.durations import Durations
from audiomamba.models.wave.model import Wave, WaveState
from audiomamba.models.wave.statistics import SoundStatistics
from audiomamba.nn import map_state
from audiomamba.training.gradients import FlatGradient
from audiomamba.training.parallel import Parallel
from audiomamba.training.wave.batches import Crops, WaveBatch
from audiomamba.training.wave.config import WaveDataConfig, WaveRunConfig
from audiomamba.training.wave.measure import BitsMeter, mean_bits

__all__ = ["Waveform"]

_WARM_UP = 2  # runs before a capture: kernels compile and libraries choose


class Waveform:
    """See :class:`~audiomamba.training.objective.Objective`.

    On a GPU one step, forward and backward, is captured once as a graph and replayed: shapes never
    change. The state that rows hand on lies in tensors of its own, which the step overwrites. A run
    that is taken up in the middle of a row goes on from a fresh state there. Rows are whole periods
    of the pools long, so that every step begins at phase 0.

    Args:
        model: On the device of ``parallel``.
        crops: Its batches.
        data: How they were cut.
        config: How to train.
        parallel: This process among the others.
        meter: Bits on held-out recordings; None or an empty one for none.
        statistics: Of the sound that is trained on, kept in the checkpoint.
        durations: Of the words that are trained on, likewise.
    """

    terms: Sequence[str] = ("bits",)

    def __init__(
        self,
        model: Wave,
        crops: Crops,
        data: WaveDataConfig,
        config: WaveRunConfig,
        parallel: Parallel,
        *,
        meter: BitsMeter | None = None,
        statistics: SoundStatistics | None = None,
        durations: Durations | None = None,
    ) -> None:
        self.model, self._crops, self._config, self._parallel = model, crops, config, parallel
        self._meter = meter if parallel.first else None
        self._statistics, self._durations = statistics or SoundStatistics(), durations
        self._carries = data.carry > 1
        self._bf16 = config.precision == "bf16"
        self._state: WaveState | None = None
        self._graph: _Graph | None = None

    @property
    def evaluate_every_s(self) -> float:
        return self._config.evaluate_every_s

    @property
    def description(self) -> dict[str, Any]:
        sampling = to_mapping(self._config.sampling)
        return {
            "kind": "wave",
            "model": to_mapping(self.model.config),
            "sampling": sampling,
            "statistics": to_mapping(self._statistics),
            **({} if self._durations is None else {"durations": to_mapping(self._durations)}),
        }

    @property
    def files(self) -> dict[str, Path]:
        return {}

    def attach(self, gradient: FlatGradient, alone: AbstractContextManager[object]) -> None:
        self._gradient = gradient
        self._device = gradient.flat.device
        self._alone = alone
        self._graphs = self._config.graphs and self._device.type == "cuda"

    def begin(self) -> None:
        return None

    def batch(self, step: int) -> WaveBatch:
        return self._crops.batch(step)

    def step(self, batch: WaveBatch, fraction: float) -> Tensor:
        if self._carries and (batch.fresh or self._state is None):
            self._forget(len(batch.inputs))
        if not self._graphs:
            return self._learn(batch)
        if self._graph is None:
            with self._alone:
                self._graph = _Graph(self._learn, batch, self._state)
        return self._graph.replay(batch)

    def evaluate(self, weights: dict[str, Tensor]) -> list[str]:
        if not self._meter:
            return []
        self.last_bits = self._meter.measure(self.model, weights, bf16=self._bf16)
        parts = [
            f"told {100 * value:.0f} %" if name == "told" else f"{name} {value:.4f} bits"
            for name, value in self.last_bits.items()
        ]
        return ["  ".join(parts)]

    def _forget(self, rows: int) -> None:
        if self._state is None:
            self._state = self.model.init_state(rows, device=self._device)
        else:
            map_state(lambda t: t.zero_(), self._state)

    def _learn(self, batch: WaveBatch) -> Tensor:
        """Forward and backward; overwrites the gradient, and the state where rows go on."""
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            condition = self.model.condition(batch.labels, batch.speakers)
            logits, state = self.model(batch.inputs, self._state, condition=condition, position=0)
            bits = mean_bits(logits, batch.targets, batch.counted)
        self._gradient.fill(torch.autograd.grad(bits, self._gradient.parameters, allow_unused=True))
        if self._state is not None:
            map_state(lambda t, new: t.copy_(new.detach()), self._state, state)
        return bits.detach()[None]


class _Graph:
    """A captured step: batches are copied in, the terms are read from where they come out."""

    def __init__(self, learn: Any, batch: WaveBatch, state: WaveState | None) -> None:
        self._batch = batch._replace(
            **{name: getattr(batch, name).clone() for name in batch._fields[:5]}
        )
        kept = None if state is None else map_state(torch.clone, state)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                learn(self._batch)
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads go on allocating for themselves: only this one is watched.
        with torch.cuda.graph(self._graph, stream=side, capture_error_mode="thread_local"):
            self._terms: Tensor = learn(self._batch)
        if state is not None:
            map_state(lambda t, old: t.copy_(old), state, kept)

    def replay(self, batch: WaveBatch) -> Tensor:
        for own, new in zip(self._batch.tensors(), batch.tensors(), strict=True):
            own.copy_(new)
        self._graph.replay()
        return self._terms
