"""The step of a layer as PyTorch sees it: schema, and shapes for tracing."""

from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from audiomamba.kernels.dispatch import LIBRARY

__all__ = ["layer_step_"]

_WEIGHTS = (
    "Tensor norm, Tensor in_proj, Tensor conv, Tensor conv_bias, Tensor x_proj, Tensor dt_proj,"
    " Tensor dt_bias, Tensor A_log, Tensor skip, Tensor out_proj"
)
LIBRARY.define(
    f"layer_step_(Tensor x, Tensor? residual, {_WEIGHTS}, Tensor(a!) conv_pool, Tensor(b!) pool,"
    " Tensor slots, float eps, str implementation) -> (Tensor out, Tensor stream)"
)
layer_step_ = torch.ops.audiomamba.layer_step_.default


def _step_(*args: Any) -> tuple[Tensor, Tensor]:
    *inputs, implementation = args
    # At the first call, so that Triton is not imported where only the definition runs.
    module = import_module(f"audiomamba.kernels.layer_step.{implementation}")
    result: tuple[Tensor, Tensor] = module.step_(*inputs)
    return result


def _fake(x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.shape, dtype=torch.float32)


LIBRARY.impl("layer_step_", _step_, "CompositeExplicitAutograd")
torch.library.register_fake("audiomamba::layer_step_", _fake, lib=LIBRARY)
