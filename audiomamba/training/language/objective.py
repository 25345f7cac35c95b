"""Learning to go on with a text: cross-entropy of the next piece, in nats."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from audiomamba.config import to_mapping
from audiomamba.models.language import LanguageModel
from audiomamba.models.piece_language import KIND
from audiomamba.text.ngram import BOUNDARY
from audiomamba.training.gradients import FlatGradient
from audiomamba.training.language.config import LanguageRunConfig
from audiomamba.training.language.pieces import Pieces
from audiomamba.training.language.rows import Rows, TextBatch
from audiomamba.training.parallel import Parallel

__all__ = ["HeldOut", "NextPiece"]

_MEASURED = 64  # sentences at once


class HeldOut:
    """Sentences that are measured on, each alone.

    Args:
        pieces: Of all of them.
        starts: ``(V,)`` bool, pieces that begin a word.
        device: Where the model is.
    """

    def __init__(self, pieces: Pieces, starts: np.ndarray, device: torch.device) -> None:
        ends = [*np.flatnonzero(pieces == BOUNDARY)[1:].tolist(), len(pieces)]
        begins = [0, *ends[:-1]]
        sentences = sorted(
            (np.append(pieces[a:b], BOUNDARY) for a, b in zip(begins, ends, strict=True)), key=len
        )
        self._sentences, self._device = sentences, device
        self.words = int(starts[pieces].sum())

    @torch.inference_mode()
    def nats_a_word(self, model: LanguageModel, weights: dict[str, Tensor]) -> float:
        """Mean cross-entropy of a word, the sentence's end included, with ``weights``."""
        total = 0.0
        for at in range(0, len(self._sentences), _MEASURED):
            some = self._sentences[at : at + _MEASURED]
            text = torch.full((len(some), max(map(len, some))), BOUNDARY)
            counted = torch.zeros(text.shape)
            for row, sentence in enumerate(some):
                text[row, : len(sentence)] = torch.from_numpy(sentence.astype(np.int64))
                counted[row, : len(sentence)] = 1.0
            text, counted = text.to(self._device), counted.to(self._device)
            logits, _ = functional_call(model, weights, (text[:, :-1],))
            nats = F.cross_entropy(logits.float().mT, text[:, 1:], reduction="none")
            total += float((nats * counted[:, 1:]).sum())
        return total / max(1, self.words)


class NextPiece:
    """See :class:`~audiomamba.training.objective.Objective`.

    Args:
        model: On the device of ``parallel``.
        rows: Its batches.
        config: How to train.
        parallel: This process among the others.
        held_out: What is measured on; None for nothing.
    """

    terms: Sequence[str] = ("nats",)

    def __init__(
        self,
        model: LanguageModel,
        rows: Rows,
        config: LanguageRunConfig,
        parallel: Parallel,
        *,
        held_out: HeldOut | None = None,
    ) -> None:
        self.model, self._rows, self._config = model, rows, config
        self._held_out = held_out if parallel.first else None

    @property
    def evaluate_every_s(self) -> float:
        return self._config.evaluate_every_s

    @property
    def description(self) -> dict[str, Any]:
        return {"kind": KIND, "model": to_mapping(self.model.config)}

    @property
    def files(self) -> dict[str, Path]:
        return {}

    def attach(self, gradient: FlatGradient, alone: AbstractContextManager[object]) -> None:
        self._gradient = gradient

    def begin(self) -> None:
        return None

    def batch(self, step: int) -> TextBatch:
        return self._rows.batch(step)

    def step(self, batch: TextBatch, fraction: float) -> Tensor:
        bf16 = self._config.precision == "bf16"
        with torch.autocast(batch.inputs.device.type, torch.bfloat16, enabled=bf16):
            logits, _ = self.model(batch.inputs, resets=batch.resets)
        nats = F.cross_entropy(logits.float().mT, batch.targets)
        self._gradient.fill(torch.autograd.grad(nats, self._gradient.parameters, allow_unused=True))
        return nats.detach()[None]

    def evaluate(self, weights: dict[str, Tensor]) -> list[str]:
        if self._held_out is None:
            return []
        self.last_nats = self._held_out.nats_a_word(self.model.eval(), weights)
        self.model.train()
        return [f"{self.last_nats:.3f} nats a word, perplexity {math.exp(self.last_nats):.0f}"]
