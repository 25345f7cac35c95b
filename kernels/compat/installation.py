"""Put the functions where code written for mamba-ssm and causal-conv1d imports them from."""

import sys
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Final

from audiomamba.errors import BackendError
from audiomamba.kernels.compat import (
    causal_conv1d,
    causal_conv1d_varlen,
    layernorm_gated,
    mamba_inner,
    selective_scan,
    selective_state_update,
    ssd_combined,
)

__all__ = ["install"]

MODULES: Final[dict[str, tuple[ModuleType, ...]]] = {
    "causal_conv1d": (causal_conv1d,),
    "causal_conv1d.causal_conv1d_interface": (causal_conv1d,),
    "causal_conv1d.causal_conv1d_varlen": (causal_conv1d_varlen,),
    "mamba_ssm": (selective_scan, mamba_inner),
    "mamba_ssm.ops": (),
    "mamba_ssm.ops.selective_scan_interface": (selective_scan, mamba_inner),
    "mamba_ssm.ops.triton": (),
    "mamba_ssm.ops.triton.layernorm_gated": (layernorm_gated,),
    "mamba_ssm.ops.triton.selective_state_update": (selective_state_update,),
    "mamba_ssm.ops.triton.ssd_combined": (ssd_combined,),
}


def install() -> None:
    """Make ``import mamba_ssm`` and ``import causal_conv1d`` find the functions of this package.

    Call it before what imports them, ``transformers`` for one. Only the functions are there, not
    those packages' modules and layers.

    Raises:
        BackendError: one of the packages is itself installed.
    """
    for package in ("mamba_ssm", "causal_conv1d"):
        known = sys.modules.get(package)
        if known is not None and hasattr(known, "from_audiomamba"):
            return
        if known is not None or find_spec(package) is not None:
            raise BackendError(f"compat.install: {package} itself is installed; remove it first")
    for name, sources in MODULES.items():
        module: Any = ModuleType(name, "Functions of audiomamba.kernels.compat.")
        module.from_audiomamba = True
        module.__path__ = []
        for source in sources:
            for function in source.__all__:
                setattr(module, function, getattr(source, function))
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
