"""Exponential moving average of the weights: what is evaluated and shipped."""

import torch
from torch import Tensor, nn

__all__ = ["Average"]


class Average:
    """Average of a model's parameters over its last steps.

    The decay warms up as ``(1 + n) / (10 + n)``, so that the random weights of the first steps are
    forgotten at once and a short run has an average of its own length.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.weights: dict[str, Tensor] = {
            name: p.detach().clone() for name, p in model.named_parameters()
        }
        self._sources = [p.detach() for p in model.parameters()]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are now; no copy, no synchronisation."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(list(self.weights.values()), self._sources, 1.0 - decay)

    @torch.no_grad()
    def load(self, weights: dict[str, Tensor], updates: int) -> None:
        """Go on from a saved average."""
        for name, tensor in self.weights.items():
            tensor.copy_(weights[name])
        self.updates = updates
