"""The gradient of a model as one flat tensor: one norm, one clip, one all-reduce a step."""

import torch
from torch import Tensor, nn

__all__ = ["FlatGradient"]

_ALIGN = 64  # elements; keeps every parameter's part on its own cache lines


class FlatGradient:
    """One float32 tensor, whose parts are the parameters' ``grad``.

    The addresses never change, so that captured graphs may write to them.
    """

    def __init__(self, model: nn.Module) -> None:
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        sizes = [-(-p.numel() // _ALIGN) * _ALIGN for p in self.parameters]
        self.flat = torch.zeros(sum(sizes), device=self.parameters[0].device)
        self.parts: list[Tensor] = []
        for part, p in zip(self.flat.split(sizes), self.parameters, strict=True):
            p.grad = part[: p.numel()].view(p.shape)
            self.parts.append(p.grad)

    @torch.no_grad()
    def fill(self, gradients: tuple[Tensor | None, ...]) -> None:
        """Overwrite with ``gradients``, one a parameter; None (unused) becomes zero."""
        pairs = list(zip(self.parts, gradients, strict=True))
        torch._foreach_copy_(
            [part for part, g in pairs if g is not None], [g for _, g in pairs if g is not None]
        )
        for part, g in pairs:
            if g is None:
                part.zero_()

    @torch.no_grad()
    def clip(self, largest: float) -> Tensor:
        """Scale down to norm ``largest`` without synchronising; returns the norm before, a scalar.

        A gradient that is not finite becomes zero, so that one bad batch costs a step and not the
        run; its norm, also returned, tells.
        """
        norm: Tensor = torch.linalg.vector_norm(self.flat)
        scale = (largest / (norm + 1e-6)).clamp(max=1.0)
        self.flat.copy_(torch.where(norm.isfinite(), self.flat * scale, 0.0))
        return norm
