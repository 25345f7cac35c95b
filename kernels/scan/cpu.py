"""The selective scan on a CPU from PyTorch's own operations, without a compiler.

Time is walked in blocks, small enough that a block's decays and states stay in cache; their
memory is allocated once, as touching fresh pages costs more than the arithmetic. Within a block
one fused operation a step is sequential, everything else is done for the whole block. The
backward recomputes a block's states from the one kept before it.

Blocks are in the order of the recurrence, channels last, as PyTorch's loops want a long last
axis: (k, r, G, E) for k steps, r rows and E = D/G channels, states (k, r, G, N, E).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from audiomamba.kernels.scan.op import (
    CHECKPOINT_STEPS,
    empty_checkpoints,
    empty_gradients,
    state_dtype,
    state_rows,
)
from audiomamba.kernels.scan.reference import step_size

__all__ = ["backward", "forward", "step_"]

FORWARD_VALUES: Final = 1 << 18  # of one (k, r, G, N, E) tensor: about the size of L2
BACKWARD_VALUES: Final = 1 << 19  # L3, as k is CHECKPOINT_STEPS there


def _grouped(x: Tensor, axis: int, groups: int) -> Tensor:
    """Split an axis of D channels into (G, E)."""
    split: Tensor = x.unflatten(axis, (groups, -1))
    return split


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows of the batch, the time they span, and where their states and checkpoints lie."""

    rows: slice
    start: int
    end: int
    states: slice
    checkpoints: Tensor  # (r, blocks, D, N), or (r, 0, D, N) if none are kept

    def blocks(self, steps: int, reverse: bool) -> Iterator[slice]:
        """Times of the blocks in the order of the recurrence."""
        for i in range(0, self.end - self.start, steps):
            if reverse:
                yield slice(max(self.start, self.end - i - steps), self.end - i)
            else:
                yield slice(self.start + i, min(self.end, self.start + i + steps))


@dataclass(frozen=True, slots=True)
class _Inputs:
    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    z: Tensor | None
    delta_bias: Tensor | None
    initial_state: Tensor | None
    resets: Tensor | None
    cu_seqlens: Tensor | None
    softplus: bool
    reverse: bool

    def parts(self, checkpoints: Tensor, most_rows: int) -> Iterator[_Part]:
        """Cut the batch into packed sequences, or into slabs of rows."""
        rows, steps, _ = self.u.shape
        if self.cu_seqlens is not None:
            ends = self.cu_seqlens.tolist()
            for i, (start, end) in enumerate(zip(ends[:-1], ends[1:], strict=True)):
                first = start // CHECKPOINT_STEPS + i
                blocks = -(-(end - start) // CHECKPOINT_STEPS)
                own = checkpoints[None, first : first + blocks]
                yield _Part(slice(0, 1), start, end, slice(i, i + 1), own)
        elif rows:
            own = checkpoints.view(rows, -1, *self.A.shape)
            for row in range(0, rows, most_rows):
                slab = slice(row, min(rows, row + most_rows))
                yield _Part(slab, 0, steps, slab, own[slab])

    def decay_rates(self) -> Tensor:
        """A as (G, N, E)."""
        groups = self.B.shape[2]
        return _grouped(self.A.to(state_dtype(self.u)), 0, groups).mT.contiguous()

    def vector(self, x: Tensor | None) -> Tensor | None:
        """(D,) as (G, E)."""
        return None if x is None else _grouped(x, 0, self.B.shape[2])

    def states(self, x: Tensor) -> Tensor:
        """(r, D, N) as (r, G, N, E)."""
        return _grouped(x, 1, self.B.shape[2]).mT

    def first_state(self, part: _Part) -> Tensor:
        """A fresh (r, G, N, E) tensor to start from."""
        if self.initial_state is not None:
            return self.states(self.initial_state[part.states]).to(state_dtype(self.u))
        rows = part.states.stop - part.states.start
        return self.states(self.u.new_zeros((rows, *self.A.shape), dtype=state_dtype(self.u)))

    def block(self, x: Tensor, part: _Part, times: slice) -> Tensor:
        """Cut (k, r, …) out of a (B, T, …) tensor, in the order of the recurrence."""
        x = x[part.rows, times].transpose(0, 1)
        x = x.flip(0) if self.reverse else x
        return x if x.dtype == torch.bool else x.to(state_dtype(self.u))

    def channels(self, x: Tensor, part: _Part, times: slice) -> Tensor:
        """A block of a (B, T, D) tensor as (k, r, G, E)."""
        return _grouped(self.block(x, part, times), 2, self.B.shape[2])

    def starts(self, part: _Part, times: slice) -> Tensor | None:
        """Resets of a block as (k, r, 1, 1, 1)."""
        if self.resets is None:
            return None
        return self.block(self.resets, part, times)[..., None, None, None]

    def put(self, x: Tensor, into: Tensor, part: _Part, times: slice) -> None:
        """Write a block (k, r, …) where ``block`` took it from."""
        x = x.flip(0) if self.reverse else x
        x = x.transpose(0, 1)
        into[part.rows, times] = x.flatten(2) if into.ndim == 3 else x


class _States:
    """The states of one block and how they decay, in memory used again for the next block."""

    def __init__(self, at: _Inputs, steps: int, rows: int) -> None:
        self.rates = at.decay_rates()
        self.values = self.rates.new_empty(steps + 1, rows, *self.rates.shape)
        self.decays = torch.empty_like(self.values[1:])

    def run(
        self, h: Tensor, dt: Tensor, x: Tensor, b: Tensor, starts: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the decays (k, r, G, N, E) and the states before, between and after the steps.

        Args:
            h: State before the block, (r, G, N, E).
            dt: Step sizes, (k, r, G, E).
            x: Step sizes times inputs, (k, r, G, E).
            b: Input weights, (k, r, G, N).
            starts: Resets, (k, r, 1, 1, 1).
        """
        steps, rows = dt.shape[:2]
        values, decays = self.values[: steps + 1, :rows], self.decays[:steps, :rows]
        values[0] = h  # first, as h may be the last of these values
        torch.mul(dt[..., None, :], self.rates, out=decays).exp_()
        torch.mul(x[..., None, :], b[..., None], out=values[1:])
        for i in range(steps):
            h = values[i] if starts is None else values[i].masked_fill(starts[i], 0.0)
            values[i + 1].addcmul_(decays[i], h)
        return decays, values


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
    at = _Inputs(
        u, delta, A, B, C, D, z, delta_bias, initial_state, resets, cu_seqlens, softplus, reverse
    )
    out = torch.empty_like(u)
    state = u.new_empty((state_rows(u, cu_seqlens), *A.shape), dtype=state_dtype(u))
    checkpoints = empty_checkpoints(u, A, cu_seqlens, save)
    rows = max(1, min(u.shape[0], FORWARD_VALUES // max(1, A.numel())))
    steps = FORWARD_VALUES // max(1, rows * A.numel())
    # A power of two, so that checkpoints fall on the ends of blocks.
    steps = min(CHECKPOINT_STEPS, 1 << max(0, steps.bit_length() - 1))
    memory = _States(at, min(steps, u.shape[1]), rows)
    skip, bias = at.vector(D), at.vector(delta_bias)
    for part in at.parts(checkpoints, rows):
        h = at.first_state(part)
        for i, times in enumerate(part.blocks(steps, reverse)):
            if save and i * steps % CHECKPOINT_STEPS == 0:
                at.states(part.checkpoints[:, i * steps // CHECKPOINT_STEPS]).copy_(h)
            x = at.channels(u, part, times)
            dt = step_size(at.channels(delta, part, times), bias, softplus)
            b, c = at.block(B, part, times), at.block(C, part, times)
            _, values = memory.run(h, dt, dt * x, b, at.starts(part, times))
            y = (c[..., None, :] @ values[1:]).squeeze(-2)
            if skip is not None:
                y.addcmul_(skip, x)
            if z is not None:
                y *= functional.silu(at.channels(z, part, times))
            at.put(y, out, part, times)
            h = values[-1]
        at.states(state[part.states]).copy_(h)
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
    """Return the gradients of u, delta, A, B, C, D, z, delta_bias and initial_state."""
    at = _Inputs(
        u, delta, A, B, C, D, z, delta_bias, initial_state, resets, cu_seqlens, softplus, reverse
    )
    dout = torch.zeros_like(u) if dout is None else dout
    du, ddelta, _, dB, dC, _, dz, _, dh0 = empty_gradients(
        u, delta, None, B, C, None, z, None, initial_state
    )
    steps = min(CHECKPOINT_STEPS, u.shape[1])
    rows = max(1, min(u.shape[0], BACKWARD_VALUES // max(1, steps * A.numel())))
    memory = _States(at, steps, rows)
    gradients = torch.empty_like(memory.decays)
    skip, bias = at.vector(D), at.vector(delta_bias)
    dA = torch.zeros_like(memory.rates)
    dD, dbias = (dA.new_zeros((B.shape[2], dA.shape[2])) for _ in range(2))
    for part in at.parts(checkpoints, rows):
        carry = at.states(dA.new_zeros((part.states.stop - part.states.start, *A.shape)))
        if dstate is not None:
            carry = carry + at.states(dstate[part.states])  # gradient of the state after a block
        for i, times in reversed(list(enumerate(part.blocks(CHECKPOINT_STEPS, reverse)))):
            x = at.channels(u, part, times)
            raw = at.channels(delta, part, times)
            dt = step_size(raw, bias, softplus)
            b, c = at.block(B, part, times), at.block(C, part, times)
            starts = at.starts(part, times)
            h = at.states(part.checkpoints[:, i])
            decays, values = memory.run(h, dt, dt * x, b, starts)
            before, after = values[:-1], values[1:]

            dy = at.channels(dout, part, times)
            if z is not None:
                gate = at.channels(z, part, times)
                y = (c[..., None, :] @ after).squeeze(-2)
                y = y if skip is None else y.addcmul_(skip, x)
                slope = torch.sigmoid(gate)
                at.put(dy * y * slope * (1 + gate * (1 - slope)), dz, part, times)
                dy = dy * gate * slope
            at.put((after @ dy[..., None]).squeeze(-1), dC, part, times)

            g = gradients[: decays.shape[0], : decays.shape[1]]
            torch.mul(dy[..., None, :], c[..., None], out=g)
            for k in reversed(range(g.shape[0])):
                carry = torch.mul(decays[k], g[k].add_(carry), out=decays[k])
                if starts is not None:
                    carry = carry.masked_fill(starts[k], 0.0)
            at.put((g @ (dt * x)[..., None]).squeeze(-1), dB, part, times)
            dx = (b[..., None, :] @ g).squeeze(-2)
            # decays were multiplied by g above, so this is the gradient of the log-decays.
            if starts is not None:
                before.masked_fill_(starts, 0.0)
            before *= decays
            dA += (before * dt[..., None, :]).sum((0, 1))
            ddt = (before * memory.rates).sum(-2).addcmul_(dx, x)
            if softplus:
                ddt *= torch.sigmoid(raw if bias is None else raw + bias)
            dbias += ddt.sum((0, 1))
            dD += (dy * x).sum((0, 1))
            at.put(ddt, ddelta, part, times)
            dx *= dt
            at.put(dx if skip is None else dx.addcmul_(dy, skip), du, part, times)
            carry = carry.clone()  # its memory is used again
        if initial_state is not None:
            at.states(dh0[part.states]).copy_(carry)
    return (
        du,
        ddelta,
        dA.mT.reshape(A.shape).to(A.dtype),
        dB,
        dC,
        _like(dD, D),
        dz,
        _like(dbias, delta_bias),
        dh0,
    )


def _like(x: Tensor, vector: Tensor | None) -> Tensor:
    return x.new_empty(0) if vector is None else x.reshape(-1).to(vector.dtype)


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
    """Advance rows ``slots`` of ``pool`` by one step and return the output."""
    wide = state_dtype(u)
    x = u.to(wide)
    dt = step_size(delta.to(wide), delta_bias, softplus)
    groups = B.shape[1]
    drive = _grouped(dt * x, 1, groups)[..., None] * B.to(wide)[:, :, None]
    h = (dt[..., None] * A.to(wide)).exp_()  # (M, D, N)
    h *= pool.index_select(0, slots)
    h += drive.view(h.shape)
    pool.index_copy_(0, slots.long(), h.to(pool.dtype))
    y = (_grouped(h, 1, groups) @ C.to(wide)[..., None]).view(x.shape)
    if D is not None:
        y += D * x
    if z is not None:
        y *= functional.silu(z.to(wide))
    return y.to(u.dtype)
