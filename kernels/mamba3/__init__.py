"""The recurrence of Mamba-3: a state that turns, driven by this sample and the one before it.

``mamba3`` runs whole sequences or chunks and has gradients; ``mamba3_step_`` advances rows of a
pool by one step in place. README.md has the equations.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from audiomamba.errors import ShapeError
from audiomamba.kernels.dispatch import frame_by_frame, pick
from audiomamba.kernels.mamba3 import chunked, op, reference

__all__ = ["Mamba3State", "mamba3", "mamba3_step_"]


class Mamba3State(NamedTuple):
    """All that a sequence needs to go on; B rows, or the slots of a pool."""

    turns: Tensor  # (B, H, R): running angles in turns, in [0, 1)
    state: Tensor  # (B, H, P, N)
    key: Tensor  # (B, H, N): the last turned B
    value: Tensor  # (B, H, P): the last x


def mamba3(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    mix: Tensor,
    angle: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    initial_state: Mamba3State | None = None,
    resets: Tensor | None = None,
    implementation: str | None = None,
) -> tuple[Tensor, Mamba3State]:
    """Run the recurrence over ``T`` steps, any ``T`` including 0.

    Args:
        x: Input, ``(B, T, H, P)``, P <= 256, float32, bfloat16 or float16 (float64 off the GPU).
        delta: Step size before bias and softplus, ``(B, T, H)``.
        A: Decay before its softplus, ``(B, T, H)``.
        mix: Weight of this sample against the last before its sigmoid, ``(B, T, H)``.
        angle: Angular speed before its tanh, ``(B, T, R)``, R <= N / 2, for all heads.
        B: Input weights, normed and with their bias, ``(B, T, H, N)``, N <= 256.
        C: Output weights, likewise.
        D: Skip weights, ``(H,)``.
        z: Gate before silu, ``(B, T, H, P)``.
        delta_bias: Added to ``delta``, ``(H,)``.
        initial_state: A state of B rows; that before the first sample if None.
        resets: ``(B, T)`` bool; where true a new sequence starts.
        implementation: ``reference``, ``cpu`` or ``gpu``; None picks by device.

    Returns:
        Output ``(B, T, H, P)`` in the dtype of ``x``, and the state after it, float32 (float64 if
        ``x`` is).

    Raises:
        ShapeError: a tensor does not have the shape or dtype named here.
        BackendError: the implementation cannot run on this device.

    Source: the single-input form of Mamba-3 as mamba-ssm 2.3 has it.
    """
    name = pick("mamba3", x.device, implementation)
    if x.ndim != 4:
        raise ShapeError(f"mamba3: x wants 4 axes (B, T, H, P), got {tuple(x.shape)}")
    leading = (x.shape[0], x.shape[1])
    _check("mamba3", leading, x, delta, A, mix, angle, B, C, D, z, delta_bias)
    if initial_state is None:
        initial_state = _first_state(x, angle, B)
    _check_state("mamba3: initial_state", x.shape[0], initial_state, x, angle, B)
    if resets is not None and (resets.shape != leading or resets.dtype != torch.bool):
        raise ShapeError(
            f"mamba3: resets wants {leading} bool, got {tuple(resets.shape)} {resets.dtype}"
        )
    run = reference.mamba3 if name == "reference" else chunked.mamba3
    out, state = run(x, delta, A, mix, angle, B, C, D, z, delta_bias, initial_state, resets, name)
    return out, Mamba3State(*state)


def mamba3_step_(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    mix: Tensor,
    angle: Tensor,
    B: Tensor,
    C: Tensor,
    pool: Mamba3State,
    slots: Tensor,
    *,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    implementation: str | None = None,
) -> Tensor:
    """Take one step, or T, for M rows whose states are rows ``slots`` of ``pool``, in place.

    T steps of one call give what T calls give; a GPU reads and writes the states once.

    Slot 0 is the null slot: several rows may name it, its content means nothing. Other slots
    occur once in a call. Rows of the pool that are not named stay bitwise as they are.

    Args:
        x, z: ``(M, H, P)``; delta, A, mix: ``(M, H)``; angle: ``(M, R)``; B, C: ``(M, H, N)``; for
            T steps all have a T behind the M. Several frames of a bfloat16 pool round its states
            once.
        pool: A state of R rows, each tensor contiguous, float32 or narrower.
        slots: ``(M,)`` int32 or int64. Its values are not checked on a GPU.

    Returns:
        Output of the shape and dtype of ``x``. There is no gradient.

    Raises:
        ShapeError: a tensor does not have the shape or dtype named here.
        BackendError: the implementation cannot run on this device.
    """
    name = pick("mamba3_step_", x.device, implementation)
    if x.ndim not in (3, 4):
        raise ShapeError(f"mamba3_step_: x wants (M, H, P) or (M, T, H, P), got {tuple(x.shape)}")
    rows, leading = (x.shape[0],), tuple(x.shape[:-2])
    _check("mamba3_step_", leading, x, delta, A, mix, angle, B, C, D, z, delta_bias)
    _check_state("mamba3_step_: pool", pool.turns.shape[0], pool, x, angle, B)
    for key, tensor in zip(pool._fields, pool, strict=True):
        if not tensor.is_contiguous():
            raise ShapeError(f"mamba3_step_: pool.{key} wants contiguous memory")
    if slots.shape != rows or slots.dtype not in (torch.int32, torch.int64):
        raise ShapeError(
            f"mamba3_step_: slots wants {rows} int32 or int64, "
            f"got {tuple(slots.shape)} {slots.dtype}"
        )
    inputs = (x, delta, A, mix, angle, B, C, *pool, slots, D, z, delta_bias, name)
    if name != "reference":
        out: Tensor = op.mamba3_step_(*inputs)
        return out
    if x.ndim == 3:
        return reference.mamba3_step_(*inputs)
    return frame_by_frame(reference.mamba3_step_, inputs, (*range(7), op.STEP_GATE))


def _first_state(x: Tensor, angle: Tensor, B: Tensor) -> Mamba3State:
    rows, _, heads, width = x.shape
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    shapes = ((angle.shape[2],), (width, B.shape[3]), (B.shape[3],), (width,))
    return Mamba3State(*(x.new_zeros((rows, heads, *shape), dtype=wide) for shape in shapes))


def _check(
    who: str,
    leading: tuple[int, ...],
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    mix: Tensor,
    angle: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
) -> None:
    heads = x.shape[-2]
    if not x.is_floating_point():
        raise ShapeError(f"{who}: x wants a floating dtype, got {x.dtype}")
    per_head = (*leading, heads)
    states = B.shape[-1]
    wanted: dict[str, tuple[Tensor | None, tuple[int, ...]]] = {
        "delta": (delta, per_head),
        "A": (A, per_head),
        "mix": (mix, per_head),
        "B": (B, (*per_head, states)),
        "C": (C, (*per_head, states)),
        "D": (D, (heads,)),
        "z": (z, tuple(x.shape)),
        "delta_bias": (delta_bias, (heads,)),
    }
    for name, (tensor, shape) in wanted.items():
        if tensor is not None and tensor.shape != shape:
            raise ShapeError(f"{who}: {name} wants {shape}, got {tuple(tensor.shape)}")
    if angle.shape[:-1] != leading or not 0 < 2 * angle.shape[-1] <= states:
        raise ShapeError(
            f"{who}: angle wants {(*leading, 'R')}, 0 < R <= {states} / 2, got {tuple(angle.shape)}"
        )


def _check_state(
    who: str, rows: int, state: Mamba3State, x: Tensor, angle: Tensor, B: Tensor
) -> None:
    heads, width = x.shape[-2:]
    shapes = ((angle.shape[-1],), (width, B.shape[-1]), (B.shape[-1],), (width,))
    for name, tensor, shape in zip(state._fields, state, shapes, strict=True):
        if tensor.shape != (rows, heads, *shape):
            raise ShapeError(
                f"{who}.{name} wants {(rows, heads, *shape)}, got {tuple(tensor.shape)}"
            )
