"""Muon: momentum whose matrices are orthogonalised, many equal shapes a launch.

Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024 (coefficients
of the iteration); Liu et al., "Muon is Scalable for LLM Training", 2025, section 2.2 (the scale
that makes AdamW's learning rate and weight decay carry over).
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

__all__ = ["Muon", "orthogonalize"]

_A, _B, _C = 3.4445, -4.7750, 2.0315
"""Quintic whose iteration sends singular values in (0, 1] to about 1; steepest at 0."""


def orthogonalize(matrices: Tensor, *, iterations: int = 5) -> Tensor:
    """Nearest semi-orthogonal matrices, roughly: singular values end in about 0.7..1.2.

    Args:
        matrices: ``(n, rows, columns)``; computed in bf16, which suffices for a direction.
        iterations: Of Newton-Schulz.

    Returns:
        ``(n, rows, columns)`` bf16.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    x = x.bfloat16()
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return x.mT if tall else x


class Muon:
    """Steps hidden matrices along their orthogonalised Nesterov momentum.

    Args:
        named: Names and two-dimensional parameters whose ``grad`` is filled before each step. An
            ``in_proj`` is two maps, one below the other, and is turned as two.
        lr: Scalar tensor on the device, read at each step.
        momentum: In [0, 1).
        weight_decay: Decoupled, times the learning rate.
    """

    def __init__(
        self,
        named: Iterable[tuple[str, nn.Parameter]],
        *,
        lr: Tensor,
        momentum: float,
        weight_decay: float,
    ) -> None:
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay
        groups: dict[tuple[int, ...], list[tuple[str, nn.Parameter]]] = {}
        for name, parameter in named:
            maps = 2 if name.endswith("in_proj.weight") else 1
            groups.setdefault((maps, *parameter.shape), []).append((name, parameter))
        self._groups = list(groups.values())
        self._maps = [maps for maps, *_ in groups]
        # One stacked buffer a shape: the whole group is advanced by the same few launches.
        self._buffers = [
            torch.zeros(len(group), *group[0][1].shape, device=group[0][1].device)
            for group in self._groups
        ]

    @torch.no_grad()
    def step(self) -> None:
        """Advance all matrices once."""
        shrink = 1.0 - self.lr * self.weight_decay
        for group, buffer, maps in zip(self._groups, self._buffers, self._maps, strict=True):
            weights: list[Tensor] = [p.data for _, p in group]
            gradient = torch.stack([p.grad for _, p in group if p.grad is not None])
            buffer.lerp_(gradient, 1.0 - self.momentum)
            gradient.lerp_(buffer, self.momentum)
            matrices = gradient.view(maps * len(group), -1, gradient.shape[2])
            scale = 0.2 * math.sqrt(max(matrices.shape[1:]))
            update = orthogonalize(matrices).reshape(buffer.shape).float() * (-scale * self.lr)
            torch._foreach_mul_(weights, shrink)
            torch._foreach_add_(weights, update.unbind())

    def state(self) -> dict[str, Tensor]:
        """Momentum by the parameter's name."""
        return {
            f"{name}.momentum": row
            for group, buffer in zip(self._groups, self._buffers, strict=True)
            for (name, _), row in zip(group, buffer.unbind(), strict=True)
        }

    @torch.no_grad()
    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from a saved :meth:`state`."""
        for name, row in self.state().items():
            row.copy_(state[name])
