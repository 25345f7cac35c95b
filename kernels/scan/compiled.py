"""The selective scan on a CPU out of the native library: src/scan.h of ``kernels.native``.

It reads and writes sequences as they lie, time or channels contiguous. Only what is not float32
is copied.
"""

import ctypes
from collections.abc import Iterator
from typing import Final, NamedTuple

import torch
from torch import Tensor

from audiomamba.kernels import native
from audiomamba.kernels.native.tensors import (
    address,
    copy_back,
    fresh,
    packed,
    sequence,
    wide,
    written,
    written_packed,
)
from audiomamba.kernels.scan.op import checkpoint_rows, empty_gradients, state_rows

__all__ = ["backward", "empty_checkpoints", "forward"]

SPACING: Final = 16  # steps from one kept state to the next: PIECE of src/sequence.h
LANES: Final = 16  # channels of a group are kept in vectors, of so many at most


def empty_checkpoints(
    u: Tensor, A: Tensor, B: Tensor, cu_seqlens: Tensor | None, save: bool
) -> Tensor:
    """Memory for the states kept for ``backward``, four times as dense as on a GPU.

    To make a piece's states anew from its first one, and not from one 48 steps before it, saves
    the backward an exponential in two.
    """
    rows = checkpoint_rows(u, cu_seqlens, SPACING) if save else 0
    groups = B.shape[2]
    channels = groups * -(-A.shape[0] // groups // LANES) * LANES
    return u.new_empty((rows, channels, A.shape[1]), dtype=torch.float32)


class _Part(NamedTuple):
    """All rows, or one packed sequence: where its times, states and checkpoints lie."""

    times: tuple[slice, slice] | None = None
    states: slice | None = None
    checkpoints: slice | None = None


def _cut(x: Tensor | None, at: slice | tuple[slice, slice] | None) -> Tensor | None:
    # To take all of a tensor is a call of PyTorch too, and a short call of the scan has dozens.
    return x if x is None or at is None else x[at]


class _Call:
    """Arguments of the library, of all parts; keeps what they point to."""

    def __init__(
        self,
        timed: dict[str, Tensor | None],
        fixed: dict[str, Tensor | None],
        initial: Tensor | None,
        resets: Tensor | None,
        checkpoints: Tensor,
        softplus: bool,
        reverse: bool,
    ) -> None:
        self.timed = {name: wide(x) for name, x in timed.items()}
        for name in ("B", "C"):
            x = self.timed[name]
            assert x is not None
            self.timed[name] = x if x.stride(3) == 1 else x.contiguous()
        self.fixed = {name: packed(x) for name, x in fixed.items()}
        self.initial = packed(initial)
        self.resets = None if resets is None else resets.contiguous()
        self.checkpoints = checkpoints
        self.softplus, self.reverse = softplus, reverse

    def of(self, part: _Part) -> native.Scan:
        timed = {name: _cut(x, part.times) for name, x in self.timed.items()}
        u, B, kept = timed["u"], timed["B"], _cut(self.checkpoints, part.checkpoints)
        assert u is not None and B is not None and kept is not None
        return native.Scan(
            rows=u.shape[0],
            steps=u.shape[1],
            channels=u.shape[2],
            groups=B.shape[2],
            states=B.shape[3],
            softplus=int(self.softplus),
            reverse=int(self.reverse),
            threads=torch.get_num_threads(),
            initial=address(_cut(self.initial, part.states)),
            resets=address(self.resets),
            checkpoints=address(kept) if kept.numel() else None,
            checkpoint_row=kept.numel() // max(1, u.shape[0]),
            **{name: sequence(x) for name, x in timed.items()},
            **{name: address(x) for name, x in self.fixed.items()},
        )


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
    out = torch.empty_like(u)
    state = u.new_empty((state_rows(u, cu_seqlens), *A.shape), dtype=torch.float32)
    checkpoints = fresh(empty_checkpoints(u, A, B, cu_seqlens, save))
    call = _Call(
        {"u": u, "delta": delta, "z": z, "B": B, "C": C},
        {"A": A, "D": D, "delta_bias": delta_bias},
        initial_state,
        resets,
        checkpoints,
        softplus,
        reverse,
    )
    to = written(out)
    for part in _parts(u, cu_seqlens):
        native.library().am_scan_forward(
            ctypes.byref(call.of(part)),
            ctypes.byref(sequence(_cut(to, part.times))),
            address(_cut(state, part.states)),
        )
    copy_back(out, to)
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
    found = empty_gradients(u, delta, A, B, C, D, z, delta_bias, initial_state)
    du, ddelta, dA, dB, dC, dD, dz, dbias, dinitial = found
    call = _Call(
        {"u": u, "delta": delta, "z": z, "B": B, "C": C},
        {"A": A, "D": D, "delta_bias": delta_bias},
        initial_state,
        resets,
        checkpoints,
        softplus,
        reverse,
    )
    dout = wide(dout)
    dstate = packed(dstate)
    timed = {"du": du, "ddelta": ddelta, **({} if z is None else {"dz": dz})}
    to = {name: written(x) for name, x in timed.items()}
    weights = {name: written_packed(x) for name, x in (("dB", dB), ("dC", dC))}
    last = written_packed(dinitial)
    # A row or a sequence each; added here, in one order.
    sums = {
        name: torch.empty(state_rows(u, cu_seqlens), *shape)
        for name, shape in (("dA", A.shape), ("dD", A.shape[:1]), ("dbias", A.shape[:1]))
    }
    for part in _parts(u, cu_seqlens):
        pointers = native.ScanGradients(
            dout=sequence(_cut(dout, part.times)),
            dlast=address(_cut(dstate, part.states)),
            dinitial=None if initial_state is None else address(_cut(last, part.states)),
            **{name: sequence(_cut(x, part.times)) for name, x in to.items()},
            **{name: address(_cut(x, part.times)) for name, x in weights.items()},
            **{name: address(_cut(x, part.states)) for name, x in sums.items()},
        )
        native.library().am_scan_backward(ctypes.byref(call.of(part)), ctypes.byref(pointers))
    for name, x in timed.items():
        copy_back(x, to[name])
    for x, from_ in ((dB, weights["dB"]), (dC, weights["dC"]), (dinitial, last)):
        copy_back(x, from_)
    for into, name in ((dA, "dA"), (dD, "dD"), (dbias, "dbias")):
        if into.numel():
            into.copy_(sums[name].sum(0))
    return found


def _parts(u: Tensor, cu_seqlens: Tensor | None) -> Iterator[_Part]:
    if cu_seqlens is None:
        yield _Part()
        return
    ends = cu_seqlens.tolist()
    for i, (start, end) in enumerate(zip(ends[:-1], ends[1:], strict=True)):
        first = start // SPACING + i
        pieces = -(-(end - start) // SPACING)
        times = slice(None), slice(start, end)
        yield _Part(times, slice(i, i + 1), slice(first, first + pieces))
