"""Weights of the convolution's kernels and sums of their gradients, in Triton."""

import triton
import triton.language as tl

__all__ = ["load_taps", "store_sums"]


@triton.jit
def load_taps(weight, d, D, swd, swk, K: tl.constexpr):
    """The K taps of channels d, (BD, 1) each."""
    w = ()
    for k in tl.static_range(K):
        w = w + (tl.load(weight + d * swd + k * swk, mask=d < D, other=0.0).to(tl.float32),)
    return w


@triton.jit
def store_sums(
    dweight, dbias, dw, db, first, i_d, D, K: tl.constexpr, BD: tl.constexpr, BIAS: tl.constexpr,
):  # fmt: skip
    """A program's part of the gradients of taps and bias, added up over its frames; ``first`` is
    where the parts like it have channel 0."""
    o = first + i_d * BD + tl.arange(0, BD)
    inside = i_d * BD + tl.arange(0, BD) < D
    for k in tl.static_range(K):
        tl.store(dweight + o * K + k, tl.sum(dw[k], axis=1), mask=inside)
    if BIAS:
        tl.store(dbias + o, tl.sum(db, axis=1), mask=inside)
