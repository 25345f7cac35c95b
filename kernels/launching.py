"""How every kernel of the ops is started, and how to compile them before they are needed.

Triton compiles a kernel when it first sees its arguments' dtypes, constants and divisibility by
16. ``warmup`` makes the calls that a program is going to make with the launches replaced by
compilation, many at once, so that no request waits for a compiler.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from time import perf_counter
from typing import Any

__all__ = ["Warmed", "compilations", "launch", "warmup"]

# What a warm-up has asked the compiler for so far; None where kernels are really launched.
_asked: ContextVar[list[Any] | None] = ContextVar("audiomamba_kernels_asked", default=None)


@dataclass(frozen=True, slots=True)
class Warmed:
    """What ``warmup`` did.

    Attributes:
        kernels: What the calls launch, as Triton compiled it, each configuration once.
        compiled: Names of those that this process had not met before.
        seconds: Taken, at the wall.
    """

    kernels: tuple[Any, ...]
    compiled: tuple[str, ...]
    seconds: float


def launch(kernel: Any, grid: tuple[int, ...], *args: Any, **settings: Any) -> None:
    """Start a Triton kernel, or only compile it while ``warmup`` runs.

    Args:
        kernel: A function under ``triton.jit``.
        grid: Programs an axis.
        args: Its arguments in order.
        settings: Its constants, and how to compile it (``num_warps`` and so on).
    """
    asked = _asked.get()
    if asked is None:
        kernel[grid](*args, **settings)
    elif hasattr(kernel, "device_caches"):  # Triton's interpreter compiles nothing
        asked.append(kernel.warmup(*args, grid=grid, **settings))


def warmup(*calls: Callable[[], object], workers: int | None = None) -> Warmed:
    """Compile and load every kernel that ``calls`` launch, without launching one.

    A call is any function of no arguments that uses the ops, a whole model's step for one; it is
    made once, in this thread. What the ops return in it is uninitialised memory, and so is what
    they leave in a pool: name the null slot. Backward passes count as well.

    Triton tells three kinds of integers apart: 1, multiples of 16, and others. Sizes of one kind
    share their kernels, so calls with 1, 16 and 17 frames stand for all lengths, as far as they
    take the same rows of the block tables.

    Args:
        calls: All on the current device.
        workers: Kernels compiled at once; all processors if None.

    Returns:
        What was compiled: nothing on a CPU and in Triton's interpreter.

    Raises:
        Exception: whatever a call or the compiler raises.
    """
    import torch
    from triton import AsyncCompileMode

    began = perf_counter()
    asked: list[Any] = []
    token = _asked.set(asked)
    try:
        with (
            compilations() as compiled,
            # The autograd of a GPU's tensors has a thread of its own, which would not know.
            torch.autograd.set_multithreading_enabled(False),
            ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool,
            AsyncCompileMode(pool),
        ):
            for call in calls:
                call()
    finally:
        _asked.reset(token)
    kernels = {id(k): k for k in (a.result() if hasattr(a, "result") else a for a in asked)}
    for kernel in kernels.values():
        _load(kernel)
    return Warmed(tuple(kernels.values()), tuple(compiled), perf_counter() - began)


def _load(kernel: Any) -> None:
    """Put a compiled kernel on the device, which Triton else does at its first launch."""
    import torch

    if torch.cuda.is_available():
        kernel.run  # noqa: B018  a property that loads


@contextlib.contextmanager
def compilations() -> Iterator[list[str]]:
    """Names of the kernels that this process meets for the first time meanwhile.

    For a test or a log: in a warm process the list stays empty. A kernel found in Triton's cache
    on disk counts too, as it is read and loaded.
    """
    from triton import knobs

    names: list[str] = []
    before = knobs.runtime.jit_post_compile_hook

    def note(**given: Any) -> Any:
        names.append(given["fn"].name)
        return before(**given) if before is not None else None

    knobs.runtime.jit_post_compile_hook = note
    try:
        yield names
    finally:
        knobs.runtime.jit_post_compile_hook = before
