"""Tensors as the native library reads and writes them: where they lie, in float32."""

import ctypes
from typing import overload

import torch
from torch import Tensor

from audiomamba.kernels import native

__all__ = [
    "address",
    "copy_back",
    "packed",
    "runs",
    "sequence",
    "wide",
    "written",
    "written_packed",
]


def runs(x: Tensor) -> bool:
    """Whether the library is there and computes as precisely as ``x`` wants it."""
    return x.dtype != torch.float64 and native.why_not() is None


@overload
def wide(x: Tensor) -> Tensor: ...
@overload
def wide(x: Tensor | None) -> Tensor | None: ...
def wide(x: Tensor | None) -> Tensor | None:
    """A sequence in float32, copied where it is not."""
    return None if x is None else x.float()


@overload
def packed(x: Tensor) -> Tensor: ...
@overload
def packed(x: Tensor | None) -> Tensor | None: ...
def packed(x: Tensor | None) -> Tensor | None:
    """A float32 tensor with its axes in order in memory, copied where it is not."""
    return None if x is None else x.float().contiguous()


def address(x: Tensor | None) -> int | None:
    """Of the first element; the caller keeps the tensor."""
    return None if x is None else x.data_ptr()


def sequence(x: Tensor | None) -> native.Sequence:
    """A float32 tensor over ``(B, T, D)`` or ``(B, T, G, N)`` with its N contiguous."""
    if x is None:
        return native.Sequence()
    return native.Sequence(ctypes.c_void_p(x.data_ptr()), *x.stride()[:3])


def written(x: Tensor) -> Tensor:
    """A float32 tensor to write ``x`` to: itself, or one that ``copy_back`` rounds into it."""
    return x if x.dtype == torch.float32 else torch.empty_like(x, dtype=torch.float32)


def written_packed(x: Tensor) -> Tensor:
    """The same for a tensor that is written with its axes in order in memory."""
    if x.dtype == torch.float32 and x.is_contiguous():
        return x
    return torch.empty(x.shape, dtype=torch.float32)


def copy_back(x: Tensor, wide: Tensor) -> None:
    """Round what was written for ``x`` into it."""
    if wide is not x:
        x.copy_(wide)
