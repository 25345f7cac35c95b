"""What the loop asks of whatever is trained: batches, a gradient, a measure, a checkpoint."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from audiomamba.training.gradients import FlatGradient

__all__ = ["Batch", "Objective"]


class Batch(Protocol):
    """What one step trains on."""

    @property
    def seconds(self) -> float:
        """Of audio, padding not counted."""
        ...

    def tensors(self) -> Sequence[Tensor]:
        """All of it that may lie on the device."""
        ...


class Objective(Protocol):
    """A model and what it shall learn; the loop owns time, optimiser, average and files."""

    @property
    def model(self) -> nn.Module:
        """What is trained, on its device."""
        ...

    @property
    def terms(self) -> Sequence[str]:
        """Names of what :meth:`step` returns, for the lines of progress."""
        ...

    @property
    def evaluate_every_s(self) -> float:
        """Wall seconds from one evaluation to the next; 0 = only at the end."""
        ...

    @property
    def description(self) -> dict[str, Any]:
        """``config.json`` of the checkpoint: ``kind`` and ``model`` at least."""
        ...

    @property
    def files(self) -> dict[str, Path]:
        """Files that go into the checkpoint beside the weights, by their name there."""
        ...

    def attach(self, gradient: FlatGradient, alone: AbstractContextManager[object]) -> None:
        """Before the first step: where gradients go, and what gives the device to one thread."""
        ...

    def begin(self) -> None:
        """Before a fresh run, not before a resumed one: statistics of the data, for example."""
        ...

    def batch(self, step: int) -> Any:
        """A :class:`Batch`, the same for the same step; called from a thread of its own."""
        ...

    def step(self, batch: Any, fraction: float) -> Tensor:
        """Overwrite the gradient with that of ``batch``; returns the terms, detached.

        ``fraction``: how much of the run is over, 0..1.
        """
        ...

    def evaluate(self, weights: dict[str, Tensor]) -> list[str]:
        """Lines about the model with ``weights`` in the place of its own; none: no measure."""
        ...
