"""The selective scan on a GPU: memory, grid and block sizes for the kernels of ``registers``,
``backward``, ``pieces`` and ``frames``.

Few rows of few channels do not fill a GPU, however long they are. Such rows are cut into pieces: a
first run finds the state that each piece alone leaves, a second, short one what each begins with
(the recurrence is linear, so a piece's decay is exp(A times the sum of its step sizes)), and then
pieces go through the same kernels as rows do, side by side. The backward does so from the end.
"""

from typing import Any

import torch
import triton
from torch import Tensor

from audiomamba.kernels.approximate import HAS_APPROXIMATIONS
from audiomamba.kernels.blocks import pick_blocks
from audiomamba.kernels.launching import launch
from audiomamba.kernels.scan.backward import backward_kernel
from audiomamba.kernels.scan.frames import step_kernel
from audiomamba.kernels.scan.op import (
    CHECKPOINT_STEPS,
    empty_checkpoints,
    empty_gradients,
    state_rows,
)
from audiomamba.kernels.scan.pieces import carry_kernel, ends_kernel
from audiomamba.kernels.scan.registers import LONGEST_TILE, forward_kernel

__all__ = ["backward", "forward", "step_"]


def forward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    resets: Tensor | None,
    cu_seqlens: Tensor | None,
    softplus: bool,
    reverse: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the output, the last states and the states kept for ``backward``."""
    rows, steps, channels = u.shape
    piece = _piece(u, A, resets, cu_seqlens, "scan.pieces")
    pieces = max(1, triton.cdiv(steps, piece))
    sequences = state_rows(u, cu_seqlens) * pieces
    groups = B.shape[2]
    B, C = _rows(B), _rows(C)
    out = torch.empty_like(u)
    state = u.new_empty((sequences, *A.shape), dtype=torch.float32)
    if pieces > 1:
        initial_state = _starts(
            u, delta, A, B, None, delta_bias, initial_state, piece, softplus, reverse, False
        )
    checkpoints = empty_checkpoints(u, A, cu_seqlens, save)
    if sequences and channels:
        grid, shape, settings = _plan(u, A, groups, sequences, cu_seqlens, "scan.forward")
        with torch.cuda.device_of(u):
            launch(
                forward_kernel,
                grid,
                u,
                delta,
                _dense(A),
                B,
                C,
                _dense(D),
                z,
                _dense(delta_bias),
                _dense(initial_state),
                _bytes(resets),
                cu_seqlens,
                out,
                state,
                checkpoints if save else None,
                steps,
                piece,
                channels,
                groups,
                *shape,
                *u.stride(),
                *delta.stride(),
                *_strides(z, 3),
                *out.stride(),
                *_strides(resets, 2),
                SOFTPLUS=softplus,
                REVERSE=reverse,
                **settings,
            )
    if pieces > 1:
        state = _of_piece(state, pieces, 0 if reverse else -1).contiguous()
    return out, state, checkpoints


def backward(
    dout: Tensor | None,
    dstate: Tensor | None,
    checkpoints: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    resets: Tensor | None,
    cu_seqlens: Tensor | None,
    softplus: bool,
    reverse: bool,
) -> tuple[Tensor, ...]:
    """Return the gradients of u, delta, A, B, C, D, z, delta_bias and initial_state.

    Sums over rows and over channels are written as partial sums and added afterwards, so that
    two runs agree bitwise.
    """
    rows, steps, channels = u.shape
    # Counted from the end, checkpoints of whole rows and of pieces are at other times.
    table = "scan.pieces" if reverse else "scan.pieces_backward"
    piece = _piece(u, A, resets, cu_seqlens, table)
    pieces = max(1, triton.cdiv(steps, piece))
    sequences = state_rows(u, cu_seqlens) * pieces
    if dout is None:
        dout = torch.zeros_like(u)
    rows_B, rows_C = _rows(B), _rows(C)
    if pieces > 1:
        dstate = _starts(
            dout, delta, A, rows_C, z, delta_bias, dstate, piece, softplus, not reverse, True
        )
    du, ddelta, dz, dh0 = empty_gradients(u, delta, z, initial_state)
    grid, shape, settings = _plan(u, A, B.shape[2], sequences, cu_seqlens, "scan.backward")
    _, tiles_per_group = shape
    # In bfloat16 the parts of a gradient that is itself rounded to it: half the memory, which is
    # the most that the backward takes, for about the error of the gradient's own rounding again.
    kept = torch.bfloat16 if B.dtype == C.dtype == torch.bfloat16 else torch.float32
    dB, dC = u.new_empty((2, tiles_per_group, rows, B.shape[2], steps, B.shape[3]), dtype=kept)
    dA = u.new_empty((sequences, *A.shape), dtype=torch.float32)
    dD, dbias = u.new_empty((2, sequences, channels), dtype=torch.float32)
    state0 = u.new_empty((sequences, *A.shape), dtype=torch.float32)
    tile, width = settings["TILE"], settings["BD"]
    keep = width < 32 * settings["num_warps"]  # lanes hold copies of what a channel needs
    per_program = CHECKPOINT_STEPS // tile * width * (settings["NP"] + 3 * tile * keep)
    scratch = u.new_empty(grid[0] * grid[1] * per_program, dtype=torch.float32)
    if sequences and channels:
        with torch.cuda.device_of(u):
            launch(
                backward_kernel,
                grid,
                dout,
                _dense(dstate),
                checkpoints,
                u,
                delta,
                _dense(A),
                rows_B,
                rows_C,
                _dense(D),
                z,
                _dense(delta_bias),
                _bytes(resets),
                cu_seqlens,
                du,
                ddelta,
                dz,
                dA,
                dB,
                dC,
                dD,
                dbias,
                None if initial_state is None else state0,
                scratch,
                steps,
                piece,
                channels,
                B.shape[2],
                *shape,
                rows,
                *dout.stride(),
                *u.stride(),
                *delta.stride(),
                *_strides(z, 3),
                *du.stride(),
                *ddelta.stride(),
                *_strides(dz, 3),
                *_strides(resets, 2),
                SOFTPLUS=softplus,
                REVERSE=reverse,
                KEEP=keep,
                **settings,
            )
    if initial_state is not None:
        dh0.copy_(_of_piece(state0, pieces, -1 if reverse else 0))
    return (
        du,
        ddelta,
        _total(dA, A),
        _total(dB.transpose(2, 3), B),
        _total(dC.transpose(2, 3), C),
        _total(dD, D),
        dz,
        _total(dbias, delta_bias),
        dh0,
    )


def step_(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    pool: Tensor,
    slots: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    softplus: bool,
) -> Tensor:
    """Advance rows ``slots`` of ``pool`` by one frame, or T, and return the output."""
    rows, channels = u.shape[0], u.shape[-1]
    frames = u.shape[1] if u.ndim == 3 else 1
    out = torch.empty_like(u)
    if rows and channels and frames:
        NP = triton.next_power_of_2(A.shape[1])
        groups = B.shape[-2]
        per_group = channels // groups
        row = pick_blocks("scan.step", u.device, rows=rows)
        most = row["channels"]
        BD = max(1, min(most, most * 16 // NP, triton.next_power_of_2(per_group)))
        tiles_per_group = triton.cdiv(per_group, BD)
        with torch.cuda.device_of(u):
            launch(
                step_kernel,
                (groups * tiles_per_group, rows),
                u,
                delta,
                _dense(A),
                B,
                C,
                pool,
                slots,
                _dense(D),
                z,
                _dense(delta_bias),
                out,
                frames,
                channels,
                per_group,
                tiles_per_group,
                *_framed(u, 3),
                *_framed(delta, 3),
                *_framed(z, 3),
                *_framed(out, 3),
                *_framed(B, 4),
                *_framed(C, 4),
                *pool.stride(),
                *slots.stride(),
                N=A.shape[1],
                NP=NP,
                BD=BD,
                SOFTPLUS=softplus,
                MANY=frames > 1,
                **row.settings,
            )
    return out


def _framed(x: Tensor | None, axes: int) -> tuple[int, ...]:
    """Strides of a block of frames; a single one has no axis of time."""
    if x is None:
        return (0,) * axes
    row, *rest = x.stride()
    return (row, *rest) if x.ndim == axes else (row, 0, *rest)


def _plan(
    u: Tensor,
    A: Tensor,
    groups: int,
    sequences: int,
    cu_seqlens: Tensor | None,
    kernel: str,
) -> tuple[tuple[int, int], tuple[int, int], dict[str, Any]]:
    """Return the grid, (channels per group, programs per group), and the constants."""
    _, steps, channels = u.shape
    NP = triton.next_power_of_2(A.shape[1])
    per_group = channels // groups
    row = pick_blocks(kernel, u.device, pairs=sequences * channels, states=NP)
    most, tile = row["channels"], row["steps"]
    warps = row.warps * min(4, max(1, NP // 32))
    BD = max(1, min(most, most * 16 * warps // NP, triton.next_power_of_2(max(per_group, 1))))
    tiles_per_group = triton.cdiv(per_group, BD)
    settings: dict[str, Any] = {
        "N": A.shape[1],
        "NP": NP,
        "BD": BD,
        "TILE": tile,
        "CK": CHECKPOINT_STEPS,
        "WHOLE_D": per_group % BD == 0,
        "WHOLE_T": cu_seqlens is None and steps % LONGEST_TILE.value == 0,
        "FAST": u.dtype != torch.float32 and HAS_APPROXIMATIONS,
        **row.settings,
        "num_warps": warps,
    }
    return (groups * tiles_per_group, sequences), (per_group, tiles_per_group), settings


def _of_piece(states: Tensor, pieces: int, number: int) -> Tensor:
    """Of every row that of one of its pieces."""
    of_rows: Tensor = states.unflatten(0, (-1, pieces))
    return of_rows[:, number]


def _piece(
    u: Tensor, A: Tensor, resets: Tensor | None, cu_seqlens: Tensor | None, table: str
) -> int:
    """Steps of a piece; all where rows are not cut."""
    rows, steps, channels = u.shape
    NP = triton.next_power_of_2(A.shape[1])
    row = pick_blocks(table, u.device, states=NP)
    least = row["least"]
    pairs: int = rows * channels * max(1, NP // 16)
    if resets is not None or cu_seqlens is not None or not 0 < pairs <= row["most"]:
        return max(steps, 1)
    pieces = min(-(-row["pairs"] // pairs), steps // least)
    if pieces < row["pieces"]:
        return max(steps, 1)
    # Whole numbers of checkpoints, so that they lie as those of a row that is not cut.
    return -(-steps // (pieces * CHECKPOINT_STEPS)) * CHECKPOINT_STEPS


def _starts(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,  # or C, as `_rows` makes them
    z: Tensor | None,
    delta_bias: Tensor | None,
    first: Tensor | None,
    piece: int,
    softplus: bool,
    reverse: bool,
    adjoint: bool,
) -> Tensor:
    """What every piece of every row begins with, ``(rows x pieces, D, N)``: its state, or
    (``adjoint``) the gradient of the state after it."""
    rows, steps, channels = x.shape
    pieces = triton.cdiv(steps, piece)
    grid, shape, settings = _plan(x, A, B.shape[1], rows * pieces, None, "scan.forward")
    local = x.new_empty((rows * pieces, *A.shape), dtype=torch.float32)
    starts = torch.empty_like(local)
    total = x.new_empty((rows * pieces, channels), dtype=torch.float32)
    A = A.contiguous()
    with torch.cuda.device_of(x):
        launch(
            ends_kernel,
            grid,
            x,
            delta,
            A,
            B,
            z,
            _dense(delta_bias),
            local,
            total,
            steps,
            piece,
            channels,
            B.shape[1],
            *shape,
            *x.stride(),
            *delta.stride(),
            *_strides(z, 3),
            SOFTPLUS=softplus,
            REVERSE=reverse,
            ADJOINT=adjoint,
            **settings,
        )
        NP = triton.next_power_of_2(A.shape[1])
        BD = max(1, 256 // NP)
        launch(
            carry_kernel,
            (triton.cdiv(channels, BD), rows),
            local,
            total,
            A,
            _dense(first),
            starts,
            pieces,
            channels,
            N=A.shape[1],
            NP=NP,
            BD=BD,
            REVERSE=reverse,
            num_warps=1,
        )
    return starts


def _dense(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.contiguous()


def _rows(x: Tensor) -> Tensor:
    """B or C as the kernels read it, (batch, group, T, N) float32.

    All channels read it again: converted once it costs them neither conversions, of which a
    channel's state would have two a step, nor addresses of other strides.
    """
    rows, steps, groups, states = x.shape
    return x.new_empty((rows, groups, steps, states), dtype=torch.float32).copy_(x.transpose(1, 2))


def _bytes(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.view(torch.uint8)


def _strides(x: Tensor | None, axes: int) -> tuple[int, ...]:
    return (0,) * axes if x is None or x.ndim != axes else x.stride()


def _total(parts: Tensor, like: Tensor | None) -> Tensor:
    if like is None:
        return parts.new_empty(0)
    return parts.sum(0, dtype=torch.float32).to(like.dtype).contiguous()
