"""The ops as PyTorch sees them: schemas, shapes for tracing, gradients."""

from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from audiomamba.kernels.blocks import pick_blocks
from audiomamba.kernels.dispatch import LIBRARY, frame_by_frame, step_named_rows

__all__ = ["ssd_forward", "ssd_step_"]

# The arguments that both directions take, in one order everywhere below.
_INPUTS = (
    "Tensor x, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, "
    "Tensor? delta_bias, Tensor? initial_state, Tensor? resets, Tensor? cu_seqlens, "
    "bool softplus, float low, float high"
)
LIBRARY.define(
    f"ssd_forward({_INPUTS}, bool save, str implementation)"
    " -> (Tensor out, Tensor state, Tensor checkpoints)"
)
LIBRARY.define(
    f"ssd_backward(Tensor? dout, Tensor? dstate, Tensor checkpoints, {_INPUTS},"
    " str implementation)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)
LIBRARY.define(
    "ssd_step_(Tensor x, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor(a!) pool,"
    " Tensor slots, Tensor? D, Tensor? z, Tensor? delta_bias, bool softplus, float low,"
    " float high, str implementation) -> Tensor"
)
ssd_forward = torch.ops.audiomamba.ssd_forward.default
ssd_backward = torch.ops.audiomamba.ssd_backward.default
ssd_step_ = torch.ops.audiomamba.ssd_step_.default

MOST_STEPS = 256  # of a chunk, and most channels or states of a program
NUM_GRADIENTS = 9  # of x … initial_state; resets and cu_seqlens have none


def chunk_steps(x: Tensor, B: Tensor) -> int:
    """Steps computed as one block of products; a state is kept before each for the backward."""
    states = 1 << (B.shape[-1] - 1).bit_length()
    return pick_blocks("ssd.chunk", x.device, bytes=x.element_size(), states=states)["steps"]


def _module(implementation: str) -> ModuleType:
    # At the first call, so that Triton is not imported where only the CPU path runs.
    return import_module(f"audiomamba.kernels.ssd.{implementation}")


def _forward(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    *inputs, implementation = args
    out, state, kept = _module(implementation).forward(*map(near, inputs))
    return _laid_out_like(inputs[0], out), state, kept


def _backward(*args: Any) -> tuple[Tensor, ...]:
    *inputs, implementation = args
    gradients: tuple[Tensor, ...] = _module(implementation).backward(*map(near, inputs))
    differentiated = inputs[3 : 3 + NUM_GRADIENTS]
    return tuple(_laid_out_like(x, g) for x, g in zip(differentiated, gradients, strict=True))


def near(x: Any) -> Any:
    """An argument; a dense copy where offsets inside a chunk would not fit the kernels' 32 bits."""
    if not isinstance(x, Tensor) or x.ndim < 3:
        return x
    sizes = zip(x.shape[1:], x.stride()[1:], strict=True)
    reach = sum((min(size, MOST_STEPS) - 1) * stride for size, stride in sizes)
    return x.contiguous() if reach >= 2**31 else x


def _laid_out_like(x: Tensor | None, result: Tensor) -> Tensor:
    """A result with the strides that tracing was promised, ``torch.empty_like(x)``'s; a compiled
    graph addresses memory by them. A copy only where an implementation chose others."""
    if x is None or result.stride() == x.stride():
        return result
    promised = torch.empty_like(x)
    return result if result.stride() == promised.stride() else promised.copy_(result)


def _step_(*args: Any) -> Tensor:
    *inputs, implementation = args
    step_ = _module(implementation).step_
    if implementation == "gpu":
        result: Tensor = step_(*inputs)
        return result
    timed = (0, 1, 3, 4, 8, *((2,) if inputs[2].ndim > 1 else ()))  # one decay a row

    def frame(*given: Any) -> Tensor:
        return step_named_rows(step_, given, slots=6, timed=timed)

    return frame(*inputs) if inputs[0].ndim == 3 else frame_by_frame(frame, inputs, timed)


LIBRARY.impl("ssd_forward", _forward, "CompositeExplicitAutograd")
LIBRARY.impl("ssd_backward", _backward, "CompositeExplicitAutograd")
LIBRARY.impl("ssd_step_", _step_, "CompositeExplicitAutograd")


def state_dtype(x: Tensor) -> torch.dtype:
    """What the state and all sums are kept in."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def state_rows(x: Tensor, cu_seqlens: Tensor | None) -> int:
    """Number of sequences, each with a state of its own."""
    return x.shape[0] if cu_seqlens is None else cu_seqlens.shape[0] - 1


def empty_state(x: Tensor, B: Tensor, cu_seqlens: Tensor | None) -> Tensor:
    """Memory for the last state of every sequence."""
    shape = (state_rows(x, cu_seqlens), *x.shape[2:], B.shape[3])
    return x.new_empty(shape, dtype=state_dtype(x))


def num_chunks(x: Tensor, B: Tensor, cu_seqlens: Tensor | None) -> int:
    """Number of chunks, the last of each sequence cut short.

    A sequence that starts at ``s`` as number ``i`` of a packed row owns those from
    ``s // chunk_steps + i`` on, which leaves it enough room whatever the other lengths are.
    """
    rows, steps = x.shape[:2]
    if cu_seqlens is not None:
        return steps // chunk_steps(x, B) + cu_seqlens.shape[0] - 1
    return rows * (-(-steps // chunk_steps(x, B)))


def empty_checkpoints(
    x: Tensor, B: Tensor, cu_seqlens: Tensor | None, save: bool, implementation: str
) -> Tensor:
    """Memory for the states before the chunks, in the dtype the products read them in.

    Without a row if none are kept: the CPU path computes them again.
    """
    rows = num_chunks(x, B, cu_seqlens) if save and implementation == "gpu" else 0
    return x.new_empty((rows, *x.shape[2:], B.shape[3]))


def empty_gradients(*inputs: Tensor | None) -> tuple[Tensor, ...]:
    """Memory for the gradients of inputs, laid out like them; no element for one not given."""
    first = next(x for x in inputs if x is not None)
    return tuple(first.new_empty(0) if x is None else torch.empty_like(x) for x in inputs)


def _forward_fake(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    cu_seqlens, save, implementation = rest[6], rest[10], rest[11]
    kept = empty_checkpoints(x, B, cu_seqlens, save, implementation)
    return torch.empty_like(x), empty_state(x, B, cu_seqlens), kept


def _backward_fake(
    dout: Tensor | None, dstate: Tensor | None, checkpoints: Tensor, *inputs: Any
) -> tuple[Tensor, ...]:
    return empty_gradients(*inputs[:NUM_GRADIENTS])


def _step_fake(x: Tensor, *rest: Any) -> Tensor:
    return torch.empty_like(x)


torch.library.register_fake("audiomamba::ssd_forward", _forward_fake, lib=LIBRARY)
torch.library.register_fake("audiomamba::ssd_backward", _backward_fake, lib=LIBRARY)
torch.library.register_fake("audiomamba::ssd_step_", _step_fake, lib=LIBRARY)


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, softplus, low, high, save, implementation = inputs
    ctx.save_for_backward(output[2], *tensors)
    ctx.settings = (softplus, low, high, implementation)
    ctx.mark_non_differentiable(output[2])
    ctx.set_materialize_grads(False)


def _differentiate(
    ctx: Any, dout: Tensor | None, dstate: Tensor | None, _: Tensor | None
) -> tuple[Tensor | None, ...]:
    checkpoints, *tensors = ctx.saved_tensors
    gradients = ssd_backward(dout, dstate, checkpoints, *tensors, *ctx.settings)
    wanted = ctx.needs_input_grad
    given = [g if wanted[i] else None for i, g in enumerate(gradients)]
    return (*given, *[None] * 7)


torch.library.register_autograd(
    "audiomamba::ssd_forward", _differentiate, setup_context=_keep_for_backward, lib=LIBRARY
)
