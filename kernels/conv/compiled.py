"""``conv`` on a CPU out of the native library: src/conv.h of ``kernels.native``.

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
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        initial_state: Tensor | None,
        resets: Tensor | None,
        silu: bool,
        reverse: bool,
    ) -> None:
        rows, steps, channels = x.shape
        self.x, self.initial = wide(x), wide(initial_state)
        self.weight, self.bias = packed(weight), packed(bias)
        self.resets = None if resets is None else resets.contiguous()
        self.struct = native.Conv(
            rows=rows,
            steps=steps,
            channels=channels,
            taps=weight.shape[1],
            silu=int(silu),
            reverse=int(reverse),
            threads=torch.get_num_threads(),
            x=sequence(self.x),
            initial=sequence(self.initial),
            weight=address(self.weight),
            bias=address(self.bias),
            resets=address(self.resets),
        )


def forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial_state: Tensor | None,
    resets: Tensor | None,
    silu: bool,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    """Return the output and the last state."""
    y = torch.empty_like(x)
    state = x.new_empty(x.shape[0], weight.shape[1] - 1, x.shape[2])
    call = _Call(x, weight, bias, initial_state, resets, silu, reverse)
    to = [written(y), written(state)]
    native.library().am_conv_forward(
        ctypes.byref(call.struct), *(ctypes.byref(sequence(t)) for t in to)
    )
    copy_back(y, to[0])
    copy_back(state, to[1])
    return y, state


def backward(
    grad_y: Tensor,
    grad_state: Tensor | None,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial_state: Tensor | None,
    resets: Tensor | None,
    silu: bool,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of x, weight, bias and initial state."""
    dx = torch.empty_like(x)
    rows, _, channels = x.shape
    dinitial = x.new_empty(0 if initial_state is None else initial_state.shape)
    call = _Call(x, weight, bias, initial_state, resets, silu, reverse)
    dy, dlast = wide(grad_y), wide(grad_state)
    to = [written(dx), written(dinitial)]
    dweight = torch.empty(rows, channels, weight.shape[1])
    dbias = torch.empty(rows, channels)
    gradients = native.ConvGradients(
        dy=sequence(dy),
        dlast=sequence(dlast),
        dx=sequence(to[0]),
        dinitial=sequence(None if initial_state is None else to[1]),
        dweight=address(dweight),
        dbias=address(dbias),
    )
    native.library().am_conv_backward(ctypes.byref(call.struct), ctypes.byref(gradients))
    copy_back(dx, to[0])
    copy_back(dinitial, to[1])
    return (
        dx,
        dweight.sum(0).to(weight.dtype),
        weight.new_empty(0) if bias is None else dbias.sum(0).to(bias.dtype),
        dinitial,
    )
