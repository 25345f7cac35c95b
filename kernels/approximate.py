"""Two instructions of NVIDIA GPUs that Triton has no word for, and the sigmoid by one of them.

They err by about 2^-22, which is far less than 16-bit inputs do. Kernels take them where ``FAST``,
which is never so in the interpreter or on others' GPUs.
"""

from typing import Final

import torch
import triton
import triton.language as tl

from audiomamba.kernels.dispatch import INTERPRETED

__all__ = ["HAS_APPROXIMATIONS", "LOG2E", "log2", "reciprocal", "sigmoid"]

LOG2E = tl.constexpr(1.4426950408889634)
HAS_APPROXIMATIONS: Final = not INTERPRETED and torch.version.hip is None


@triton.jit
def log2(x):
    """Base 2 logarithm of a positive float32; the absolute error is bounded, not the relative."""
    return tl.inline_asm_elementwise(
        "lg2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
    )


@triton.jit
def reciprocal(x):
    """1 / x of a float32 of at least 1, infinity included."""
    return tl.inline_asm_elementwise(
        "rcp.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
    )


@triton.jit
def sigmoid(x, FAST: tl.constexpr = False):
    """Of a float32; exact but for its rounding unless ``FAST``."""
    w = 1.0 + tl.math.exp2(-x * LOG2E)
    return reciprocal(w) if FAST else 1.0 / w
