"""Learning whether nobody will speak: a logistic regression a horizon, over frozen frames."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiomamba.config import to_mapping
from audiomamba.training.ends.config import EndsConfig
from audiomamba.training.ends.labels import UNKNOWN
from audiomamba.training.ends.rows import EndsBatch, Rows
from audiomamba.training.gradients import FlatGradient

__all__ = ["KIND", "EndsHead", "Quiet", "nats"]

KIND = "ends"
"""``kind`` in the ``config.json`` of such outputs."""


class EndsHead(nn.Module):
    """Frames ``(B, T, width)`` to logits ``(B, T, horizons)``; named as in a transcriber."""

    def __init__(self, config: EndsConfig) -> None:
        super().__init__()
        self.config = config
        self.ends = nn.Linear(config.width, len(config.horizons_s))

    def forward(self, frames: Tensor) -> Tensor:
        return self.ends(frames)  # type: ignore[no-any-return]


def nats(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean binary cross-entropy of each horizon, ``(horizons,)``, over labels that are known."""
    known = labels != UNKNOWN
    each = F.binary_cross_entropy_with_logits(logits, labels.float(), reduction="none")
    return (each * known).sum((0, 1)) / known.sum((0, 1)).clamp(min=1)


class Quiet:
    """See :class:`~audiomamba.training.objective.Objective`.

    Args:
        model: On its device.
        rows: Its batches.
        held_out: Rows to measure on; None for nothing.
    """

    evaluate_every_s = 0.0
    files: dict[str, Path] = {}

    def __init__(self, model: EndsHead, rows: Rows, held_out: Rows | None) -> None:
        self.model, self._rows, self._held_out = model, rows, held_out
        self.terms: Sequence[str] = [f"{s:g} s" for s in model.config.horizons_s]

    @property
    def description(self) -> dict[str, Any]:
        return {"kind": KIND, "model": to_mapping(self.model.config)}

    def attach(self, gradient: FlatGradient, alone: AbstractContextManager[object]) -> None:
        self._gradient = gradient

    def begin(self) -> None:
        return None

    def batch(self, step: int) -> EndsBatch:
        return self._rows.batch(step)

    def step(self, batch: EndsBatch, fraction: float) -> Tensor:
        each = nats(self.model(batch.frames), batch.labels)
        self._gradient.fill(torch.autograd.grad(each.sum(), self._gradient.parameters))
        return each.detach()

    @torch.no_grad()
    def evaluate(self, weights: dict[str, Tensor]) -> list[str]:
        if self._held_out is None:
            return []
        batches = self._held_out.each()
        labels = torch.cat([batch.labels for batch in batches], 1)
        logits = torch.cat(
            [
                F.linear(batch.frames, weights["ends.weight"], weights["ends.bias"])
                for batch in batches
            ],
            1,
        )
        lines = []
        for k, (seconds, cost) in enumerate(
            zip(self.model.config.horizons_s, nats(logits, labels).tolist(), strict=True)
        ):
            known = labels[..., k] != UNKNOWN
            share = (labels[..., k] == 1)[known].float().mean()
            right = ((logits[..., k] > 0) == (labels[..., k] == 1))[known].float().mean()
            lines.append(
                f"{seconds:g} s: {cost:.3f} nats, {100 * right:.1f} % right "
                f"({100 * share:.1f} % are quiet)"
            )
        return lines
