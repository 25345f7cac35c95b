"""``conv`` as operators of torch: schema, shapes for tracing, gradient.

Every implementation registers a forward, a backward and a step under its own name, with one schema.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from audiomamba.kernels.dispatch import LIBRARY

__all__ = ["Operators", "empty_like_layout", "register"]

ARGUMENTS = (
    "Tensor x, Tensor weight, Tensor? bias, Tensor? initial_state, Tensor? resets,"
    " bool silu, bool reverse"
)
STEP_ARGUMENTS = "Tensor x, Tensor weight, Tensor? bias, Tensor(a!) pool, Tensor slots, bool silu"


@dataclass(frozen=True, slots=True)
class Operators:
    """The callables behind ``torch.ops.audiomamba.conv_<implementation>`` and its step."""

    conv: Callable[..., tuple[Tensor, Tensor]]
    conv_step_: Callable[..., Tensor]


def register(
    implementation: str,
    forward: Callable[..., tuple[Tensor, Tensor]],
    backward: Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]],
    step_: Callable[..., Tensor],
    empty: Callable[[Tensor], Tensor],
) -> Operators:
    """Register an implementation's three functions as operators.

    Args:
        implementation: ``"cpu"`` or ``"gpu"``; becomes part of the operators' names.
        forward: Takes ``ARGUMENTS``, returns the output and the final state.
        backward: Takes the two gradients (the second may be None) and ``ARGUMENTS``, returns the
            gradients of x, weight, bias and initial state; the last two are empty where the
            argument is None.
        step_: Takes ``STEP_ARGUMENTS``, returns the output.
        empty: Allocates the output, and x's gradient, by x.
    """
    name, back, step = f"conv_{implementation}", f"conv_{implementation}_backward", None
    step = f"conv_{implementation}_step_"
    LIBRARY.define(f"{name}({ARGUMENTS}) -> (Tensor, Tensor)")
    LIBRARY.define(
        f"{back}(Tensor grad_y, Tensor? grad_state, {ARGUMENTS})"
        " -> (Tensor, Tensor, Tensor, Tensor)"
    )
    LIBRARY.define(f"{step}({STEP_ARGUMENTS}) -> Tensor")
    LIBRARY.impl(name, forward, "CompositeExplicitAutograd")
    LIBRARY.impl(back, backward, "CompositeExplicitAutograd")
    LIBRARY.impl(step, step_, "CompositeExplicitAutograd")

    def trace(x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        return empty(x), _empty_state(x, *rest)

    def trace_back(grad_y: Tensor, grad_state: Any, x: Tensor, *rest: Any) -> tuple[Tensor, ...]:
        return empty(x), *_empty_gradients(x, *rest)

    torch.library.register_fake(f"audiomamba::{name}", trace, lib=LIBRARY)
    torch.library.register_fake(f"audiomamba::{back}", trace_back, lib=LIBRARY)
    torch.library.register_fake(f"audiomamba::{step}", _fake_step, lib=LIBRARY)
    backward_op = getattr(torch.ops.audiomamba, back).default

    def gradient(ctx: Any, grad_y: Tensor | None, grad_state: Tensor | None) -> tuple[Any, ...]:
        x, weight, bias, initial_state, resets = ctx.saved_tensors
        if grad_y is None:
            grad_y = torch.zeros_like(x)
        dx, dweight, dbias, dstate = backward_op(
            grad_y,
            grad_state,
            x,
            weight,
            bias,
            initial_state,
            resets,
            ctx.silu,
            ctx.reverse,
        )
        return (
            dx,
            dweight,
            None if bias is None else dbias,
            None if initial_state is None else dstate,
            None,
            None,
            None,
        )

    torch.library.register_autograd(
        f"audiomamba::{name}", gradient, setup_context=_setup_context, lib=LIBRARY
    )
    return Operators(
        getattr(torch.ops.audiomamba, name).default, getattr(torch.ops.audiomamba, step).default
    )


def empty_like_layout(x: Tensor) -> Tensor:
    """Allocate like ``(B, T, D)`` x: packed, time fastest where it is in x, else channels."""
    B, T, D = x.shape
    if x.stride(1) < x.stride(2):
        return torch.empty((B, D, T), dtype=x.dtype, device=x.device).transpose(1, 2)
    return torch.empty((B, T, D), dtype=x.dtype, device=x.device)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, bias, initial_state, resets, ctx.silu, ctx.reverse = inputs
    ctx.save_for_backward(x, weight, bias, initial_state, resets)
    # An unused final state then costs nothing in the backward.
    ctx.set_materialize_grads(False)


def _empty_state(x: Tensor, weight: Tensor, *rest: Any) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[1] - 1, x.shape[2])


def _empty_gradients(
    x: Tensor, weight: Tensor, bias: Tensor | None, initial_state: Tensor | None, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        weight.new_empty(weight.shape),
        weight.new_empty(0) if bias is None else bias.new_empty(bias.shape),
        x.new_empty(0) if initial_state is None else x.new_empty(initial_state.shape),
    )


def _fake_step(
    x: Tensor, weight: Tensor, bias: Tensor | None, pool: Tensor, slots: Tensor, silu: bool
) -> Tensor:
    return x.new_empty(x.shape)
