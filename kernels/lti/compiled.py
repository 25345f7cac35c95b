"""``lti`` on a CPU out of the native library: src/lti.h of ``kernels.native``.

It reads and writes sequences as they lie, time or channels contiguous. Only what is not float32
is copied.
"""

import ctypes

import torch
from torch import Tensor

from audiomamba.kernels import native
from audiomamba.kernels.native.tensors import address, copy_back, packed, sequence, wide, written

__all__ = ["backward", "forward"]


class _Call:
    """Arguments of the library; keeps what they point to."""

    def __init__(
        self,
        u: Tensor,
        a: Tensor,
        b: Tensor,
        c: Tensor,
        skip: Tensor | None,
        initial_state: Tensor | None,
        resets: Tensor | None,
    ) -> None:
        rows, steps, channels = u.shape
        self.u, self.a = wide(u), a.double().contiguous()
        self.packed = {
            name: packed(x)
            for name, x in (("b", b), ("c", c), ("skip", skip), ("initial", initial_state))
        }
        self.resets = None if resets is None else resets.contiguous()
        self.struct = native.Lti(
            rows=rows,
            steps=steps,
            channels=channels,
            pairs=a.shape[1],
            threads=torch.get_num_threads(),
            u=sequence(self.u),
            a=address(self.a),
            resets=address(self.resets),
            **{name: address(x) for name, x in self.packed.items()},
        )


def forward(
    u: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    skip: Tensor | None,
    initial_state: Tensor | None,
    resets: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Return the output and the last state; arguments as ``op.ARGUMENTS``."""
    y = torch.empty_like(u)
    state = torch.empty(u.shape[0], *b.shape)
    call = _Call(u, a, b, c, skip, initial_state, resets)
    to = written(y)
    native.library().am_lti_forward(
        ctypes.byref(call.struct), ctypes.byref(sequence(to)), address(state)
    )
    copy_back(y, to)
    return y, state


def backward(
    dy: Tensor,
    dstate: Tensor | None,
    u: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    skip: Tensor | None,
    initial_state: Tensor | None,
    resets: Tensor | None,
) -> tuple[Tensor, ...]:
    """Return the gradients of u, a, b, c, skip and the first state."""
    rows, _, channels = u.shape
    du = torch.empty_like(u)
    to = written(du)
    dinitial = torch.empty(rows, *b.shape)
    # A row each; added here, in one order.
    sums = {name: torch.empty(rows, *b.shape, dtype=torch.float64) for name in ("da", "db", "dc")}
    sums["dskip"] = torch.empty(rows, channels, dtype=torch.float64)
    call = _Call(u, a, b, c, skip, initial_state, resets)
    dy, dlast = wide(dy), packed(dstate)
    gradients = native.LtiGradients(
        dy=sequence(dy),
        du=sequence(to),
        dlast=address(dlast),
        dinitial=address(dinitial),
        **{name: address(x) for name, x in sums.items()},
    )
    native.library().am_lti_backward(ctypes.byref(call.struct), ctypes.byref(gradients))
    copy_back(du, to)
    da, db, dc, dskip = (sums[name].sum(0) for name in ("da", "db", "dc", "dskip"))
    return du, da, db.to(b.dtype), dc.to(c.dtype), dskip.to(b.dtype), dinitial
