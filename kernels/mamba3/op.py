"""Mamba-3 as PyTorch sees it: the step, and for whole sequences on a GPU what comes before and
after the duality."""

from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from audiomamba.kernels.dispatch import LIBRARY, frame_by_frame

__all__ = ["mamba3_emit", "mamba3_step_", "mamba3_turn"]

LIBRARY.define(
    "mamba3_step_(Tensor x, Tensor delta, Tensor A, Tensor mix, Tensor angle, Tensor B, Tensor C,"
    " Tensor(a!) turns, Tensor(b!) state, Tensor(c!) key, Tensor(d!) value, Tensor slots,"
    " Tensor? D, Tensor? z, Tensor? delta_bias, str implementation) -> Tensor"
)
# Step sizes with both weights, log-decays, what is to come off the output a unit of x, all
# (B, T, H) float32; keys and queries (B, T, H, N) rounded to ``taken``, float32 where gradients are
# to be ``save``d for; the last angles (B, H, R), and all of them where saved.
_TURN = (
    "Tensor delta, Tensor A, Tensor mix, Tensor angle, Tensor B, Tensor C, Tensor? delta_bias,"
    " Tensor first, Tensor? resets"
)
LIBRARY.define(
    f"mamba3_turn({_TURN}, ScalarType taken, bool save)"
    " -> (Tensor size, Tensor log, Tensor take, Tensor k, Tensor q, Tensor last, Tensor turns)"
)
LIBRARY.define(
    "mamba3_turn_backward(Tensor dsize, Tensor dlog, Tensor dtake, Tensor dk, Tensor dq,"
    f" Tensor? dlast, Tensor k, Tensor q, Tensor turns, {_TURN})"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)
# (y + (D - take) x) silu(z), contiguous.
LIBRARY.define("mamba3_emit(Tensor y, Tensor x, Tensor take, Tensor? D, Tensor? z) -> Tensor")
LIBRARY.define(
    "mamba3_emit_backward(Tensor dout, Tensor y, Tensor x, Tensor take, Tensor? D, Tensor? z)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)"
)
STEP_GATE = 13  # where z stands among the arguments of a step; its inputs are the first seven
mamba3_step_ = torch.ops.audiomamba.mamba3_step_.default
mamba3_turn = torch.ops.audiomamba.mamba3_turn.default
mamba3_emit = torch.ops.audiomamba.mamba3_emit.default


def _step_(*args: Any) -> Tensor:
    *inputs, implementation = args
    # At the first call, so that Triton is not imported where only the CPU path runs.
    module = import_module(f"audiomamba.kernels.mamba3.{implementation}")
    if implementation == "gpu" or inputs[0].ndim == 3:
        result: Tensor = module.step_(*inputs)
        return result
    return frame_by_frame(module.step_, inputs, (*range(7), STEP_GATE))


def _step_fake(x: Tensor, *rest: Any) -> Tensor:
    return torch.empty_like(x)


LIBRARY.impl("mamba3_step_", _step_, "CompositeExplicitAutograd")
torch.library.register_fake("audiomamba::mamba3_step_", _step_fake, lib=LIBRARY)


def _sequence(function: str) -> Any:
    def run(*args: Any) -> Any:
        module = import_module("audiomamba.kernels.mamba3.sequence")
        return getattr(module, function)(*args)

    return run


def _turn_fake(
    delta: Tensor, A: Tensor, mix: Tensor, angle: Tensor, B: Tensor, *rest: Any
) -> tuple[Tensor, ...]:
    taken, save = rest[-2:]
    per_step = [delta.new_empty(delta.shape, dtype=torch.float32) for _ in range(3)]
    kept = [B.new_empty(B.shape, dtype=torch.float32 if save else taken) for _ in range(2)]
    last = B.new_empty((B.shape[0], B.shape[2], angle.shape[2]), dtype=torch.float32)
    shape = (*B.shape[:3], angle.shape[2]) if save else (0,)
    return (*per_step, *kept, last, B.new_empty(shape, dtype=torch.float32))


def _turn_backward_fake(*args: Any) -> tuple[Tensor, ...]:
    return tuple(args[9].new_empty(0) if x is None else x.new_empty(x.shape) for x in args[9:17])


def _emit_fake(y: Tensor, x: Tensor, *rest: Any) -> Tensor:
    return x.new_empty(x.shape)


def _emit_backward_fake(dout: Tensor, *given: Tensor | None) -> tuple[Tensor, ...]:
    return tuple(dout.new_empty(0) if x is None else x.new_empty(x.shape) for x in given)


for _name, _fake in (
    ("turn", _turn_fake),
    ("turn_backward", _turn_backward_fake),
    ("emit", _emit_fake),
    ("emit_backward", _emit_backward_fake),
):
    LIBRARY.impl(f"mamba3_{_name}", _sequence(_name), "CompositeExplicitAutograd")
    torch.library.register_fake(f"audiomamba::mamba3_{_name}", _fake, lib=LIBRARY)


def _keep_turn(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, _, _ = inputs
    _, _, _, k, q, _, turns = output
    ctx.save_for_backward(k, q, turns, *tensors)
    ctx.mark_non_differentiable(turns)


def _differentiate_turn(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
    found = torch.ops.audiomamba.mamba3_turn_backward(*gradients[:6], *ctx.saved_tensors)
    return (*_asked_for(ctx, found), None, None, None)


def _keep_emit(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate_emit(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
    return _asked_for(ctx, torch.ops.audiomamba.mamba3_emit_backward(dout, *ctx.saved_tensors))


def _asked_for(ctx: Any, gradients: tuple[Tensor, ...]) -> tuple[Tensor | None, ...]:
    wanted = ctx.needs_input_grad
    return tuple(g if wanted[i] else None for i, g in enumerate(gradients))


torch.library.register_autograd(
    "audiomamba::mamba3_turn", _differentiate_turn, setup_context=_keep_turn, lib=LIBRARY
)
torch.library.register_autograd(
    "audiomamba::mamba3_emit", _differentiate_emit, setup_context=_keep_emit, lib=LIBRARY
)
