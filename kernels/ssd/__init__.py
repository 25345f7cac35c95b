"""State-space duality, the recurrence of Mamba-2: one decay a head, a matrix as state.

``ssd`` runs whole sequences or chunks and has gradients; ``ssd_step_`` advances rows of a state
pool by one step in place. README.md has the equations, the memory traffic and the figures.
"""

import math

import torch
from torch import Tensor

from audiomamba.errors import ShapeError
from audiomamba.kernels.dispatch import frame_by_frame, pick
from audiomamba.kernels.ssd import op, reference

__all__ = ["ssd", "ssd_step_"]

MAX_STATES = 256
MAX_WIDTH = 256
NO_LIMIT = (0.0, math.inf)


def ssd(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    softplus: bool = True,
    delta_limit: tuple[float, float] = NO_LIMIT,
    initial_state: Tensor | None = None,
    resets: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    implementation: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Run the recurrence over ``T`` steps, any ``T`` including 0.

    Args:
        x: Input, ``(B, T, H, P)``, P <= 256, float32, bfloat16 or float16 (float64 off the GPU),
            any strides; the last axis contiguous is fastest.
        delta: Step size before bias and softplus, ``(B, T, H)``.
        A: Continuous decay, ``(H,)``, usually < 0; or the logarithm of each step's decay itself,
            ``(B, T, H)``, and then the step size is the weight of the input alone.
        B: Input weights, ``(B, T, G, N)``, G a divisor of H, N <= 256.
        C: Output weights, ``(B, T, G, N)``.
        D: Skip weights, ``(H,)`` or ``(H, P)``.
        z: Gate before silu, ``(B, T, H, P)``.
        delta_bias: Added to ``delta``, ``(H,)``.
        softplus: Whether the step size is softplus(delta + bias) or delta + bias itself.
        delta_limit: Least and largest step size, 0 <= least; applied after softplus.
        initial_state: ``(B, H, P, N)``, or ``(S, H, P, N)`` with ``cu_seqlens``; zero if None.
        resets: ``(B, T)`` bool; where true the state is zero before that step is taken.
        cu_seqlens: ``(S + 1,)`` int32, ends of S packed sequences, from 0 to T, with B = 1. Its
            values are not checked, as that would wait for the device.
        implementation: ``reference``, ``cpu`` or ``gpu``; None picks by device.

    Returns:
        Output ``(B, T, H, P)`` in the dtype of ``x``, and the last state ``(B, H, P, N)``, or
        ``(S, H, P, N)``, float32 (float64 if ``x`` is).

    Raises:
        ShapeError: a tensor does not have the shape or dtype named here.
        BackendError: the implementation cannot run on this device.

    Source: Dao and Gu, "Transformers are SSMs", 2024, section 6.
    """
    name = pick("ssd", x.device, implementation)
    if x.ndim != 4:
        raise ShapeError(f"ssd: x wants 4 axes (B, T, H, P), got {tuple(x.shape)}")
    leading = (x.shape[0], x.shape[1])
    D = _check("ssd", leading, x, delta, A, B, C, D, z, delta_bias, delta_limit, name)
    rows = leading[0]
    if cu_seqlens is not None:
        if rows != 1 or cu_seqlens.ndim != 1 or cu_seqlens.shape[0] < 2:
            raise ShapeError(
                f"ssd: cu_seqlens wants shape (S + 1,), S >= 1, and a batch of 1, "
                f"got {tuple(cu_seqlens.shape)} and a batch of {rows}"
            )
        if resets is not None:
            raise ShapeError("ssd: resets and cu_seqlens exclude each other; got both")
        if cu_seqlens.dtype not in (torch.int32, torch.int64):
            raise ShapeError(f"ssd: cu_seqlens wants int32, got {cu_seqlens.dtype}")
        rows = cu_seqlens.shape[0] - 1
    state_shape = (rows, *x.shape[2:], B.shape[3])
    if initial_state is not None and initial_state.shape != state_shape:
        raise ShapeError(
            f"ssd: initial_state wants {state_shape}, got {tuple(initial_state.shape)}"
        )
    if resets is not None and (resets.shape != leading or resets.dtype != torch.bool):
        raise ShapeError(
            f"ssd: resets wants {leading} bool, got {tuple(resets.shape)} {resets.dtype}"
        )
    if name == "reference":
        return reference.ssd(
            x,
            delta,
            A,
            B,
            C,
            D=D,
            z=z,
            delta_bias=delta_bias,
            softplus=softplus,
            delta_limit=delta_limit,
            initial_state=initial_state,
            resets=resets,
            cu_seqlens=cu_seqlens,
        )
    inputs = (x, delta, A, B, C, D, z, delta_bias, initial_state)
    save = torch.is_grad_enabled() and any(v is not None and v.requires_grad for v in inputs)
    out, state, _ = op.ssd_forward(*inputs, resets, cu_seqlens, softplus, *delta_limit, save, name)
    return out, state


def ssd_step_(
    x: Tensor,
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
    delta_limit: tuple[float, float] = NO_LIMIT,
    implementation: str | None = None,
) -> Tensor:
    """Take one step, or T, for M rows whose states are rows ``slots`` of ``pool``, in place.

    T steps of one call give what T calls give; a GPU reads and writes the states once.

    Slot 0 is the null slot: several rows may name it, its content means nothing. Other slots
    occur once in a call. Rows of the pool that are not named stay bitwise as they are. A row with a
    negative slot names none, and its output is zero.

    Args:
        x, z: ``(M, H, P)``; delta: ``(M, H)``; A: ``(H,)`` or ``(M, H)``; B, C: ``(M, G, N)``; for
            T steps all that have an M have a T behind it; the others as in ``ssd``. Several frames
            of a bfloat16 pool round its states once.
        pool: ``(R, H, P, N)`` float32 (or bfloat16, float16; float64 off the GPU), any strides.
        slots: ``(M,)`` int32 or int64, below R. Its values are not checked on a GPU.

    Returns:
        Output of the shape and dtype of ``x``. There is no gradient.

    Raises:
        ShapeError: a tensor does not have the shape or dtype named here.
        BackendError: the implementation cannot run on this device.
    """
    name = pick("ssd_step_", x.device, implementation)
    if x.ndim not in (3, 4):
        raise ShapeError(f"ssd_step_: x wants (M, H, P) or (M, T, H, P), got {tuple(x.shape)}")
    rows, leading = (x.shape[0],), tuple(x.shape[:-2])
    D = _check("ssd_step_", leading, x, delta, A, B, C, D, z, delta_bias, delta_limit, name)
    if pool.ndim != 4 or pool.shape[1:] != (*x.shape[-2:], B.shape[-1]):
        raise ShapeError(
            f"ssd_step_: pool wants (R, {x.shape[-2]}, {x.shape[-1]}, {B.shape[-1]}), "
            f"got {tuple(pool.shape)}"
        )
    if slots.shape != rows or slots.dtype not in (torch.int32, torch.int64):
        raise ShapeError(
            f"ssd_step_: slots wants {rows} int32 or int64, got {tuple(slots.shape)} {slots.dtype}"
        )
    if name == "reference":

        def frame(
            x: Tensor, delta: Tensor, B: Tensor, C: Tensor, z: Tensor | None, A: Tensor
        ) -> Tensor:
            return reference.ssd_step_(
                x,
                delta,
                A,
                B,
                C,
                pool,
                slots,
                D=D,
                z=z,
                delta_bias=delta_bias,
                softplus=softplus,
                delta_limit=delta_limit,
            )

        inputs = (x, delta, B, C, z, A)
        if x.ndim == 3:
            return frame(*inputs)
        return frame_by_frame(frame, inputs, range(5 if A.ndim == 1 else 6))
    out: Tensor = op.ssd_step_(
        x, delta, A, B, C, pool, slots, D, z, delta_bias, softplus, *delta_limit, name
    )
    return out


def _check(
    who: str,
    leading: tuple[int, ...],
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_limit: tuple[float, float],
    name: str,
) -> Tensor | None:
    """Check what both functions share and return D as ``(H, P)``."""
    heads, width = x.shape[-2:]
    if not x.is_floating_point():
        raise ShapeError(f"{who}: x wants a floating dtype, got {x.dtype}")
    if name == "gpu" and x.dtype == torch.float64:
        raise ShapeError(f"{who}: the gpu implementation has no float64; use 'reference'")
    if not 1 <= width <= MAX_WIDTH:
        raise ShapeError(f"{who}: x wants a head width in 1…{MAX_WIDTH}, got {tuple(x.shape)}")
    wanted: dict[str, tuple[Tensor | None, tuple[int, ...]]] = {
        "delta": (delta, (*leading, heads)),
        "A": (A, (heads,) if A.ndim == 1 else (*leading, heads)),
        "z": (z, tuple(x.shape)),
        "delta_bias": (delta_bias, (heads,)),
    }
    for key, (tensor, shape) in wanted.items():
        if tensor is not None and tensor.shape != shape:
            raise ShapeError(f"{who}: {key} wants {shape}, got {tuple(tensor.shape)}")
    if B.shape != C.shape:
        raise ShapeError(f"{who}: B and C want one shape, got {tuple(B.shape)}, {tuple(C.shape)}")
    if B.ndim != len(leading) + 2 or B.shape[:-2] != leading:
        raise ShapeError(f"{who}: B and C want {(*leading, 'G', 'N')}, got {tuple(B.shape)}")
    if not 1 <= B.shape[-1] <= MAX_STATES:
        raise ShapeError(f"{who}: B and C want N in 1…{MAX_STATES}, got {tuple(B.shape)}")
    if B.shape[-2] == 0 or heads % B.shape[-2]:
        raise ShapeError(f"{who}: {B.shape[-2]} groups of B and C do not divide {heads} heads")
    if not 0 <= delta_limit[0] <= delta_limit[1]:
        raise ShapeError(f"{who}: delta_limit wants 0 <= least <= largest, got {delta_limit}")
    if D is not None and D.shape not in ((heads,), (heads, width)):
        raise ShapeError(f"{who}: D wants ({heads},) or ({heads}, {width}), got {tuple(D.shape)}")
    return D[:, None].expand(heads, width) if D is not None and D.ndim == 1 else D
