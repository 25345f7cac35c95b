"""The selective scan on a CPU out of the native library: src/scan.h of ``kernels.native``.

Here its arguments are laid out as it wants them: float32, channels last, those of a group a
multiple of 16. What already lies so is not copied.
"""

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from audiomamba.kernels import native
from audiomamba.kernels.scan.op import (
    CHECKPOINT_STEPS,
    empty_checkpoints,
    empty_gradients,
    state_rows,
)

__all__ = ["backward", "forward", "takes"]

LANES = 16  # channels of a group are filled up to a multiple of


def takes(u: Tensor, A: Tensor) -> bool:
    """Whether the library is there and does this: no float64, and something to do."""
    return u.dtype != torch.float64 and u.numel() * A.numel() > 0 and native.why_not() is None


@dataclass(frozen=True, slots=True)
class _Layout:
    """Between an axis of D channels and one that is filled up group by group."""

    groups: int
    channels: int  # of a group
    softplus: bool
    reverse: bool

    @property
    def missing(self) -> int:
        return -self.channels % LANES

    def fill(self, x: Tensor, axis: int = -1) -> Tensor:
        x = x.float()
        if self.missing:
            x = x.movedim(axis, -1).unflatten(-1, (self.groups, self.channels))
            x = functional.pad(x, (0, self.missing)).flatten(-2).movedim(-1, axis)
        return x.contiguous()

    def cut(self, x: Tensor, axis: int = -1) -> Tensor:
        if self.missing:
            x = x.movedim(axis, -1).unflatten(-1, (self.groups, -1))[..., : self.channels]
            x = x.flatten(-2).movedim(-1, axis)
        return x


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows that are walked together, or one packed sequence."""

    times: slice
    states: slice
    checkpoints: slice


class _Call:
    """Arguments of the library; keeps what they point to."""

    def __init__(
        self,
        layout: _Layout,
        timed: dict[str, Tensor | None],
        fixed: dict[str, Tensor | None],
        initial: Tensor | None,
        resets: Tensor | None,
    ) -> None:
        self.inputs = {
            name: None if x is None else layout.fill(x) if name in ("u", "delta", "z") else x
            for name, x in timed.items()
        }
        self.inputs.update(fixed)
        for name in ("B", "C"):
            x = self.inputs[name]
            assert x is not None
            self.inputs[name] = x.float().contiguous()
        self.inputs["initial"] = None if initial is None else layout.fill(initial, -2)
        self.inputs["resets"] = None if resets is None else resets.contiguous()
        u, A = self.inputs["u"], self.inputs["A"]
        assert u is not None and A is not None
        self.rows, self.steps, self.channels = u.shape
        self.groups, self.states = layout.groups, A.shape[1]
        self.struct = native.Scan(
            rows=self.rows,
            steps=self.steps,
            channels=self.channels,
            groups=self.groups,
            states=self.states,
            softplus=int(layout.softplus),
            reverse=int(layout.reverse),
            threads=torch.get_num_threads(),
            **{name: _address(x) for name, x in self.inputs.items()},
        )

    @property
    def kept(self) -> tuple[int, ...]:
        """Shape of its checkpoints."""
        return self.rows, -(-self.steps // CHECKPOINT_STEPS), self.channels, self.states


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
    layout = _Layout(B.shape[2], A.shape[0] // B.shape[2], softplus, reverse)
    out = torch.empty_like(u)
    state = u.new_empty((state_rows(u, cu_seqlens), *A.shape), dtype=torch.float32)
    checkpoints = empty_checkpoints(u, A, cu_seqlens, save)
    timed = {"u": u, "delta": delta, "z": z, "B": B, "C": C}
    fixed = _fixed(layout, A, D, delta_bias)
    for part in _parts(u, cu_seqlens):
        call = _Call(layout, _cut(timed, part), fixed, _own(initial_state, part), resets)
        filled = torch.empty(call.rows, call.steps, call.channels)
        last = torch.empty(call.rows, call.channels, call.states)
        kept = torch.empty(call.kept) if save else None
        call.struct.checkpoints = _address(kept)
        native.library().am_scan_forward(
            ctypes.byref(call.struct), filled.data_ptr(), last.data_ptr()
        )
        out[:, part.times] = layout.cut(filled)
        state[part.states] = layout.cut(last, -2)
        if kept is not None:
            checkpoints[part.checkpoints] = layout.cut(kept, -2).flatten(0, 1)
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
    layout = _Layout(B.shape[2], A.shape[0] // B.shape[2], softplus, reverse)
    found = empty_gradients(u, delta, A, B, C, D, z, delta_bias, initial_state)
    du, ddelta, dA, dB, dC, dD, dz, dbias, dinitial = found
    for sums in (dA, dD, dbias):
        sums.zero_()
    timed = {"u": u, "delta": delta, "z": z, "B": B, "C": C}
    fixed = _fixed(layout, A, D, delta_bias)
    for part in _parts(u, cu_seqlens):
        call = _Call(layout, _cut(timed, part), fixed, _own(initial_state, part), resets)
        kept = layout.fill(checkpoints[part.checkpoints].view(-1, *A.shape), -2)
        call.struct.checkpoints = kept.data_ptr()
        rows, steps, channels, states = call.rows, call.steps, call.channels, call.states
        given = {
            "dout": None if dout is None else layout.fill(dout[:, part.times]),
            "dlast": None if dstate is None else layout.fill(dstate[part.states], -2),
        }
        made = {name: torch.empty(rows, steps, channels) for name in ("du", "ddelta", "dz")}
        made.update(
            dA=torch.zeros(rows, channels, states),
            dD=torch.zeros(rows, channels),
            dbias=torch.zeros(rows, channels),
            dB=torch.empty(rows, steps, call.groups, states),
            dC=torch.empty(rows, steps, call.groups, states),
            dinitial=torch.empty(rows, channels, states),
        )
        pointers = native.ScanGradients(**{n: _address(x) for n, x in (given | made).items()})
        native.library().am_scan_backward(ctypes.byref(call.struct), ctypes.byref(pointers))
        for into, name in ((du, "du"), (ddelta, "ddelta"), (dz, "dz")):
            if into.numel():
                into[:, part.times] = layout.cut(made[name])
        dB[:, part.times], dC[:, part.times] = made["dB"], made["dC"]
        dA += layout.cut(made["dA"].sum(0), 0)
        for into, name in ((dD, "dD"), (dbias, "dbias")):
            if into.numel():
                into += layout.cut(made[name].sum(0))
        if initial_state is not None:
            dinitial[part.states] = layout.cut(made["dinitial"], -2)
    return found


def _parts(u: Tensor, cu_seqlens: Tensor | None) -> Iterator[_Part]:
    if cu_seqlens is None:
        yield _Part(slice(None), slice(None), slice(None))
        return
    ends = cu_seqlens.tolist()
    for i, (start, end) in enumerate(zip(ends[:-1], ends[1:], strict=True)):
        first = start // CHECKPOINT_STEPS + i
        blocks = -(-(end - start) // CHECKPOINT_STEPS)
        yield _Part(slice(start, end), slice(i, i + 1), slice(first, first + blocks))


def _cut(timed: dict[str, Tensor | None], part: _Part) -> dict[str, Tensor | None]:
    return {name: None if x is None else x[:, part.times] for name, x in timed.items()}


def _own(states: Tensor | None, part: _Part) -> Tensor | None:
    return None if states is None else states[part.states]


def _fixed(
    layout: _Layout, A: Tensor, D: Tensor | None, delta_bias: Tensor | None
) -> dict[str, Tensor | None]:
    return {
        "A": layout.fill(A, 0),
        "D": None if D is None else layout.fill(D),
        "delta_bias": None if delta_bias is None else layout.fill(delta_bias),
    }


def _address(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()
