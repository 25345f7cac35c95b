"""Tensors as the native library reads and writes them: where they lie, in float32."""

import ctypes
import sys
from typing import Final, overload

import torch
from torch import Tensor

from audiomamba.kernels import native

__all__ = [
    "address",
    "copy_back",
    "fresh",
    "packed",
    "runs",
    "sequence",
    "wide",
    "written",
    "written_packed",
]

LARGE: Final = 32 << 20  # bytes; what is larger is new memory every time, by glibc's malloc
HUGE_PAGE: Final = 2 << 20  # bytes, on x86-64 and on ARM with small pages of 4 KiB
MADV_HUGEPAGE: Final = 14  # of Linux's <sys/mman.h>
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


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


def fresh(x: Tensor) -> Tensor:
    """A tensor that nobody has written to yet, itself; large ones in huge pages where they are.

    Pages of new memory come as they are first written. Of 4 KiB each, that takes longer than an op
    that reads and writes every value once. Numpy asks likewise, PyTorch only if told.
    """
    if _libc is not None and x.nbytes >= LARGE:
        memory = x.untyped_storage()
        start = -(-memory.data_ptr() // HUGE_PAGE) * HUGE_PAGE
        end = (memory.data_ptr() + memory.nbytes()) // HUGE_PAGE * HUGE_PAGE
        # Advice: where it is not taken, pages are small.
        _libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), MADV_HUGEPAGE)
    return x


def written(x: Tensor) -> Tensor:
    """A float32 tensor to write ``x`` to: itself, or one that ``copy_back`` rounds into it."""
    return fresh(x if x.dtype == torch.float32 else torch.empty_like(x, dtype=torch.float32))


def written_packed(x: Tensor) -> Tensor:
    """The same for a tensor that is written with its axes in order in memory."""
    if x.dtype == torch.float32 and x.is_contiguous():
        return fresh(x)
    return fresh(torch.empty(x.shape, dtype=torch.float32))


def copy_back(x: Tensor, wide: Tensor) -> None:
    """Round what was written for ``x`` into it."""
    if wide is not x:
        x.copy_(wide)
