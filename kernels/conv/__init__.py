"""Depthwise causal convolution over time, with its state (contract).

``y_t = act(bias + Σ_k weight_k · x_{t−K+1+k})``: the last tap lies on the newest sample.
"""

from types import ModuleType

import torch
from torch import Tensor

from audiomamba.errors import ShapeError
from audiomamba.kernels.dispatch import frame_by_frame, pick

__all__ = ["conv", "conv_step_"]

ACTIVATIONS = (None, "silu")


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    activation: str | None = None,
    initial_state: Tensor | None = None,
    resets: Tensor | None = None,
    reverse: bool = False,
    implementation: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Convolve every channel with its own taps, causally.

    Args:
        x: Input, ``(B, T, D)``, any strides, T >= 0. A view of time-contiguous ``(B, D, T)``
            memory is fastest, most of all where T is a multiple of 16.
        weight: Taps, ``(D, K)``, K >= 1; ``weight[:, -1]`` lies on the newest sample.
        bias: ``(D,)`` or None.
        activation: None or ``"silu"``.
        initial_state: The K - 1 inputs before the first, ``(B, K-1, D)``, oldest first; zeros if
            None. Taken in the dtype of ``x``.
        resets: ``(B, T)`` bool; True where a sequence starts: no tap reaches back over it.
        reverse: Run from the last frame to the first; "before" and "newest" follow suit.
        implementation: ``"reference"``, ``"cpu"``, ``"gpu"`` or None for the device's own.

    Returns:
        ``y`` ``(B, T, D)`` in the dtype and memory layout of ``x``, and the state after the last
        frame ``(B, K-1, D)`` in the dtype of ``x``: copies of its inputs, zeros before a reset.
        Both are differentiable.

    Raises:
        ShapeError: a shape or dtype is not the one named here.
        BackendError: the implementation cannot run here.
    """
    if x.ndim != 3 or not x.is_floating_point():
        raise ShapeError(f"conv: x must be (B, T, D) floating, got {tuple(x.shape)} {x.dtype}")
    B, T, D = x.shape
    K = _taps("conv", weight, bias, D, activation)
    if initial_state is not None:
        _want("conv", "initial_state", initial_state, (B, K - 1, D))
        initial_state = initial_state.to(x.dtype)
    if resets is not None:
        _want("conv", "resets", resets, (B, T))
        if resets.dtype != torch.bool:
            raise ShapeError(f"conv: resets must be bool, got {resets.dtype}")
    run = _implementation(pick("conv", x.device, implementation)).conv
    y, state = run(x, weight, bias, initial_state, resets, activation == "silu", reverse)
    return y, state


def conv_step_(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    pool: Tensor,
    slots: Tensor,
    *,
    activation: str | None = None,
    implementation: str | None = None,
) -> Tensor:
    """Advance M streams by one frame, or T; their states lie in rows ``slots`` of ``pool``.

    T frames of one call give what T calls give; a GPU reads and writes the states once.

    Args:
        x: ``(M, D)``, or ``(M, T, D)`` with any T.
        weight: ``(D, K)``.
        bias: ``(D,)`` or None.
        pool: ``(R, K-1, D)``, any floating dtype, updated in place.
        slots: ``(M,)`` int32 or int64, below R. 0 is the null slot: any number of rows may
            name it, and what lies in it means nothing. Other slots are distinct. A row with a
            negative slot names none, and its output is zero.
        activation: None or ``"silu"``.
        implementation: As in ``conv``.

    Returns:
        Of the shape and dtype of ``x``. No gradient flows through a step.

    Raises:
        ShapeError: a shape or dtype is not the one named here.
        BackendError: the implementation cannot run here.
    """
    if x.ndim not in (2, 3) or not x.is_floating_point():
        raise ShapeError(
            f"conv_step_: x must be (M, D) or (M, T, D) floating, got {tuple(x.shape)} {x.dtype}"
        )
    M, D = x.shape[0], x.shape[-1]
    K = _taps("conv_step_", weight, bias, D, activation)
    _want("conv_step_", "pool", pool, (pool.shape[0], K - 1, D))
    _want("conv_step_", "slots", slots, (M,))
    if slots.dtype not in (torch.int32, torch.int64):
        raise ShapeError(f"conv_step_: slots must be int32 or int64, got {slots.dtype}")
    name = pick("conv", x.device, implementation)
    run = _implementation(name).conv_step_
    inputs = (x, weight, bias, pool, slots, activation == "silu")
    y: Tensor = (
        frame_by_frame(run, inputs, (0,)) if name == "reference" and x.ndim == 3 else run(*inputs)
    )
    return y


def _taps(op: str, weight: Tensor, bias: Tensor | None, D: int, activation: str | None) -> int:
    """Check what both functions share and return K."""
    if weight.ndim != 2 or weight.shape[0] != D or weight.shape[1] < 1:
        raise ShapeError(f"{op}: weight must be ({D}, K >= 1), got {tuple(weight.shape)}")
    if bias is not None:
        _want(op, "bias", bias, (D,))
    if activation not in ACTIVATIONS:
        raise ShapeError(f"{op}: activation must be one of {ACTIVATIONS}, got {activation!r}")
    return weight.shape[1]


def _want(op: str, name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise ShapeError(f"{op}: {name} must be {shape}, got {tuple(tensor.shape)}")


def _implementation(name: str) -> ModuleType:
    # Late: importing the package must not load Triton.
    if name == "gpu":
        from audiomamba.kernels.conv import gpu

        return gpu
    if name == "cpu":
        from audiomamba.kernels.conv import cpu

        return cpu
    from audiomamba.kernels.conv import reference

    return reference
