"""The selective scan on a CPU out of the native library: src/scan.h of ``kernels.native``.

It reads and writes sequences as they lie, time or channels contiguous. Only what is not float32
is copied.
"""

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from audiomamba.kernels import native
from audiomamba.kernels.native.tensors import address, copy_back, packed, sequence, wide, written
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


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows that are walked together, or one packed sequence."""

    times: slice
    states: slice
    checkpoints: slice


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
        timed = {n: None if x is None else x[:, part.times] for n, x in self.timed.items()}
        u, B = timed["u"], timed["B"]
        assert u is not None and B is not None
        kept = self.checkpoints[part.checkpoints]
        return native.Scan(
            rows=u.shape[0],
            steps=u.shape[1],
            channels=u.shape[2],
            groups=B.shape[2],
            states=B.shape[3],
            softplus=int(self.softplus),
            reverse=int(self.reverse),
            threads=torch.get_num_threads(),
            initial=address(None if self.initial is None else self.initial[part.states]),
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
    checkpoints = empty_checkpoints(u, A, B, cu_seqlens, save)
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
            ctypes.byref(sequence(to[:, part.times])),
            state[part.states].data_ptr(),
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
    weights = {name: torch.empty(x.shape) for name, x in (("dB", dB), ("dC", dC))}
    last = torch.empty_like(dinitial, dtype=torch.float32, memory_format=torch.contiguous_format)
    # A row or a sequence each; added here, in one order.
    sums = {
        name: torch.empty(state_rows(u, cu_seqlens), *shape)
        for name, shape in (("dA", A.shape), ("dD", A.shape[:1]), ("dbias", A.shape[:1]))
    }
    for part in _parts(u, cu_seqlens):
        pointers = native.ScanGradients(
            dout=sequence(None if dout is None else dout[:, part.times]),
            dlast=address(None if dstate is None else dstate[part.states]),
            dinitial=address(None if initial_state is None else last[part.states]),
            **{name: sequence(x[:, part.times]) for name, x in to.items()},
            **{name: address(x[:, part.times]) for name, x in weights.items()},
            **{name: address(x[part.states]) for name, x in sums.items()},
        )
        native.library().am_scan_backward(ctypes.byref(call.of(part)), ctypes.byref(pointers))
    for name, x in timed.items():
        copy_back(x, to[name])
    dB.copy_(weights["dB"])
    dC.copy_(weights["dC"])
    dA.copy_(sums["dA"].sum(0))
    for into, name in ((dD, "dD"), (dbias, "dbias")):
        if into.numel():
            into.copy_(sums[name].sum(0))
    dinitial.copy_(last)
    return found


def _parts(u: Tensor, cu_seqlens: Tensor | None) -> Iterator[_Part]:
    if cu_seqlens is None:
        yield _Part(slice(None), slice(None), slice(None))
        return
    ends = cu_seqlens.tolist()
    for i, (start, end) in enumerate(zip(ends[:-1], ends[1:], strict=True)):
        first = start // SPACING + i
        pieces = -(-(end - start) // SPACING)
        yield _Part(slice(start, end), slice(i, i + 1), slice(first, first + pieces))
