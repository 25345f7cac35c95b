"""The step as PyTorch sees it; whole sequences are made of other operators."""

from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from audiomamba.kernels.dispatch import LIBRARY

__all__ = ["mamba3_step_"]

LIBRARY.define(
    "mamba3_step_(Tensor x, Tensor delta, Tensor A, Tensor mix, Tensor angle, Tensor B, Tensor C,"
    " Tensor(a!) turns, Tensor(b!) state, Tensor(c!) key, Tensor(d!) value, Tensor slots,"
    " Tensor? D, Tensor? z, Tensor? delta_bias, str implementation) -> Tensor"
)
mamba3_step_ = torch.ops.audiomamba.mamba3_step_.default


def _step_(*args: Any) -> Tensor:
    *inputs, implementation = args
    # At the first call, so that Triton is not imported where only the CPU path runs.
    module = import_module(f"audiomamba.kernels.mamba3.{implementation}")
    result: Tensor = module.step_(*inputs)
    return result


def _step_fake(x: Tensor, *rest: Any) -> Tensor:
    return torch.empty_like(x)


LIBRARY.impl("mamba3_step_", _step_, "CompositeExplicitAutograd")
torch.library.register_fake("audiomamba::mamba3_step_", _step_fake, lib=LIBRARY)
