"""The ops as PyTorch sees them: schemas, shapes for tracing, gradients."""

from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from audiomamba.kernels.dispatch import LIBRARY, frame_by_frame, step_named_rows
from audiomamba.kernels.native import tensors

__all__ = ["scan_forward", "scan_step_"]

# The arguments that both directions take, in one order everywhere below.
_INPUTS = (
    "Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, "
    "Tensor? delta_bias, Tensor? initial_state, Tensor? resets, Tensor? cu_seqlens, "
    "bool softplus, bool reverse"
)
LIBRARY.define(
    f"scan_forward({_INPUTS}, bool save, str implementation)"
    " -> (Tensor out, Tensor state, Tensor checkpoints)"
)
LIBRARY.define(
    f"scan_backward(Tensor? dout, Tensor? dstate, Tensor checkpoints, {_INPUTS},"
    " str implementation)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)
LIBRARY.define(
    "scan_step_(Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor(a!) pool,"
    " Tensor slots, Tensor? D, Tensor? z, Tensor? delta_bias, bool softplus,"
    " str implementation) -> Tensor"
)
scan_forward = torch.ops.audiomamba.scan_forward.default
scan_backward = torch.ops.audiomamba.scan_backward.default
scan_step_ = torch.ops.audiomamba.scan_step_.default

CHECKPOINT_STEPS = 64  # a state is kept before every so many steps; 1 byte a sample at N = 16
NUM_GRADIENTS = 9  # of u … initial_state; resets and cu_seqlens have none


def _module(implementation: str) -> ModuleType:
    # At the first call, so that Triton is not imported where only the CPU path runs.
    return import_module(f"audiomamba.kernels.scan.{implementation}")


def _module_for(implementation: str, u: Tensor) -> ModuleType:
    """For whole sequences: on a CPU the native library, where it was built and does this."""
    compiled = implementation == "cpu" and tensors.runs(u)
    return _module("compiled" if compiled else implementation)


def _forward(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    *inputs, implementation = args
    module = _module_for(implementation, inputs[0])
    result: tuple[Tensor, Tensor, Tensor] = module.forward(*inputs)
    return result


def _backward(*args: Any) -> tuple[Tensor, ...]:
    *inputs, implementation = args
    differentiated = inputs[3 : 3 + NUM_GRADIENTS]
    module = _module_for(implementation, differentiated[0])
    gradients: tuple[Tensor, ...] = module.backward(*inputs)
    return tuple(_laid_out_like(x, g) for x, g in zip(differentiated, gradients, strict=True))


def _laid_out_like(x: Tensor | None, gradient: Tensor) -> Tensor:
    """A gradient with the strides that tracing was promised: those of ``torch.empty_like(x)``.

    A compiled graph addresses memory by them. Copies only where an implementation chose others.
    """
    if x is None or gradient.stride() == x.stride():
        return gradient
    promised = torch.empty_like(x)
    return gradient if gradient.stride() == promised.stride() else promised.copy_(gradient)


def _step_(*args: Any) -> Tensor:
    *inputs, implementation = args
    step_ = _module(implementation).step_
    if implementation == "gpu":
        result: Tensor = step_(*inputs)
        return result
    timed = (0, 1, 3, 4, 8)

    def frame(*given: Any) -> Tensor:
        return step_named_rows(step_, given, slots=6, timed=timed)

    return frame(*inputs) if inputs[0].ndim == 2 else frame_by_frame(frame, inputs, timed)


LIBRARY.impl("scan_forward", _forward, "CompositeExplicitAutograd")
LIBRARY.impl("scan_backward", _backward, "CompositeExplicitAutograd")
LIBRARY.impl("scan_step_", _step_, "CompositeExplicitAutograd")


def state_rows(u: Tensor, cu_seqlens: Tensor | None) -> int:
    """Number of sequences, each with a state of its own."""
    return u.shape[0] if cu_seqlens is None else cu_seqlens.shape[0] - 1


def state_dtype(u: Tensor) -> torch.dtype:
    """What the state and all sums are kept in."""
    return torch.float64 if u.dtype == torch.float64 else torch.float32


def checkpoint_rows(u: Tensor, cu_seqlens: Tensor | None, spacing: int) -> int:
    """How many states a forward pass keeps for its backward, one before every ``spacing`` steps.

    A sequence that starts at ``s`` as number ``i`` of a packed row owns those from
    ``s // spacing + i`` on, which leaves it enough room whatever the other lengths are.
    """
    rows, steps, _ = u.shape
    if cu_seqlens is not None:
        return steps // spacing + cu_seqlens.shape[0] - 1
    return rows * (-(-steps // spacing))


def empty_checkpoints(u: Tensor, A: Tensor, cu_seqlens: Tensor | None, save: bool) -> Tensor:
    """Memory for the checkpoints, without a row if none are kept."""
    rows = checkpoint_rows(u, cu_seqlens, CHECKPOINT_STEPS) if save else 0
    return u.new_empty((rows, *A.shape), dtype=state_dtype(u))


def empty_gradients(*inputs: Tensor | None) -> tuple[Tensor, ...]:
    """Memory for the gradients of inputs, laid out like them; no element for one not given."""
    first = next(x for x in inputs if x is not None)
    return tuple(first.new_empty(0) if x is None else torch.empty_like(x) for x in inputs)


def _forward_fake(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    cu_seqlens, save, implementation = rest[6], *rest[9:]
    state = u.new_empty((state_rows(u, cu_seqlens), *A.shape), dtype=state_dtype(u))
    if implementation == "cpu" and tensors.runs(u):
        kept = _module("compiled").empty_checkpoints(u, A, B, cu_seqlens, save)
    else:
        kept = empty_checkpoints(u, A, cu_seqlens, save)
    return torch.empty_like(u), state, kept


def _backward_fake(
    dout: Tensor | None, dstate: Tensor | None, checkpoints: Tensor, *inputs: Any
) -> tuple[Tensor, ...]:
    return empty_gradients(*inputs[:NUM_GRADIENTS])


def _step_fake(u: Tensor, *rest: Any) -> Tensor:
    return torch.empty_like(u)


torch.library.register_fake("audiomamba::scan_forward", _forward_fake, lib=LIBRARY)
torch.library.register_fake("audiomamba::scan_backward", _backward_fake, lib=LIBRARY)
torch.library.register_fake("audiomamba::scan_step_", _step_fake, lib=LIBRARY)


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, softplus, reverse, save, implementation = inputs
    ctx.save_for_backward(output[2], *tensors)
    ctx.settings = (softplus, reverse, implementation)
    ctx.mark_non_differentiable(output[2])
    ctx.set_materialize_grads(False)


def _differentiate(
    ctx: Any, dout: Tensor | None, dstate: Tensor | None, _: Tensor | None
) -> tuple[Tensor | None, ...]:
    checkpoints, *tensors = ctx.saved_tensors
    gradients = scan_backward(dout, dstate, checkpoints, *tensors, *ctx.settings)
    wanted = ctx.needs_input_grad
    given = [g if wanted[i] else None for i, g in enumerate(gradients)]
    return (*given, *[None] * 6)


torch.library.register_autograd(
    "audiomamba::scan_forward", _differentiate, setup_context=_keep_for_backward, lib=LIBRARY
)
