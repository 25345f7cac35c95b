"""``lti`` frame by frame and in chunks, as operators of torch: schema, tracing, gradient.

Frame by frame of two implementations: ``gpu`` in Triton, ``compiled`` out of the native library on
a CPU. Chunks are Triton's alone.
"""

from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from audiomamba.kernels.dispatch import LIBRARY

__all__ = ["chunked", "empty_like_layout", "recurrence", "recurrence_step_"]

# a, b and c are Ā (float64), B̄ and C (float32), each (D, N, 2).
SYSTEM = "Tensor a, Tensor b, Tensor c, Tensor? skip"
ARGUMENTS = f"Tensor u, {SYSTEM}, Tensor? initial_state, Tensor? resets, str implementation"
LIBRARY.define(f"lti_recurrence({ARGUMENTS}) -> (Tensor, Tensor)")
LIBRARY.define(
    f"lti_recurrence_backward(Tensor dy, Tensor? dstate, {ARGUMENTS})"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)
LIBRARY.define(f"lti_recurrence_step_(Tensor u, {SYSTEM}, Tensor(a!) pool, Tensor slots) -> Tensor")
CHUNKED = f"Tensor u, {SYSTEM}, Tensor? initial_state"
LIBRARY.define(f"lti_chunks({CHUNKED}) -> (Tensor, Tensor, Tensor)")
LIBRARY.define(
    f"lti_chunks_backward(Tensor dy, {CHUNKED}, Tensor starts)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)
chunked = torch.ops.audiomamba.lti_chunks.default
chunked_backward = torch.ops.audiomamba.lti_chunks_backward.default
recurrence = torch.ops.audiomamba.lti_recurrence.default
recurrence_backward = torch.ops.audiomamba.lti_recurrence_backward.default
recurrence_step_ = torch.ops.audiomamba.lti_recurrence_step_.default


def _module(implementation: str) -> ModuleType:
    # At the first call, so that Triton is not imported where it does not run.
    return import_module(f"audiomamba.kernels.lti.{implementation}")


def _forward(*args: Any) -> tuple[Tensor, Tensor]:
    *inputs, implementation = args
    result: tuple[Tensor, Tensor] = _module(implementation).forward(*inputs)
    return result


def _backward(*args: Any) -> tuple[Tensor, ...]:
    *inputs, implementation = args
    gradients: tuple[Tensor, ...] = _module(implementation).backward(*inputs)
    return gradients


def _step_(*args: Any) -> Tensor:
    result: Tensor = _module("gpu").step_(*args)
    return result


def _chunks_forward(*args: Any) -> tuple[Tensor, ...]:
    with torch.cuda.device_of(args[0]):
        results: tuple[Tensor, ...] = _module("chunks").forward(*args)
    return results


def _chunks_backward(*args: Any) -> tuple[Tensor, ...]:
    with torch.cuda.device_of(args[0]):
        gradients: tuple[Tensor, ...] = _module("chunks").backward(*args)
    return gradients


def empty_like_layout(u: Tensor) -> Tensor:
    """Allocate like ``(B, T, D)`` u: packed, time fastest where it is in u, else channels."""
    B, T, D = u.shape
    if u.stride(1) < u.stride(2):
        return torch.empty((B, D, T), dtype=u.dtype, device=u.device).transpose(1, 2)
    return torch.empty((B, T, D), dtype=u.dtype, device=u.device)


def _fake(u: Tensor, a: Tensor, b: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return _empty_output(u, rest[-1]), b.new_empty(u.shape[0], *b.shape)


def _empty_output(u: Tensor, implementation: str) -> Tensor:
    """On a CPU in the very order of u: a product that reads it then has nothing to copy."""
    return empty_like_layout(u) if implementation == "gpu" else torch.empty_like(u)


def _fake_backward(
    dy: Tensor,
    dstate: Tensor | None,
    u: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    skip: Tensor | None,
    initial_state: Tensor | None,
    resets: Tensor | None,
    implementation: str,
) -> tuple[Tensor, ...]:
    B, _, D = u.shape
    return (
        _empty_output(u, implementation),
        a.new_empty(a.shape),
        b.new_empty(b.shape),
        c.new_empty(c.shape),
        b.new_empty(D),
        b.new_empty(B, *b.shape),
    )


def _fake_chunks(u: Tensor, a: Tensor, b: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    D, N, parts = b.shape
    blocks = _module("chunks").blocks_of(u.shape[1], u.device)
    last = b.new_empty(u.shape[0], *b.shape)
    return empty_like_layout(u), last, b.new_empty(u.shape[0], D, blocks - 1, N, parts)


def _fake_chunks_backward(
    dy: Tensor, u: Tensor, a: Tensor, b: Tensor, c: Tensor, *rest: Any
) -> tuple[Tensor, ...]:
    skip, initial_state, _ = rest
    return _fake_backward(dy, None, u, a, b, c, skip, initial_state, None, "gpu")


def _fake_step(u: Tensor, *rest: Any) -> Tensor:
    return u.new_empty(u.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.implementation = inputs
    ctx.save_for_backward(*tensors)
    # An unused final state then costs nothing in the backward.
    ctx.set_materialize_grads(False)


def _gradient(ctx: Any, dy: Tensor | None, dstate: Tensor | None) -> tuple[Tensor | None, ...]:
    u, a, b, c, skip, initial_state, resets = ctx.saved_tensors
    if dy is None:
        dy = torch.zeros_like(u)
    du, da, db, dc, dskip, dfirst = recurrence_backward(
        dy, dstate, u, a, b, c, skip, initial_state, resets, ctx.implementation
    )
    return (
        du,
        da,
        db,
        dc,
        None if skip is None else dskip,
        None if initial_state is None else dfirst,
        None,
        None,
    )


def _setup_chunks(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs, output[2])
    ctx.mark_non_differentiable(output[2])
    ctx.set_materialize_grads(False)


def _chunks_gradient(
    ctx: Any, dy: Tensor | None, dstate: Tensor | None, _: Tensor | None
) -> tuple[Tensor | None, ...]:
    u, a, b, c, skip, initial_state, starts = ctx.saved_tensors
    if dy is None:
        dy = torch.zeros_like(u)
    if dstate is None:
        found = chunked_backward(dy, u, a, b, c, skip, initial_state, starts)
    else:  # seldom: training in pieces whose states keep their gradients
        found = recurrence_backward(dy, dstate, u, a, b, c, skip, initial_state, None, "gpu")
    du, da, db, dc, dskip, dfirst = found
    return (
        du,
        da,
        db,
        dc,
        None if skip is None else dskip,
        None if initial_state is None else dfirst,
    )


for _name, _run, _trace in (
    ("lti_recurrence", _forward, _fake),
    ("lti_recurrence_backward", _backward, _fake_backward),
    ("lti_recurrence_step_", _step_, _fake_step),
    ("lti_chunks", _chunks_forward, _fake_chunks),
    ("lti_chunks_backward", _chunks_backward, _fake_chunks_backward),
):
    LIBRARY.impl(_name, _run, "CompositeExplicitAutograd")
    torch.library.register_fake(f"audiomamba::{_name}", _trace, lib=LIBRARY)
torch.library.register_autograd(
    "audiomamba::lti_recurrence", _gradient, setup_context=_setup_context, lib=LIBRARY
)
torch.library.register_autograd(
    "audiomamba::lti_chunks", _chunks_gradient, setup_context=_setup_chunks, lib=LIBRARY
)
