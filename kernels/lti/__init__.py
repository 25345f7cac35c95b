"""S4D, a diagonal linear time-invariant state-space layer (contract).

``x′ = A x + B u``, ``y = 2·Re(C x) + D u``, sampled by zero-order hold or bilinearly.
"""

import math
from types import ModuleType
from typing import Final

import torch
from torch import Tensor

from audiomamba.errors import ShapeError
from audiomamba.kernels.dispatch import pick
from audiomamba.kernels.lti.discretize import METHODS, System, decay_of, discretize

__all__ = ["MODES", "System", "lti", "lti_step_", "sample", "sampled_step_"]

MODES: Final = (None, "conv", "recurrent", "chunked")


def lti(
    u: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    delta: Tensor,
    *,
    D: Tensor | None = None,
    rate: float = 1.0,
    discretization: str = "zoh",
    initial_state: Tensor | None = None,
    resets: Tensor | None = None,
    mode: str | None = None,
    implementation: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Run every channel through its own linear system.

    Args:
        u: Input, ``(B, T, D)``, any strides, T >= 0; views of time-contiguous memory are fastest.
        A: ``(D, N/2)`` complex, real parts < 0: one member of each conjugate pair.
        B: Input weights, ``(D, N/2)`` complex.
        C: Output weights, ``(D, N/2)`` complex.
        delta: Step, ``(D,)`` > 0; seconds where A is in 1/s.
        D: Weight of the input in the output, ``(D,)``, or None.
        rate: Factor of ``delta``: a model trained at f₀ runs on input at f with rate f₀ / f.
        discretization: ``"zoh"`` or ``"bilinear"``.
        initial_state: ``(B, D, N/2, 2)`` float32 (float64 where u is); zeros if None.
        resets: ``(B, T)`` bool; True where a sequence starts: the state before it is dropped.
        mode: ``"conv"`` (FFT; no resets), ``"recurrent"``, ``"chunked"``, or None for the
            fastest on this device at this length. The numbers are the same.
        implementation: ``"reference"``, ``"cpu"``, ``"gpu"`` or None for the device's own.

    Returns:
        ``y`` ``(B, T, D)`` in the dtype of u, and the state after the last frame
        ``(B, D, N/2, 2)`` float32 (float64 where u is). Both are differentiable, in all tensors.

    Raises:
        ShapeError: a shape, dtype or option is not one named here.
        BackendError: the implementation cannot run here.
    """
    if u.ndim != 3 or not u.is_floating_point():
        raise ShapeError(f"lti: u must be (B, T, D) floating, got {tuple(u.shape)} {u.dtype}")
    rows, T, width = u.shape
    _check("lti", width, A, B, C, delta, D, rate, discretization)
    if mode not in MODES:
        raise ShapeError(f"lti: mode must be one of {MODES}, got {mode!r}")
    wide = torch.promote_types(u.dtype, torch.float32)
    if initial_state is not None:
        _want("lti", "initial_state", initial_state, (rows, width, A.shape[1], 2))
        initial_state = initial_state.to(wide)
    if resets is not None:
        _want("lti", "resets", resets, (rows, T))
        if resets.dtype != torch.bool or mode == "conv":
            raise ShapeError(
                f"lti: resets must be bool and mode not 'conv', got {resets.dtype}, {mode!r};"
                " use mode 'chunked' or 'recurrent'"
            )
    chosen = _implementation(pick("lti", u.device, implementation))
    if u.numel() == 0:
        state = u.new_zeros((rows, width, A.shape[1], 2), dtype=wide)
        return u.clone(), state if initial_state is None else initial_state.clone()
    # Autocast would round the powers of Ā to 8 bits.
    with torch.autocast(u.device.type, enabled=False):
        system = discretize(A, B, C, delta, D, rate, discretization, wide)
        y, state = chosen.lti(u, system, initial_state, resets, mode)
    return y, state


def lti_step_(
    u: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    delta: Tensor,
    pool: Tensor,
    slots: Tensor,
    *,
    D: Tensor | None = None,
    rate: float = 1.0,
    discretization: str = "zoh",
    implementation: str | None = None,
) -> Tensor:
    """Advance M streams by one frame; their states lie in rows ``slots`` of ``pool``.

    Args:
        u: ``(M, D)``.
        A: As in ``lti``; so are B, C, delta, D, rate, discretization and implementation.
        B: ``(D, N/2)`` complex.
        C: ``(D, N/2)`` complex.
        delta: ``(D,)``.
        pool: ``(R, D, N/2, 2)``, any floating dtype, updated in place.
        slots: ``(M,)`` int32 or int64, in ``[0, R)``. 0 is the null slot: any number of rows may
            name it, and what lies in it means nothing. Other slots are distinct.
        D: ``(D,)`` or None.
        rate: Factor of ``delta``.
        discretization: ``"zoh"`` or ``"bilinear"``.
        implementation: As in ``lti``.

    Returns:
        ``(M, D)`` in the dtype of u. No gradient flows through a step.

    Raises:
        ShapeError: a shape, dtype or option is not one named here.
        BackendError: the implementation cannot run here.
    """
    if u.ndim != 2 or not u.is_floating_point():
        raise ShapeError(f"lti_step_: u must be (M, D) floating, got {tuple(u.shape)} {u.dtype}")
    _check("lti_step_", u.shape[1], A, B, C, delta, D, rate, discretization)
    wide = torch.promote_types(u.dtype, torch.float32)
    with torch.no_grad(), torch.autocast(u.device.type, enabled=False):
        system = discretize(A, B, C, delta, D, rate, discretization, wide)
    return sampled_step_(u, system, pool, slots, implementation=implementation)


@torch.no_grad()
def sample(
    A: Tensor,
    B: Tensor,
    C: Tensor,
    delta: Tensor,
    *,
    D: Tensor | None = None,
    rate: float = 1.0,
    discretization: str = "zoh",
) -> System:
    """Sample a system once for many calls of ``sampled_step_`` with float32 inputs or narrower.

    Arguments and errors are those of ``lti_step_``. To discretise is some twenty small kernels, a
    step is one.
    """
    _check("sample", A.shape[0], A, B, C, delta, D, rate, discretization)
    with torch.autocast(A.device.type, enabled=False):
        system = discretize(A, B, C, delta, D, rate, discretization, torch.float32)
        return system._replace(exact=decay_of(system))


@torch.no_grad()
def sampled_step_(
    u: Tensor, system: System, pool: Tensor, slots: Tensor, *, implementation: str | None = None
) -> Tensor:
    """``lti_step_`` with a system from ``sample``; rows ``slots`` of ``pool`` advance in place.

    Raises:
        ShapeError: a shape or dtype is not the one named in ``lti_step_``.
        BackendError: the implementation cannot run here.
    """
    pairs = system.b.shape
    if u.ndim != 2 or not u.is_floating_point() or u.shape[1] != pairs[0]:
        raise ShapeError(
            f"lti_step_: u must be (M, {pairs[0]}) floating, got {tuple(u.shape)} {u.dtype}"
        )
    _want("lti_step_", "pool", pool, (pool.shape[0], *pairs, 2))
    _want("lti_step_", "slots", slots, (u.shape[0],))
    if slots.dtype not in (torch.int32, torch.int64):
        raise ShapeError(f"lti_step_: slots must be int32 or int64, got {slots.dtype}")
    chosen = _implementation(pick("lti", u.device, implementation))
    with torch.autocast(u.device.type, enabled=False):
        y: Tensor = chosen.lti_step_(u, system, pool, slots)
    return y


def _check(
    op: str,
    width: int,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    delta: Tensor,
    D: Tensor | None,
    rate: float,
    discretization: str,
) -> None:
    """Check what both functions share."""
    if A.ndim != 2 or A.shape[0] != width or not A.is_complex():
        raise ShapeError(f"{op}: A must be ({width}, N/2) complex, got {tuple(A.shape)} {A.dtype}")
    for name, tensor in (("B", B), ("C", C)):
        _want(op, name, tensor, tuple(A.shape))
        if not tensor.is_complex():
            raise ShapeError(f"{op}: {name} must be complex, got {tensor.dtype}")
    _want(op, "delta", delta, (width,))
    if D is not None:
        _want(op, "D", D, (width,))
    if not (rate > 0 and math.isfinite(rate)):
        raise ShapeError(f"{op}: rate must be positive and finite, got {rate}")
    if discretization not in METHODS:
        raise ShapeError(f"{op}: discretization must be one of {METHODS}, got {discretization!r}")


def _want(op: str, name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise ShapeError(f"{op}: {name} must be {shape}, got {tuple(tensor.shape)}")


def _implementation(name: str) -> ModuleType:
    # Late: importing the package must not load Triton.
    if name == "gpu":
        from audiomamba.kernels.lti import gpu

        return gpu
    if name == "cpu":
        from audiomamba.kernels.lti import cpu

        return cpu
    from audiomamba.kernels.lti import reference

    return reference
