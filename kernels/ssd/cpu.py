"""State-space duality on a CPU: chunks of time as matrix products of PyTorch.

Inside a chunk all pairs of steps are multiplied out, between chunks a state is carried. A reset
ends a chunk, for all rows: a product would let a NaN from before it through. The backward computes
the states before the chunks again and goes through them from the last to the first.

Letters as in the contract, and k steps of a chunk, E = H/G heads of a group. Blocks of x are
(B, G, k, E, P), states (B, G, E·P, N): then B and C, shared by a group's heads, meet all of them
in one product.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from audiomamba.kernels.ssd.op import (
    empty_checkpoints,
    empty_gradients,
    empty_state,
    state_dtype,
)
from audiomamba.kernels.ssd.reference import step_size

__all__ = ["backward", "forward", "step_"]

CHUNK: Final = 64  # steps


@dataclass(frozen=True, slots=True)
class _Inputs:
    x: Tensor
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
    low: float
    high: float

    def sequences(self) -> Iterator[tuple[slice, list[slice]]]:
        """Rows of the states, and the chunks of time that go with them."""
        rows, steps = self.x.shape[:2]
        if self.cu_seqlens is None:
            cuts = {*range(0, steps, CHUNK), steps}
            if self.resets is not None:
                cuts.update(self.resets.any(0).nonzero().flatten().tolist())
            yield slice(0, rows), _spans(sorted(cuts))
            return
        ends = self.cu_seqlens.tolist()
        for i, (start, end) in enumerate(zip(ends[:-1], ends[1:], strict=True)):
            yield slice(i, i + 1), _spans([*range(start, end, CHUNK), end])

    def first_state(self, rows: slice) -> Tensor:
        """A fresh (B, G, E·P, N) tensor to start from."""
        groups, states = self.B.shape[2:]
        shape = (rows.stop - rows.start, groups, -1, states)
        if self.initial_state is not None:
            return self.initial_state[rows].to(state_dtype(self.x)).reshape(shape)
        width = self.x.shape[2] // groups * self.x.shape[3]
        shape = (*shape[:2], width, states)
        return self.x.new_zeros(shape, dtype=state_dtype(self.x))

    def keep(self, state: Tensor, times: slice) -> Tensor:
        """The state, or exact zero in rows where a sequence starts with this chunk."""
        if self.resets is None or times.start == times.stop:
            return state
        return state.masked_fill(self.resets[:, times.start, None, None, None], 0.0)

    def heads(self, x: Tensor, times: slice) -> Tensor:
        """(B, T, H, …) to (B, G, k, E, …)."""
        return _grouped(x[:, times].to(state_dtype(self.x)), 2, self.B.shape[2]).transpose(1, 2)

    def groups(self, x: Tensor, times: slice) -> Tensor:
        """(B, T, G, N) to (B, G, k, N)."""
        return x[:, times].to(state_dtype(self.x)).transpose(1, 2)

    def vector(self, x: Tensor) -> Tensor:
        """(H, …) to (G, 1, E, …), which goes with ``heads``."""
        return _grouped(x.to(state_dtype(self.x)), 0, self.B.shape[2]).unsqueeze(1)


def _grouped(x: Tensor, axis: int, groups: int) -> Tensor:
    """Split an axis of H heads into (G, E)."""
    split: Tensor = x.unflatten(axis, (groups, -1))
    return split


def _spans(cuts: list[int]) -> list[slice]:
    return [slice(a, b) for a, b in zip(cuts[:-1], cuts[1:], strict=True) if a < b]


class _Chunk:
    """What both directions need of one chunk."""

    def __init__(self, at: _Inputs, times: slice) -> None:
        self.x = at.heads(at.x, times)  # (B, G, k, E, P)
        self.b = at.groups(at.B, times)  # (B, G, k, N)
        self.c = at.groups(at.C, times)
        raw = at.heads(at.delta, times)
        self.raw = raw if at.delta_bias is None else raw + at.vector(at.delta_bias)
        self.dt = step_size(self.raw, None, at.softplus, (at.low, at.high))  # (B, G, k, E)
        # Sums in float64: the decay between two steps is the difference of two of them.
        by_step = at.A.ndim == 3
        log = at.heads(at.A, times) if by_step else self.dt * at.vector(at.A)
        sums = log.double().cumsum(2)
        self.since = sums.exp().to(raw.dtype)[..., None]  # from before the chunk to each step
        self.until = (sums[:, :, -1:] - sums).exp().to(raw.dtype)[..., None]  # from each to the end
        self.whole = self.since[:, :, -1, :, :, None]  # (B, G, E, 1, 1)
        sums = sums.transpose(2, 3)
        pairs = (sums[..., :, None] - sums[..., None, :]).to(raw.dtype)
        later = torch.ones(pairs.shape[-2:], dtype=torch.bool, device=pairs.device).triu(1)
        self.pairs = pairs.masked_fill_(later, -torch.inf).exp_()  # (B, G, E, k, k), step s to t
        self.similar = (self.c @ self.b.mT).unsqueeze(2)  # (B, G, 1, k, k)
        self.dt_pairs = self.dt.transpose(2, 3).unsqueeze(3)  # (B, G, E, 1, k)
        self.weighted = self.x * self.dt[..., None] * self.until

    def by_head(self, x: Tensor) -> Tensor:
        """(B, G, E·P, N) to (B, G, E, P, N)."""
        split: Tensor = x.unflatten(2, self.x.shape[3:])
        return split

    def through(self, x: Tensor, state: Tensor) -> Tensor:
        """Vectors (B, G, k, N) times a state (B, G, E·P, N): (B, G, k, E, P)."""
        split: Tensor = (x @ state.mT).unflatten(3, self.x.shape[3:])
        return split

    def output(self, state: Tensor, skip: Tensor | None) -> Tensor:
        """What comes out, before the gate, (B, G, k, E, P)."""
        y = (self.similar * self.pairs * self.dt_pairs) @ self.x.transpose(2, 3)
        y = y.transpose(2, 3) + self.through(self.c, state) * self.since
        return y if skip is None else y + skip * self.x

    def after(self, state: Tensor) -> Tensor:
        """The state after the chunk."""
        kept = (self.by_head(state) * self.whole).flatten(2, 3)
        return kept + self.weighted.flatten(3).mT @ self.b

    def before(self, dy: Tensor, gradient: Tensor) -> Tensor:
        """The gradient of the state before the chunk, given that of the state after it."""
        kept = (self.by_head(gradient) * self.whole).flatten(2, 3)
        return kept + (dy * self.since).flatten(3).mT @ self.c


def forward(
    x: Tensor,
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
    low: float,
    high: float,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the output, the last states and no checkpoints."""
    at = _Inputs(
        x, delta, A, B, C, D, z, delta_bias, initial_state, resets, cu_seqlens, softplus, low, high
    )
    out = torch.empty_like(x)
    last = empty_state(x, B, cu_seqlens)
    skip = None if D is None else at.vector(D)
    for rows, spans in at.sequences():
        state = at.first_state(rows)
        for times in spans:
            state = at.keep(state, times)
            chunk = _Chunk(at, times)
            y = chunk.output(state, skip)
            if z is not None:
                y *= functional.silu(at.heads(z, times))
            _put(y, out, times)
            state = chunk.after(state)
        last[rows] = state.view(last[rows].shape)
    return out, last, empty_checkpoints(x, B, cu_seqlens, save, "cpu")


def backward(
    dout: Tensor | None,
    dstate: Tensor | None,
    checkpoints: Tensor,
    x: Tensor,
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
    low: float,
    high: float,
) -> tuple[Tensor, ...]:
    """Return the gradients of x, delta, A, B, C, D, z, delta_bias and initial_state."""
    at = _Inputs(
        x, delta, A, B, C, D, z, delta_bias, initial_state, resets, cu_seqlens, softplus, low, high
    )
    dout = torch.zeros_like(x) if dout is None else dout
    dx, ddelta, _, dB, dC, _, dz, _, dh0 = empty_gradients(
        x, delta, None, B, C, None, z, None, initial_state
    )
    by_step = A.ndim == 3  # then A is the logarithm of the decays, and no part of delta
    rates = at.vector(x.new_zeros(x.shape[2]) if by_step else A)
    skip = None if D is None else at.vector(D)
    dA, dbias = torch.zeros_like(rates), torch.zeros_like(rates)  # (G, 1, E)
    dlogs = torch.empty_like(A)
    dD = rates.new_zeros((*rates.shape, x.shape[3]))
    for rows, spans in at.sequences():
        state = at.first_state(rows)
        gradient = torch.zeros_like(state)  # of the state after a chunk
        if dstate is not None:
            gradient = dstate[rows].reshape(state.shape).to(state.dtype)
        states = []
        for times in spans:
            state = at.keep(state, times)
            states.append(state)
            state = _Chunk(at, times).after(state)
        for times in reversed(spans):
            state, chunk = states.pop(), _Chunk(at, times)
            dy = at.heads(dout, times)
            if z is not None:
                gate = at.heads(z, times)
                slope = torch.sigmoid(gate)
                y = chunk.output(state, skip)
                _put(dy * y * slope * (1 + gate * (1 - slope)), dz, times)
                dy = dy * gate * slope
            from_state = chunk.through(chunk.c, state) * chunk.since
            from_end = chunk.through(chunk.b, gradient) * chunk.until
            dy_h, x_h = dy.transpose(2, 3), chunk.x.transpose(2, 3)  # (B, G, E, k, P)
            # Of the pairs (t, s): what dy_t makes of x_s, with the decay between them.
            felt = (dy_h @ x_h.mT).mul_(chunk.pairs)
            shared = (felt * chunk.dt_pairs).sum(2)
            _put_groups(shared @ chunk.b + (dy * chunk.since).flatten(3) @ state, dC, times)
            _put_groups(shared.mT @ chunk.c + chunk.weighted.flatten(3) @ gradient, dB, times)
            ddrive = ((chunk.similar * chunk.pairs).mT @ dy_h).transpose(2, 3) + from_end
            dx_ = ddrive * chunk.dt[..., None]
            if skip is not None:
                dx_ += dy * skip
                dD += (dy * chunk.x).sum((0, 2)).unsqueeze(1)
            _put(dx_, dx, times)

            dlog = _log_decay_gradient(chunk, felt, dy, from_state, from_end, state, gradient)
            if by_step:
                _put(dlog, dlogs, times)
            dA += (dlog * chunk.dt).sum((0, 2)).unsqueeze(1)
            ddt = dlog * rates + (ddrive * chunk.x).sum(-1)
            if softplus:
                ddt = ddt * torch.sigmoid(chunk.raw)
            size = step_size(chunk.raw, None, softplus, (-torch.inf, torch.inf))
            ddt = ddt * ((size >= low) & (size <= high))
            dbias += ddt.sum((0, 2)).unsqueeze(1)
            _put(ddt, ddelta, times)
            gradient = at.keep(chunk.before(dy, gradient), times)
        if initial_state is not None:
            dh0[rows] = gradient.view(dh0[rows].shape).to(dh0.dtype)
    dA = dlogs if by_step else _like(dA, A)
    return (dx, ddelta, dA, dB, dC, _like(dD, D), dz, _like(dbias, delta_bias), dh0)


def _log_decay_gradient(
    chunk: _Chunk,
    felt: Tensor,
    dy: Tensor,
    from_state: Tensor,
    from_end: Tensor,
    state: Tensor,
    gradient: Tensor,
) -> Tensor:
    """Gradient of the logarithm of each step's decay, (B, G, k, E).

    It is the sum over all that passes through the step: pairs (t, s) with s before it and t at or
    after it, the first state to outputs from it on, earlier inputs to the last state, and the
    first state to the last.
    """
    # No sum is a difference of others: rounding errors would be left where nothing passes.
    starts = ((chunk.x * from_end).sum(-1) * chunk.dt).transpose(2, 3).unsqueeze(3)
    passing = _from_each_on(felt * chunk.similar * chunk.dt_pairs, 3)  # (B, G, E, k, k)
    pairs = (passing + starts).tril(-1).sum(-1).transpose(2, 3)
    across = (chunk.by_head(gradient * state) * chunk.whole).sum((-2, -1))
    return pairs + _from_each_on((dy * from_state).sum(-1), 2) + across.unsqueeze(2)


def _from_each_on(x: Tensor, axis: int) -> Tensor:
    """Sums from each place to the end of an axis."""
    return x.flip(axis).cumsum(axis).flip(axis)


def _put(x: Tensor, into: Tensor, times: slice) -> None:
    """Write (B, G, k, E, …) to (B, T, H, …)."""
    into[:, times] = x.transpose(1, 2).flatten(2, 3)


def _put_groups(x: Tensor, into: Tensor, times: slice) -> None:
    """Write (B, G, k, N) to (B, T, G, N)."""
    into[:, times] = x.transpose(1, 2)


def _like(x: Tensor, vector: Tensor | None) -> Tensor:
    return x.new_empty(0) if vector is None else x.reshape(vector.shape).to(vector.dtype)


def step_(
    x: Tensor,
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
    low: float,
    high: float,
) -> Tensor:
    """Advance rows ``slots`` of ``pool`` by one step and return the output."""
    wide = state_dtype(x)
    u = x.to(wide)
    dt = step_size(delta.to(wide), delta_bias, softplus, (low, high))[..., None]  # (M, H, 1)
    b, c = (v.to(wide)[:, :, None, None] for v in (B, C))  # (M, G, 1, 1, N)
    log = A.to(wide)[..., None] if A.ndim == 2 else dt * A.to(wide)[:, None]
    state = pool.index_select(0, slots).to(wide) * log.exp()[..., None]
    state = _grouped(state, 1, B.shape[1])  # (M, G, E, P, N)
    state += _grouped(dt * u, 1, B.shape[1])[..., None] * b
    pool.index_copy_(0, slots.long(), state.flatten(1, 2).to(pool.dtype))
    y = (state * c).sum(-1).flatten(1, 2)  # no product: its rounding depends on the rows beside
    if D is not None:
        y += D * u
    if z is not None:
        y *= functional.silu(z.to(wide))
    return y.to(x.dtype)
