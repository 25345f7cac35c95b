"""Sums of a run that stay on the device, and the line they become every few seconds."""

import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["Meter"]


class Meter:
    """Collects losses without synchronising; reads them when a line is due.

    Args:
        terms: Names of the losses of a step.
        device: Where losses are.
        every_s: Wall seconds from one line to the next.
    """

    def __init__(self, terms: Sequence[str], device: torch.device, every_s: float) -> None:
        self._terms, self._device, self._every_s = terms, device, every_s
        self._sums = torch.zeros(len(terms) + 2, device=device)
        self._steps, self._audio_s = 0, 0.0
        self._since = time.monotonic()

    def add(self, terms: Tensor, norm: Tensor, audio_s: float) -> None:
        """Take in one step: its terms ``(n,)``, the gradient's norm, the audio it saw."""
        lost = ~norm.isfinite()
        tail = torch.stack([norm.masked_fill(lost, 0.0), lost.float()])
        self._sums += torch.cat([terms.nan_to_num(0.0, 0.0, 0.0), tail])
        self._steps += 1
        self._audio_s += audio_s

    def due(self) -> bool:
        """Whether a line should be written."""
        return self._steps > 0 and time.monotonic() - self._since >= self._every_s

    def line(self, *, step: int, audio_s: float, lr: float, left_s: float) -> str:
        """What happened since the last line; begins anew."""
        *sums, norm, lost = (value / self._steps for value in self._sums.tolist())
        now = time.monotonic()
        took = now - self._since
        parts = [f"step {step}"]
        parts += [f"{name} {value:.3f}" for name, value in zip(self._terms, sums, strict=True)]
        parts += [
            f"norm {norm:.2f}",
            f"lr {lr:.2e}",
            f"{1000 * took / self._steps:.1f} ms",
        ]
        if audio_s:
            parts += [f"{audio_s / 3600:.1f} h", f"{self._audio_s / took:.0f}x"]
        if lost:
            parts.append(f"lost {round(lost * self._steps)}")
        if self._device.type == "cuda":
            parts.append(f"{torch.cuda.max_memory_reserved(self._device) / 2**30:.1f} GiB")
        if math.isfinite(left_s):
            parts.append(f"left {max(left_s, 0):.0f} s")
        self._sums.zero_()
        self._steps, self._audio_s, self._since = 0, 0.0, now
        return "  ".join(parts)
