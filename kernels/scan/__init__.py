"""S6, the selective scan of Mamba-1: a diagonal recurrence driven by its input.

``scan`` runs whole sequences or chunks and has gradients; ``scan_step_`` advances rows of a state
pool by one step in place. README.md has the equations, the memory traffic and the figures.
"""

import torch
from torch import Tensor

from audiomamba.errors import ShapeError
from audiomamba.kernels.dispatch import frame_by_frame, pick
from audiomamba.kernels.scan import op, reference

__all__ = ["scan", "scan_step_"]

MAX_STATES = 256


def scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    softplus: bool = True,
    initial_state: Tensor | None = None,
    resets: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    reverse: bool = False,
    implementation: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Run the selective scan over ``T`` steps, any ``T`` including 0.

    Args:
        u: Input, ``(B, T, D)``, float32, bfloat16 or float16 (float64 off the GPU), any strides.
            Fastest on a GPU: a view of time-contiguous ``(B, D, T)`` memory with T a multiple
            of 16; the same goes for ``delta`` and ``z``.
        delta: Step size before bias and softplus, ``(B, T, D)``.
        A: Continuous decay, ``(D, N)``, usually < 0, N <= 256.
        B: Input weights, ``(B, T, G, N)``, G a divisor of D.
        C: Output weights, ``(B, T, G, N)``.
        D: Skip weights, ``(D,)``.
        z: Gate before silu, ``(B, T, D)``.
        delta_bias: Added to ``delta``, ``(D,)``.
        softplus: Whether the step size is softplus(delta + bias) or delta + bias itself.
        initial_state: ``(B, D, N)``, or ``(S, D, N)`` with ``cu_seqlens``; zero if not given.
        resets: ``(B, T)`` bool; where true the state is zero before that step is taken.
        cu_seqlens: ``(S + 1,)`` int32, ends of S packed sequences, from 0 to T, with B = 1. Its
            values are not checked, as that would wait for the device.
        reverse: Whether time runs from T − 1 down to 0.
        implementation: ``reference``, ``cpu`` or ``gpu``; None picks by device.

    Returns:
        Output ``(B, T, D)`` in the dtype and memory order of ``u``, and the last state
        ``(B, D, N)``, or ``(S, D, N)``, float32 (float64 if ``u`` is).

    Raises:
        ShapeError: a tensor does not have the shape or dtype named here.
        BackendError: the implementation cannot run on this device.

    Source: Gu and Dao, "Mamba", 2023, equations 2 and 4 with B discretised by Euler's rule.
    """
    name = pick("scan", u.device, implementation)
    if u.ndim != 3:
        raise ShapeError(f"scan: u wants 3 axes (B, T, D), got {tuple(u.shape)}")
    rows, steps, channels = u.shape
    _check_weights("scan", (rows, steps), channels, A, B, C, delta=delta, z=z)
    _check_vectors("scan", channels, D=D, delta_bias=delta_bias)
    _check_dtype("scan", u, name)
    if cu_seqlens is not None:
        if rows != 1 or cu_seqlens.ndim != 1 or cu_seqlens.shape[0] < 2:
            raise ShapeError(
                f"scan: cu_seqlens wants shape (S + 1,), S >= 1, and a batch of 1, "
                f"got {tuple(cu_seqlens.shape)} and a batch of {rows}"
            )
        if resets is not None:
            raise ShapeError("scan: resets and cu_seqlens exclude each other; got both")
        if cu_seqlens.dtype not in (torch.int32, torch.int64):
            raise ShapeError(f"scan: cu_seqlens wants int32, got {cu_seqlens.dtype}")
        rows = cu_seqlens.shape[0] - 1
    if initial_state is not None and initial_state.shape != (rows, *A.shape):
        raise ShapeError(
            f"scan: initial_state wants {(rows, *A.shape)}, got {tuple(initial_state.shape)}"
        )
    if resets is not None and (resets.shape != u.shape[:2] or resets.dtype != torch.bool):
        raise ShapeError(
            f"scan: resets wants {tuple(u.shape[:2])} bool, "
            f"got {tuple(resets.shape)} {resets.dtype}"
        )
    if name == "reference":
        return reference.scan(
            u,
            delta,
            A,
            B,
            C,
            D=D,
            z=z,
            delta_bias=delta_bias,
            softplus=softplus,
            initial_state=initial_state,
            resets=resets,
            cu_seqlens=cu_seqlens,
            reverse=reverse,
        )
    inputs = (u, delta, A, B, C, D, z, delta_bias, initial_state)
    save = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs)
    out, state, _ = op.scan_forward(*inputs, resets, cu_seqlens, softplus, reverse, save, name)
    return out, state


def scan_step_(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    pool: Tensor,
    slots: Tensor,
    *,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    softplus: bool = True,
    implementation: str | None = None,
) -> Tensor:
    """Take one step, or T, for M rows whose states are rows ``slots`` of ``pool``, in place.

    T steps of one call give what T calls give; a GPU reads and writes the states once.

    Slot 0 is the null slot: several rows may name it, its content means nothing. Other slots
    occur once in a call. Rows of the pool that are not named stay bitwise as they are. A row with a
    negative slot names none, and its output is zero.

    Args:
        u, delta, z: ``(M, D)`` or ``(M, T, D)``; ``B, C``: ``(M, G, N)`` or ``(M, T, G, N)``; the
            others as in ``scan``. Several frames of a bfloat16 pool round its states once.
        pool: ``(R, D, N)`` float32 (or bfloat16, float16; float64 off the GPU), any strides.
        slots: ``(M,)`` int32 or int64, below R. Its values are not checked on a GPU.

    Returns:
        Output of the shape and dtype of ``u``. There is no gradient.

    Raises:
        ShapeError: a tensor does not have the shape or dtype named here.
        BackendError: the implementation cannot run on this device.
    """
    name = pick("scan_step_", u.device, implementation)
    if u.ndim not in (2, 3):
        raise ShapeError(f"scan_step_: u wants (M, D) or (M, T, D), got {tuple(u.shape)}")
    *leading, channels = u.shape
    rows = u.shape[0]
    _check_weights("scan_step_", tuple(leading), channels, A, B, C, delta=delta, z=z)
    _check_vectors("scan_step_", channels, D=D, delta_bias=delta_bias)
    _check_dtype("scan_step_", u, name)
    if pool.shape[1:] != A.shape:
        raise ShapeError(
            f"scan_step_: pool wants (R, {channels}, {A.shape[1]}), got {tuple(pool.shape)}"
        )
    if slots.shape != (rows,) or slots.dtype not in (torch.int32, torch.int64):
        raise ShapeError(
            f"scan_step_: slots wants ({rows},) int32 or int64, "
            f"got {tuple(slots.shape)} {slots.dtype}"
        )
    if name == "reference":

        def frame(u: Tensor, delta: Tensor, B: Tensor, C: Tensor, z: Tensor | None) -> Tensor:
            return reference.scan_step_(
                u, delta, A, B, C, pool, slots, D=D, z=z, delta_bias=delta_bias, softplus=softplus
            )

        timed = (u, delta, B, C, z)
        return frame(*timed) if u.ndim == 2 else frame_by_frame(frame, timed, range(5))
    out: Tensor = op.scan_step_(u, delta, A, B, C, pool, slots, D, z, delta_bias, softplus, name)
    return out


def _check_weights(
    who: str,
    leading: tuple[int, ...],
    channels: int,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    **like_u: Tensor | None,
) -> None:
    for name, x in like_u.items():
        if x is not None and x.shape != (*leading, channels):
            raise ShapeError(f"{who}: {name} wants {(*leading, channels)}, got {tuple(x.shape)}")
    if A.ndim != 2 or A.shape[0] != channels or not 1 <= A.shape[1] <= MAX_STATES:
        raise ShapeError(
            f"{who}: A wants ({channels}, N), N in 1…{MAX_STATES}, got {tuple(A.shape)}"
        )
    states = A.shape[1]
    if B.shape != C.shape:
        raise ShapeError(f"{who}: B and C want one shape, got {tuple(B.shape)}, {tuple(C.shape)}")
    if B.ndim != len(leading) + 2 or B.shape[:-2] != leading or B.shape[-1] != states:
        raise ShapeError(f"{who}: B and C want {(*leading, 'G', states)}, got {tuple(B.shape)}")
    if B.shape[-2] == 0 or channels % B.shape[-2]:
        raise ShapeError(
            f"{who}: {B.shape[-2]} groups of B and C do not divide {channels} channels"
        )


def _check_vectors(who: str, channels: int, **vectors: Tensor | None) -> None:
    for name, x in vectors.items():
        if x is not None and x.shape != (channels,):
            raise ShapeError(f"{who}: {name} wants ({channels},), got {tuple(x.shape)}")


def _check_dtype(who: str, u: Tensor, name: str) -> None:
    if not u.is_floating_point():
        raise ShapeError(f"{who}: u wants a floating dtype, got {u.dtype}")
    if name == "gpu" and u.dtype == torch.float64:
        raise ShapeError(f"{who}: the gpu implementation has no float64; use 'reference'")
