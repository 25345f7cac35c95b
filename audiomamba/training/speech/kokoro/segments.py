"""Utterances laid end to end in one long time axis, and instance norms that respect their borders.

A batch is not padded but packed: ``(T, C)`` rows, time first, channels innermost. Utterance i owns
the rows ``rate * [start_i, start_i + frames_i)``, and ``GAP`` frames lie before, between and after.
Every convolution's input is zero in the gaps, and no kernel reaches across one, so each utterance
hears what it would hear alone; nothing is computed for padding, and every batch has the same shape,
for which the convolutions are tuned once.

Two operations serve all norms of the decoder. ``statistics`` reads ``x`` once and gives each
utterance's and channel's affine map (norm, then the style's gain and bias); it can add a residual
on the way. ``activate`` applies that map and an activation, and writes the gaps' zeros.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from audiomamba.errors import ShapeError

__all__ = ["GAP", "Affine", "Segments", "activate", "pack_segments", "statistics"]

# The widest reach is 25 rows, of kernel 11 at dilation 5, where a frame has 20 rows.
GAP = 2  # frames
EPS = 1e-5


@dataclass(frozen=True, slots=True)
class Segments:
    """Where the utterances of a packed batch lie, in frames of 25 ms."""

    starts: Tensor  # (S,) int32
    frames: Tensor  # (S,) int32
    owner: Tensor  # (total,) int64: utterance of a frame; S in the gaps
    longest: int
    total: int

    def rows_owner(self, rate: int, extra: int = 0) -> Tensor:
        """Utterance of each row, ``(rate * total,)``; S in the gaps.

        ``extra`` (0 or 1) rows follow each utterance that count as its own.
        """
        owner = self.owner.repeat_interleave(rate)
        return torch.minimum(owner, owner.roll(1)) if extra else owner


def pack_segments(frames: list[int], total: int, device: torch.device) -> Segments:
    """Lay utterances of the given lengths out in ``total`` frames.

    Raises:
        ShapeError: they do not fit.
    """
    starts, position = [], GAP
    for count in frames:
        starts.append(position)
        position += count + GAP
    if position > total:
        raise ShapeError(f"pack_segments: {position} frames do not fit into {total}")
    owner = torch.full((total,), len(frames), dtype=torch.int64)
    for i, (start, count) in enumerate(zip(starts, frames, strict=True)):
        owner[start : start + count] = i
    pair = torch.tensor([starts, frames], dtype=torch.int32)
    if device.type == "cuda":
        owner, pair = owner.pin_memory(), pair.pin_memory()
    owner, pair = owner.to(device, non_blocking=True), pair.to(device, non_blocking=True)
    return Segments(pair[0], pair[1], owner, max(frames), total)


class Affine(NamedTuple):
    """``x * scale + shift`` for each utterance and channel, ``(S, C)`` float32 both."""

    scale: Tensor
    shift: Tensor


def statistics(
    x: Tensor,
    style: Tensor,
    segments: Segments,
    rate: int,
    *,
    extra: int = 0,
    plus: Tensor | None = None,
    bias: Tensor | None = None,
) -> tuple[Tensor, Affine]:
    """Instance norm over each utterance's own rows, as an affine map still to be applied.

    Args:
        x: ``(rate * total, C)``.
        style: The style's gain less one, and bias, ``(S, 2 C)`` float32.
        segments: Layout of the batch.
        rate: Rows a frame.
        extra: Rows after the last frame that belong to the utterance, 0 or 1.
        plus: Added to ``x`` first, ``(rate * total, C)``.
        bias: Added to ``x`` as well, ``(C,)`` float32.

    Returns:
        ``x`` (or the sum, in ``x``'s dtype) and the map.
    """
    if x.shape[0] != rate * segments.total or style.shape[1] != 2 * x.shape[1]:
        raise ShapeError(
            f"statistics: x {tuple(x.shape)} wants {rate * segments.total} rows "
            f"and style (S, {2 * x.shape[1]}), got {tuple(style.shape)}"
        )
    if x.is_cuda:
        from audiomamba.training.speech.kokoro import fused

        return fused.statistics(x, style, segments, rate, extra=extra, plus=plus, bias=bias)
    if plus is not None:
        total = x.float() + plus.float()
        x = (total if bias is None else total + bias).to(x.dtype)
    owner = segments.rows_owner(rate, extra)
    S, C = style.shape[0], x.shape[1]
    value = torch.where(owner[:, None] < S, x.float(), 0.0)
    count = (segments.frames * rate + extra).float()[:, None]
    mean = value.new_zeros(S + 1, C).index_add_(0, owner, value)[:S] / count
    centred = value - torch.cat([mean, mean.new_zeros(1, C)])[owner]
    variance = centred.new_zeros(S + 1, C).index_add_(0, owner, centred**2)[:S] / count
    gain, offset = style.chunk(2, 1)
    scale = (1 + gain) * torch.rsqrt(variance + EPS)
    return x, Affine(scale, offset - mean * scale)


def activate(
    x: Tensor,
    affine: Affine | None,
    segments: Segments,
    rate: int,
    *,
    extra: int = 0,
    slope: float = 0.0,
    alpha: Tensor | None = None,
    factor: float = 1.0,
) -> Tensor:
    """Affine map, activation, and zeros in the gaps.

    Args:
        x: ``(rate * total, C)``.
        affine: What ``statistics`` gave; None: no norm.
        segments: Layout of the batch.
        rate: Rows a frame.
        extra: As in ``statistics``.
        slope: Of the leaky ReLU, where ``alpha`` is None.
        alpha: ``(C,)`` float32 for snake, ``y + sin(alpha y)**2 / alpha``.
        factor: Multiplies ``x`` first.

    Returns:
        ``(rate * total, C)`` in ``x``'s dtype. Rows after the last gap are not defined.
    """
    if x.is_cuda:
        from audiomamba.training.speech.kokoro import fused

        return fused.activate(
            x, affine, segments, rate, extra=extra, slope=slope, alpha=alpha, factor=factor
        )
    owner = segments.rows_owner(rate, extra)
    S = len(segments.starts)
    y = x.float() * factor
    if affine is not None:
        inside = owner.clamp(max=S - 1)
        y = y * affine.scale[inside] + affine.shift[inside]
    bent = torch.where(y > 0, y, slope * y) if alpha is None else _snake(y, alpha)
    return torch.where(owner[:, None] < S, bent, 0.0).to(x.dtype)


def _snake(y: Tensor, alpha: Tensor) -> Tensor:
    return y + torch.sin(alpha * y) ** 2 / alpha
