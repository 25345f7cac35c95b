"""Which implementation of an op runs: picked by device, checked, logged once.

Every op has the same three implementations, each in the module of that name in the op's folder:

=============  =========================  ====================================================
``reference``  any device                 the definition, a plain loop that autograd understands
``cpu``        CPU tensors                fast, also without a compiler
``gpu``        CUDA and ROCm tensors      Triton; with ``TRITON_INTERPRET=1`` CPU tensors as well
=============  =========================  ====================================================

Nothing falls back silently: asking for one that cannot run here raises ``BackendError``.
"""

import logging
import os
from collections.abc import Callable, Collection, Sequence
from importlib.util import find_spec
from typing import Any, Final

import torch
from torch import Tensor

from audiomamba.errors import BackendError

__all__ = [
    "IMPLEMENTATIONS",
    "INTERPRETED",
    "LIBRARY",
    "frame_by_frame",
    "pick",
    "step_named_rows",
]

IMPLEMENTATIONS: Final = ("reference", "cpu", "gpu")
BY_DEVICE: Final = {"cpu": "cpu", "cuda": "gpu", "meta": "cpu"}
HAS_TRITON: Final = find_spec("triton") is not None
# Triton decides when a kernel is decorated, so the variable counts at import time only.
INTERPRETED: Final = os.environ.get("TRITON_INTERPRET") == "1"

# Compute capability that kernels are compiled for where there is no GPU; see ``offline``.
offline: int | None = None

# All ops share one namespace, torch.ops.audiomamba. Library.define/impl costs a tenth of the host
# time that the custom_op decorator costs per call.
LIBRARY: Final = torch.library.Library("audiomamba", "FRAGMENT")

_log = logging.getLogger(__name__)
_logged: set[tuple[str, str, str]] = set()


def pick(op: str, device: torch.device, implementation: str | None = None) -> str:
    """Name the implementation that runs ``op`` on ``device``.

    Args:
        op: Name of the op, for messages.
        device: Where the op's tensors lie.
        implementation: One of ``IMPLEMENTATIONS``, or None for the one made for the device.

    Raises:
        BackendError: the implementation is unknown or cannot run here; the message says what
            is missing.
    """
    name = implementation or BY_DEVICE.get(device.type, "reference")
    missing = _missing(name, device.type)
    if missing is not None:
        raise BackendError(f"{op}: implementation {name!r} {missing}")
    # Logging would break the graph of torch.compile; the same call is logged when run eagerly.
    if not torch.compiler.is_compiling() and (op, device.type, name) not in _logged:
        _logged.add((op, device.type, name))
        _log.info("%s on %s: %s", op, device.type, name)
    return name


def step_named_rows(
    step_: Callable[..., Tensor], inputs: Sequence[Any], slots: int, timed: Collection[int]
) -> Tensor:
    """Take a step of an op for the rows whose slot is not negative; the others give zeros.

    For implementations that index the pool by the slots, which would count negative ones from its
    end. On a GPU the kernels see to it.

    Args:
        step_: The step of an implementation.
        inputs: Its arguments, the frame first.
        slots: Which of them are the slots, ``(M,)``.
        timed: Which of them, besides the slots, have M rows.
    """
    named = inputs[slots] >= 0
    if bool(named.all()):
        return step_(*inputs)
    out = torch.zeros_like(inputs[0])
    rows = {slots, *timed}
    picked = [x[named] if i in rows and x is not None else x for i, x in enumerate(inputs)]
    out[named] = step_(*picked)
    return out


def frame_by_frame(
    step_: Callable[..., Tensor], inputs: Sequence[Any], timed: Collection[int]
) -> Tensor:
    """Take the steps of a block of frames one after the other: what such a block means.

    For implementations that know a single frame. Those of a GPU keep the state in registers.

    Args:
        step_: A step of one frame.
        inputs: Its arguments with an axis of T frames behind the rows, the first of them timed.
        timed: Which of them have that axis; one may be None.
    """
    out = torch.empty_like(inputs[0])
    for t in range(out.shape[1]):
        frame = (x[:, t] if i in timed and x is not None else x for i, x in enumerate(inputs))
        out[:, t] = step_(*frame)
    return out


def _missing(name: str, device: str) -> str | None:
    """Say why an implementation cannot run on a device type, or None if it can."""
    if name == "reference" or (name == "cpu" and device in ("cpu", "meta")):
        return None
    if name == "cpu":
        return f"wants CPU tensors, got {device}; use 'gpu' or 'reference'"
    if name != "gpu":
        return f"is unknown; there are {', '.join(IMPLEMENTATIONS)}"
    if not HAS_TRITON:
        return "needs the package triton, which is not installed; use 'reference'"
    if device != "cuda" and not INTERPRETED and offline is None:
        return f"wants tensors on a GPU, got {device}; move them, or set TRITON_INTERPRET=1"
    return None
