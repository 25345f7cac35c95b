"""``conv`` on a CPU: out of the native library, or by tensor operations where that was not built.

Those are PyTorch's depthwise convolution, or tap by tap. The convolution wants time contiguous and
knows no sequences that begin within a row; with resets, and for a frame or two, each tap is a
multiply and add over all frames. What is computed between lies in memory as the input does, so
that nothing is transposed.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from audiomamba.kernels.conv import compiled
from audiomamba.kernels.conv.op import register
from audiomamba.kernels.dispatch import frame_by_frame, step_named_rows
from audiomamba.kernels.native import tensors

__all__ = ["conv", "conv_step_"]

SHORTEST = 32  # frames from which a convolution beats the taps


def _forward(x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    if tensors.runs(x):
        return compiled.forward(x, *rest)
    return _by_torch(x, *rest)


def _backward(grad_y: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if tensors.runs(grad_y):
        return compiled.backward(grad_y, *rest)
    return _by_torch_backward(grad_y, *rest)


def _by_torch(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial_state: Tensor | None,
    resets: Tensor | None,
    silu: bool,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    T = x.shape[1]
    inputs = _extended(x, weight, initial_state, reverse)
    segment = _segments(resets, weight, reverse)
    z = _weighted(inputs, weight, bias, segment, T)
    y = torch.empty_like(x)
    y.copy_(_in_time(z * torch.sigmoid(z) if silu else z, reverse))
    state = inputs[:, T:]
    if segment is not None and T:
        state = torch.where((segment[:, T:] == segment[:, -1:])[..., None], state, 0)
    return y, state.contiguous() if segment is not None else state.clone(
        memory_format=torch.contiguous_format
    )


def _by_torch_backward(
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
    T, K = x.shape[1], weight.shape[1]
    inputs = _extended(x, weight, initial_state, reverse)
    segment = _segments(resets, weight, reverse)
    wide = torch.promote_types(x.dtype, torch.float32)
    dz = _in_time(grad_y, reverse).to(wide)
    if silu:
        z = _weighted(inputs, weight, bias, segment, T)
        gate = torch.sigmoid(z)
        dz = dz * (gate * (1 + z * (1 - gate)))
    dinputs, dweight = _unweighted(dz, inputs, weight, segment, T)
    if grad_state is not None:
        last = grad_state.to(wide)
        if segment is not None and T:
            last = torch.where((segment[:, T:] == segment[:, -1:])[..., None], last, 0)
        dinputs[:, T:] += last
    dx = torch.empty_like(x)
    dx.copy_(_in_time(dinputs[:, K - 1 :], reverse))
    return (
        dx,
        dweight.to(weight.dtype),
        weight.new_empty(0) if bias is None else dz.sum(dim=(0, 1)).to(bias.dtype),
        x.new_empty(0)
        if initial_state is None
        else dinputs[:, : K - 1].to(x.dtype).clone(memory_format=torch.contiguous_format),
    )


def _step_(*inputs: Any) -> Tensor:
    def frame(*given: Any) -> Tensor:
        return step_named_rows(_named_step_, given, slots=4, timed=(0,))

    return frame(*inputs) if inputs[0].ndim == 2 else frame_by_frame(frame, inputs, (0,))


def _named_step_(
    x: Tensor, weight: Tensor, bias: Tensor | None, pool: Tensor, slots: Tensor, silu: bool
) -> Tensor:
    slots = slots.long()
    inputs = torch.cat([pool[slots], x[:, None].to(pool.dtype)], dim=1)  # (M, K, D)
    z = _weighted(inputs, weight, bias, None, 1)[:, 0]
    pool[slots] = inputs[:, 1:]
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    return y.copy_(z * torch.sigmoid(z) if silu else z)


def _in_time(x: Tensor, reverse: bool) -> Tensor:
    """Turn between the order of time and the order of processing."""
    return x.flip(1) if reverse else x


def _extended(x: Tensor, weight: Tensor, initial_state: Tensor | None, reverse: bool) -> Tensor:
    """Put the K - 1 earlier inputs before x: ``(B, K-1+T, D)`` in order of processing."""
    if initial_state is None:
        initial_state = x.new_zeros(x.shape[0], weight.shape[1] - 1, x.shape[2])
    parts = [initial_state, _in_time(x, reverse)]
    if x.stride(1) < x.stride(2):
        return torch.cat([part.transpose(1, 2) for part in parts], dim=2).transpose(1, 2)
    return torch.cat(parts, dim=1)


def _segments(resets: Tensor | None, weight: Tensor, reverse: bool) -> Tensor | None:
    """Number the sequences of each row: ``(B, K-1+T)``; the initial state belongs to number 0."""
    if resets is None:
        return None
    counts = _in_time(resets, reverse).cumsum(dim=1)
    return torch.nn.functional.pad(counts, (weight.shape[1] - 1, 0))


def _weighted(
    inputs: Tensor, weight: Tensor, bias: Tensor | None, segment: Tensor | None, T: int
) -> Tensor:
    """Sum the taps of ``(B, K-1+T, D)`` inputs into ``(B, T, D)``, in float32 or wider."""
    K = weight.shape[1]
    wide = torch.promote_types(inputs.dtype, torch.float32)
    taps = weight.to(wide)
    if segment is None and T >= SHORTEST:
        rows = inputs.to(wide).transpose(1, 2)
        return F.conv1d(
            rows, taps[:, None], None if bias is None else bias.to(wide), groups=len(taps)
        ).transpose(1, 2)
    z = inputs[:, K - 1 :].to(wide) * taps[:, K - 1]
    for k in range(K - 1):
        source = inputs[:, k : k + T]
        if segment is not None:
            same = segment[:, k : k + T] == segment[:, K - 1 :]
            source = torch.where(same[..., None], source, 0)
        z = torch.addcmul(z, source.to(wide), taps[:, k])
    return z if bias is None else z + bias.to(wide)


def _unweighted(
    dz: Tensor, inputs: Tensor, weight: Tensor, segment: Tensor | None, T: int
) -> tuple[Tensor, Tensor]:
    """Gradients of inputs ``(B, K-1+T, D)`` and weight ``(D, K)`` from that of the sum of taps."""
    D, K = weight.shape
    taps = weight.to(dz.dtype)
    if segment is None and T >= SHORTEST:
        grads = torch.ops.aten.convolution_backward(
            dz.transpose(1, 2), inputs.to(dz.dtype).transpose(1, 2), taps[:, None], None,
            [1], [0], [1], False, [0], D, [True, True, False],
        )  # fmt: skip
        return grads[0].transpose(1, 2), grads[1][:, 0]
    dinputs = torch.zeros_like(inputs, dtype=dz.dtype)
    dweight = torch.empty_like(taps)
    for k in range(K):
        source, dtap = inputs[:, k : k + T], dz
        if segment is not None:
            same = (segment[:, k : k + T] == segment[:, K - 1 :])[..., None]
            source, dtap = torch.where(same, source, 0), torch.where(same, dz, 0)
        dweight[:, k] = (dz * source).sum(dim=(0, 1))
        dinputs[:, k : k + T] += dtap * taps[:, k]
    return dinputs, dweight


_operators = register("cpu", _forward, _backward, _step_, torch.empty_like)
conv, conv_step_ = _operators.conv, _operators.conv_step_
