"""``norm`` as operators of torch: schema, shapes for tracing, gradient."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from audiomamba.kernels.dispatch import LIBRARY

__all__ = ["register"]

ARGUMENTS = "Tensor x, Tensor weight, Tensor? residual, Tensor? gate, float eps"
OPTIONS = "bool norm_before_gate, int group"


def register(
    implementation: str,
    forward: Callable[..., tuple[Tensor, Tensor]],
    backward: Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]],
) -> Callable[..., tuple[Tensor, Tensor]]:
    """Register an implementation as an operator and return it.

    Args:
        implementation: ``"cpu"`` or ``"gpu"``; becomes part of the operators' names.
        forward: Takes x, weight, residual, gate, eps, norm_before_gate and group, returns y and r.
        backward: Takes the gradients of y and r (the second may be None), r, weight, gate, eps,
            norm_before_gate, group and the dtype of x; returns the gradients of x, weight, the
            residual (always, it is the gradient of r's sum) and the gate (empty without one).
    """
    name, back = f"norm_{implementation}", f"norm_{implementation}_backward"
    LIBRARY.define(f"{name}({ARGUMENTS}, {OPTIONS}) -> (Tensor, Tensor)")
    LIBRARY.define(
        f"{back}(Tensor grad_y, Tensor? grad_r, Tensor r, Tensor weight, Tensor? gate, float eps,"
        f" {OPTIONS}, ScalarType dtype, bool residual) -> (Tensor, Tensor, Tensor, Tensor)"
    )
    LIBRARY.impl(name, forward, "CompositeExplicitAutograd")
    LIBRARY.impl(back, backward, "CompositeExplicitAutograd")
    torch.library.register_fake(f"audiomamba::{name}", _fake, lib=LIBRARY)
    torch.library.register_fake(f"audiomamba::{back}", _fake_backward, lib=LIBRARY)
    backward_op = getattr(torch.ops.audiomamba, back).default

    def gradient(ctx: Any, grad_y: Tensor | None, grad_r: Tensor | None) -> tuple[Any, ...]:
        r, weight, gate = ctx.saved_tensors
        if grad_y is None:
            grad_y = torch.zeros(r.shape, dtype=ctx.dtype, device=r.device)
        dx, dweight, dresidual, dgate = backward_op(
            grad_y, grad_r, r, weight, gate, *ctx.options, ctx.dtype, ctx.residual
        )
        return (
            dx,
            dweight,
            dresidual if ctx.residual else None,
            None if gate is None else dgate,
            None,
            None,
            None,
        )

    torch.library.register_autograd(
        f"audiomamba::{name}", gradient, setup_context=_setup_context, lib=LIBRARY
    )
    op: Callable[..., tuple[Tensor, Tensor]] = getattr(torch.ops.audiomamba, name).default
    return op


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, residual, gate, eps, norm_before_gate, group = inputs
    ctx.save_for_backward(output[1], weight, gate)
    ctx.options = (eps, norm_before_gate, group)
    ctx.dtype = x.dtype
    ctx.residual = residual is not None
    # An unused r then costs nothing in the backward.
    ctx.set_materialize_grads(False)


def _fake(
    x: Tensor,
    weight: Tensor,
    residual: Tensor | None,
    gate: Tensor | None,
    eps: float,
    norm_before_gate: bool,
    group: int,
) -> tuple[Tensor, Tensor]:
    wide = torch.promote_types(x.dtype, torch.float32)
    return x.new_empty(x.shape), x.new_empty(x.shape, dtype=wide)


def _fake_backward(
    grad_y: Tensor,
    grad_r: Tensor | None,
    r: Tensor,
    weight: Tensor,
    gate: Tensor | None,
    eps: float,
    norm_before_gate: bool,
    group: int,
    dtype: torch.dtype,
    residual: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        r.new_empty(r.shape, dtype=dtype),
        weight.new_empty(weight.shape),
        r.new_empty(r.shape if residual else 0),
        r.new_empty(0) if gate is None else gate.new_empty(gate.shape),
    )
