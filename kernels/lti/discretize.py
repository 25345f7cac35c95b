"""From continuous to sampled systems, in float64: the parameters are few, the powers are many."""

import math
from typing import Final, NamedTuple

import torch
from torch import Tensor

__all__ = ["METHODS", "System", "decay_of", "discretize", "powers", "tables"]

METHODS: Final = ("zoh", "bilinear")
SERIES_BELOW: Final = 1e-4  # |z| under which (eᶻ − 1)/z is summed as a series
LEAST_DECAY: Final = 1e-300  # in place of a bilinear decay of 0, whose logarithm is infinite


class System(NamedTuple):
    """A sampled diagonal system ``h = Ā h + B̄ u``, ``y = 2·Re(C h) + D u``; N pairs a channel.

    Ā is kept as its logarithm, so that its powers are exact for any number of steps.

    Args:
        decay: ``log |Ā|``, ``(D, N)`` float64.
        turns: angle of Ā in turns, ``(D, N)`` float64.
        b: B̄, ``(D, N)`` complex, in the precision the system runs in.
        c: C, ``(D, N)`` complex, likewise.
        skip: D, ``(D,)`` real, likewise, or None.
        exact: Ā itself, ``(D, N)`` complex128, where it was made ahead (``decay_of``); or None.
    """

    decay: Tensor
    turns: Tensor
    b: Tensor
    c: Tensor
    skip: Tensor | None
    exact: Tensor | None = None


def discretize(
    A: Tensor,
    B: Tensor,
    C: Tensor,
    delta: Tensor,
    D: Tensor | None,
    rate: float,
    method: str,
    dtype: torch.dtype,
) -> System:
    """Sample a continuous system with a step of ``delta * rate``.

    Args:
        A: ``(D, N)`` complex, real parts < 0.
        B: ``(D, N)`` complex.
        C: ``(D, N)`` complex.
        delta: ``(D,)`` real, > 0; in seconds where A is in 1/s.
        D: ``(D,)`` or None.
        rate: Factor of ``delta``: the rate trained at over the rate run at.
        method: One of ``METHODS``.
        dtype: Real dtype the system runs in.

    Source: Gu et al., "On the Parameterization and Initialization of Diagonal State Space
    Models", 2022, equations 3 and 4.
    """
    step = (delta.double() * rate)[:, None]
    z = A.to(torch.complex128) * step
    if method == "zoh":
        small = z.abs() < SERIES_BELOW
        safe = torch.where(small, 1.0, z)  # where() alone would let 0/0 into the gradient
        series = 1 + z / 2 * (1 + z / 3 * (1 + z / 4))
        b = torch.where(small, series, (torch.exp(safe) - 1) / safe) * step * B
        log = z
    else:
        b = step / (1 - z / 2) * B
        decay = (1 + z / 2) / (1 - z / 2)
        log = torch.log(torch.where(decay.abs() < LEAST_DECAY, LEAST_DECAY, decay))
    wide = torch.complex128 if dtype == torch.float64 else torch.complex64
    return System(
        log.real,
        log.imag / (2 * math.pi),
        b.to(wide),
        C.to(wide),
        None if D is None else D.to(dtype),
    )


def decay_of(system: System) -> Tensor:
    """Ā, ``(D, N)`` complex128."""
    if system.exact is not None:
        return system.exact
    return torch.polar(torch.exp(system.decay), system.turns * (2 * math.pi))


def tables(system: System) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Ā in float64, B̄, C as ``(D, N, 2)`` reals, and D."""
    b, c = torch.view_as_real(system.b), torch.view_as_real(system.c)
    return torch.view_as_real(decay_of(system)), b, c, system.skip


def powers(system: System, steps: Tensor) -> Tensor:
    """Raise Ā to whole powers.

    Args:
        system: With D channels of N pairs.
        steps: ``(L,)`` integers >= 0.

    Returns:
        ``(D, N, L)`` complex. The angle is multiplied and reduced to half a turn in float64: an
        angle of 10⁴ rad in float32 is good to 1e-3 only.
    """
    length = steps.to(torch.float64)
    turns = system.turns[..., None] * length
    angle = (turns - torch.round(turns).detach()) * (2 * math.pi)
    size = torch.exp(system.decay[..., None] * length)
    return torch.polar(size, angle).to(system.b.dtype)
