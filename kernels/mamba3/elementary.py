"""Functions of one variable that Mamba-3's kernels share, good to the rounding of float32."""

import triton
import triton.language as tl

__all__ = ["half_tanh", "sigmoid", "sin_cos", "softplus"]

LOG2E = tl.constexpr(1.4426950408889634)
TWO_PI = tl.constexpr(6.283185307179586)


@triton.jit
def sigmoid(x):
    return 1.0 / (1.0 + tl.math.exp2(-x * LOG2E))


@triton.jit
def softplus(x):
    # log1p(e) as log(1 + e) plus what the rounding of 1 + e lost.
    e = tl.math.exp2(tl.where(x > 20.0, 20.0, x) * LOG2E)
    w = 1.0 + e
    return tl.where(x > 20.0, x, tl.log(w) + (e - (w - 1.0)) / w)


@triton.jit
def half_tanh(x):
    """tanh(x) / 2; by its series where the difference of exponentials would lose digits."""
    size = tl.abs(x)
    e = tl.math.exp2(size * (-2.0 * LOG2E))
    s = x * x
    series = 1.0 + s * (-1.0 / 3 + s * (2.0 / 15 + s * (-17.0 / 315 + s * (62.0 / 2835))))
    t = tl.where(size < 0.25, size * series, (1.0 - e) / (1.0 + e))
    return 0.5 * tl.where(x < 0.0, -t, t)


@triton.jit
def sin_cos(turns):
    """Of angles in turns, a few at most.

    Series on an eighth of a turn to both sides of each quarter, good to 1e-8. A library's sine
    reduces angles of any size and wants memory for that, which spills.
    """
    quarter = tl.floor(tl.where(turns == turns, turns, 0.0) * 4.0 + 0.5)
    r = (turns - quarter * 0.25) * TWO_PI
    s = r * r
    sin = r * (1.0 + s * (-1.0 / 6 + s * (1.0 / 120 + s * (-1.0 / 5040 + s * (1.0 / 362880)))))
    cos = s * (1.0 / 24 + s * (-1.0 / 720 + s * (1.0 / 40320 - s * (1.0 / 3628800))))
    cos = 1.0 + s * (cos - 0.5)
    i = quarter.to(tl.int32) & 3
    odd = (i & 1) != 0
    from_sin = tl.where(odd, cos, sin)
    from_cos = tl.where(odd, sin, cos)
    return (
        tl.where(i >= 2, -from_sin, from_sin),
        tl.where((i == 1) | (i == 2), -from_cos, from_cos),
    )
