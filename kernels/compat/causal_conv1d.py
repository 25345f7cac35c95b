"""``causal_conv1d`` on the convolution: time last, a state of any length, circular if asked."""

import torch
from torch import Tensor
from torch.nn import functional

from audiomamba.errors import ShapeError
from audiomamba.kernels.conv import conv, conv_step_

__all__ = [
    "causal_conv1d_fn",
    "causal_conv1d_ref",
    "causal_conv1d_update",
    "causal_conv1d_update_ref",
]

ACTIVATIONS = {None: None, "silu": "silu", "swish": "silu"}


def causal_conv1d_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    seq_idx: Tensor | None = None,
    initial_states: Tensor | None = None,
    return_final_states: bool = False,
    final_states_out: Tensor | None = None,
    activation: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Convolve every channel causally.

    Args:
        x: ``(B, D, L)``; channels or time contiguous are fastest.
        weight: ``(D, W)``, any W.
        bias: ``(D,)``.
        seq_idx: ``(B, L)`` int32, number of the sequence each step belongs to; negative where
            there is none, and there the output is zero.
        initial_states: ``(B, D, W - 1)``.
        final_states_out: ``(B, D, W - 1)``, written to where given.
        activation: None, ``"silu"`` or ``"swish"``.

    Returns:
        ``(B, D, L)`` in the dtype of ``x``; with ``return_final_states`` also the last W − 1
        inputs ``(B, D, W - 1)``.

    Raises:
        ShapeError: a tensor does not have the shape named here, or the activation is unknown.
    """
    resets = None
    if seq_idx is not None:
        resets = torch.zeros_like(seq_idx, dtype=torch.bool)
        resets[:, 1:] = seq_idx[:, 1:] != seq_idx[:, :-1]
    out, last = conv(
        x.mT,
        weight,
        bias,
        activation=_activation(activation),
        initial_state=None if initial_states is None else initial_states.mT,
        resets=resets,
    )
    if seq_idx is not None:
        out = out.masked_fill((seq_idx < 0)[..., None], 0)
    return _with_final_states(out.mT, last.mT, return_final_states, final_states_out)


def _with_final_states(
    out: Tensor, last: Tensor, wanted: bool, into: Tensor | None
) -> Tensor | tuple[Tensor, Tensor]:
    if not wanted:
        return out
    return out, last if into is None else into.copy_(last)


def causal_conv1d_ref(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    initial_states: Tensor | None = None,
    return_final_states: bool = False,
    final_states_out: Tensor | None = None,
    activation: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Do what ``causal_conv1d_fn`` does with PyTorch's own convolution, without ``seq_idx``."""
    silu = _activation(activation) is not None
    before = weight.shape[1] - 1
    if initial_states is None:
        initial_states = x.new_zeros((*x.shape[:2], before))
    inputs = torch.cat((initial_states.to(x.dtype), x), -1)
    out = functional.conv1d(inputs.to(weight.dtype), weight[:, None], bias, groups=x.shape[1])
    out = (functional.silu(out) if silu else out).to(x.dtype)
    last = inputs[..., inputs.shape[-1] - before :]
    return _with_final_states(out, last, return_final_states, final_states_out)


def causal_conv1d_update(
    x: Tensor,
    conv_state: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    cache_seqlens: Tensor | None = None,
    conv_state_indices: Tensor | None = None,
) -> Tensor:
    """Convolve the next steps; ``conv_state`` is advanced in place.

    Args:
        x: ``(B, D)`` or ``(B, D, L)``.
        conv_state: ``(B, D, S)``, S >= W − 1: the last inputs, newest last. More rows with
            ``conv_state_indices``.
        weight: ``(D, W)``.
        bias: ``(D,)``.
        activation: None, ``"silu"`` or ``"swish"``.
        cache_seqlens: ``(B,)`` int32, steps taken so far; ``conv_state`` is then circular, and
            input t lies in column t mod S.
        conv_state_indices: ``(B,)`` int32, the rows of ``conv_state``, each once; negative for a
            row that pads the batch, whose output is zero.

    Returns:
        Shape and dtype of ``x``.

    Raises:
        ShapeError: a tensor does not have the shape named here, or the activation is unknown.
    """
    taps, room = weight.shape[1], conv_state.shape[-1]
    if room < taps - 1:
        raise ShapeError(f"causal_conv1d_update: conv_state wants room for {taps - 1}, got {room}")
    rows = conv_state_indices
    if rows is None:
        rows = torch.arange(x.shape[0], device=x.device)
    if x.ndim == 2 and room == taps - 1 and cache_seqlens is None:
        return conv_step_(x, weight, bias, conv_state.mT, rows, activation=_activation(activation))
    padding = rows < 0
    rows = rows.clamp(min=0)
    state = conv_state.index_select(0, rows)
    inputs, after = _recent(x, state, taps, cache_seqlens)
    initial = inputs[..., : taps - 1].mT.to(x.dtype)
    steps = x[..., None] if x.ndim == 2 else x
    out, _ = conv(steps.mT, weight, bias, activation=_activation(activation), initial_state=initial)
    # Nobody waits to see which rows pad the batch: they write what another row writes, or, where
    # all do, what there is already.
    other = (~padding).int().argmax()
    after = torch.where(padding[:, None, None], after[other], after)
    after = torch.where(padding.all(), state, after)
    conv_state.index_copy_(0, torch.where(padding, rows[other], rows).long(), after)
    return out.mT.masked_fill(padding[:, None, None], 0).reshape(x.shape)


def causal_conv1d_update_ref(
    x: Tensor,
    conv_state: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    cache_seqlens: Tensor | None = None,
) -> Tensor:
    """Do what ``causal_conv1d_update`` does with PyTorch's own convolution, for all rows."""
    silu = _activation(activation) is not None
    inputs, after = _recent(x, conv_state, weight.shape[1], cache_seqlens)
    conv_state.copy_(after)
    out = functional.conv1d(
        inputs.to(weight.dtype), weight[:, None], bias, groups=conv_state.shape[1]
    )
    return (functional.silu(out) if silu else out).to(x.dtype).view(x.shape)


def _recent(
    x: Tensor, state: Tensor, taps: int, cache_seqlens: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The last ``taps − 1`` inputs and the new ones, (B, D, taps − 1 + L), and the state after."""
    steps = (x[..., None] if x.ndim == 2 else x).to(state.dtype)
    count, room = steps.shape[-1], state.shape[-1]
    if cache_seqlens is None:
        joined = torch.cat((state, steps), -1)
        return joined[..., room - taps + 1 :], joined[..., count:]
    past = torch.arange(1 - taps, 0, device=x.device) + cache_seqlens[:, None]  # (B, taps − 1)
    wide = (-1, state.shape[1], -1)
    before = state.gather(2, past.remainder(room)[:, None].long().expand(wide))
    # Of more new inputs than there is room for, the last ones stay.
    kept = torch.arange(max(0, count - room), count, device=x.device) + cache_seqlens[:, None]
    after = state.scatter(
        2, kept.remainder(room)[:, None].long().expand(wide), steps[..., -kept.shape[1] :]
    )
    return torch.cat((before, steps), -1), after


def _activation(name: str | None) -> str | None:
    if name not in ACTIVATIONS:
        raise ShapeError(f"causal_conv1d: activation wants None, silu or swish, got {name!r}")
    return ACTIVATIONS[name]
