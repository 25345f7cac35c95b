"""Learning to write a piece or nothing, step by step: cross-entropy, in nats."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from audiomamba.config import to_mapping
from audiomamba.models.delayed_streams import NOTHING, DelayedStreams
from audiomamba.training.delayed.config import DelayedRunConfig
from audiomamba.training.delayed.rows import DelayedBatch, Rows
from audiomamba.training.gradients import FlatGradient

__all__ = ["KIND", "NextToken"]

KIND = "delayed_streams"
"""``kind`` in the ``config.json`` of such a head."""


class NextToken:
    """See :class:`~audiomamba.training.objective.Objective`.

    Two steps in three write nothing; the loss of such a step counts ``nothing_weight``. The terms
    shown are those of steps that write a piece and of those that do not, unweighted.

    Args:
        model: On its device.
        rows: Its batches.
        config: How to train.
        tokenizer: Kept beside the weights.
    """

    terms: Sequence[str] = ("piece", "nothing")
    evaluate_every_s = 0.0

    def __init__(
        self, model: DelayedStreams, rows: Rows, config: DelayedRunConfig, tokenizer: Path
    ) -> None:
        self.model, self._rows, self._config = model, rows, config
        self.files = {"tokenizer.model": tokenizer}
        self._weights = torch.ones(model.config.vocabulary, device=next(model.parameters()).device)
        self._weights[NOTHING] = config.nothing_weight

    @property
    def description(self) -> dict[str, Any]:
        return {"kind": KIND, "model": to_mapping(self.model.config)}

    def attach(self, gradient: FlatGradient, alone: AbstractContextManager[object]) -> None:
        self._gradient = gradient

    def begin(self) -> None:
        return None

    def batch(self, step: int) -> DelayedBatch:
        return self._rows.batch(step)

    def step(self, batch: DelayedBatch, fraction: float) -> Tensor:
        bf16 = self._config.precision == "bf16"
        with torch.autocast(batch.encoded.device.type, torch.bfloat16, enabled=bf16):
            logits, _ = self.model(batch.encoded, batch.before, batch.delay)
        logits = logits.float().flatten(0, 1)
        targets = batch.targets.flatten()
        loss = F.cross_entropy(logits, targets, self._weights)
        self._gradient.fill(torch.autograd.grad(loss, self._gradient.parameters, allow_unused=True))
        with torch.no_grad():
            each = F.cross_entropy(logits.detach(), targets, reduction="none")
            nothing = targets == NOTHING
            return torch.stack([each[~nothing].mean(), each[nothing].mean()])

    def evaluate(self, weights: dict[str, Tensor]) -> list[str]:
        return []
