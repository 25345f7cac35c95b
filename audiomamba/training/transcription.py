"""Learning to transcribe: features, CTC and the heads beside it."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from audiomamba.audio.features import FeatureConfig
from audiomamba.config import to_mapping
from audiomamba.models.transcriber import Transcriber
from audiomamba.training.config import TrainConfig
from audiomamba.training.encoder import Encoder
from audiomamba.training.evaluation import Evaluator
from audiomamba.training.gradients import FlatGradient
from audiomamba.training.losses import TERMS, Counts, LossWeights, transcription_loss
from audiomamba.training.parallel import Parallel
from audiomamba.training.prefetch import Prepared
from audiomamba.training.preparation import SoundBatch, feature_statistics, prepare
from audiomamba.training.word_errors import line

__all__ = ["BatchSource", "Transcription"]


class BatchSource(Protocol):
    """Where batches come from: the same number always gives the same batch."""

    def batch(self, number: int) -> SoundBatch:
        """Batch ``number``, from 0; safe to call from one thread that is not the caller's own."""
        ...

    def augment_features(self, features: Tensor, config: FeatureConfig, number: int) -> Tensor:
        """Features ``(B, F, bins)`` of batch ``number`` in other voices, with parts hidden."""
        ...


class Transcription:
    """See :class:`~audiomamba.training.objective.Objective`.

    Args:
        model: A transcriber on the device of ``parallel``.
        source: Its batches.
        config: How.
        parallel: This process among the others.
        evaluator: Word error rates while training; None for none.
    """

    terms: Sequence[str] = TERMS

    def __init__(
        self,
        model: Transcriber,
        source: BatchSource,
        config: TrainConfig,
        parallel: Parallel,
        *,
        evaluator: Evaluator | None = None,
    ) -> None:
        self.model, self.source, self.config, self.parallel = model, source, config, parallel
        self._evaluator = evaluator if parallel.first else None

    @property
    def evaluate_every_s(self) -> float:
        return self.config.evaluation.every_s

    @property
    def description(self) -> dict[str, Any]:
        return {"kind": "transcriber", "model": to_mapping(self.model.config)}

    @property
    def files(self) -> dict[str, Path]:
        tokenizer = self.config.tokenizer
        return {"tokenizer.model": Path(tokenizer)} if tokenizer else {}

    def attach(self, gradient: FlatGradient, alone: AbstractContextManager[object]) -> None:
        self._encoder = Encoder(self.model, gradient, self.config, alone)

    def begin(self) -> None:
        if self.model.config.front_end == "waveform":
            return  # the logarithm is what levels samples
        mean, std = feature_statistics(
            self._sound, self.model.config.features, self.config.statistics_batches, self.parallel
        )
        self.model.set_feature_statistics(mean, std)

    def batch(self, step: int) -> Prepared:
        number = self._number(step)
        heard = self.model.config.features
        return prepare(
            self.source.batch(number),
            heard,
            augment=lambda features: self.source.augment_features(features, heard, number),
            views=2 if self.config.loss.consistency else 1,
        )

    def step(self, batch: Prepared, fraction: float) -> Tensor:
        loss = self.config.loss
        weights = LossWeights(loss.inter, loss.phone_at(fraction), loss.activity, loss.consistency)
        total, terms = transcription_loss(
            self._encoder.forward(batch.features), batch.targets, self._counts(batch), weights
        )
        total.backward()
        self._encoder.backward()
        return terms

    def evaluate(self, weights: dict[str, Tensor]) -> list[str]:
        if self._evaluator is None:
            return []
        rates, results = self._evaluator.measure(
            self.model, weights, bf16=self.config.precision == "bf16"
        )
        shown = results[:: max(1, len(results) // 3)][:3]
        return [line(rates), *(f"  {r.reference!r} -> {r.hypothesis!r}" for r in shown)]

    def _sound(self, step: int) -> SoundBatch:
        return self.source.batch(self._number(step))

    def _number(self, step: int) -> int:
        return step * self.parallel.world + self.parallel.rank

    def _counts(self, batch: Prepared) -> Counts:
        if self.parallel.world == 1:
            return batch.counts
        counts = torch.stack(list(batch.counts))
        self.parallel.mean_(counts)
        return Counts(*counts.unbind())
