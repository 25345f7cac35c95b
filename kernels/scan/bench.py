"""Time the scan: ``python -m audiomamba.kernels.scan.bench``.

On a GPU: microseconds of the forward, and of forward and backward, of the shapes in
``cases.SPEED``, beside the floor, which is the bytes that must move at the speed of a device
copy. Elsewhere: the CPU path beside the reference, in CPU time of one thread.
"""

import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from audiomamba.kernels.scan import op, scan
from audiomamba.kernels.scan.cases import SPEED, Case, Speed, inputs

__all__ = ["main"]

CPU_CASES = (
    Case(B=4, T=512, D=512, N=16),
    Case(B=1, T=8, D=768, N=16),
    Case(B=8, T=8, D=768, N=16),
)


def main() -> None:
    """Print one line a case."""
    if torch.cuda.is_available():
        _gpu()
    else:
        _cpu()


def _gpu() -> None:
    import triton

    copied = torch.empty(1 << 28, device="cuda")
    rate = 2 * copied.nbytes / _microseconds(lambda: copied.clone(), copied)  # bytes a µs
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, triton {triton.__version__}")
    print(f"copy {rate / 1e6:.2f} TB/s; bfloat16 inputs, float32 A; microseconds, median of 20")
    print(f"{'case':12} {'B, T, D, N':>20} {'layout':>9} {'forward':>14} {'both':>14}")
    for speed in SPEED:
        for time_contiguous in (True, False):
            args = _arguments(speed, time_contiguous)
            forward = _microseconds(partial(op.scan_forward, *args, False, "gpu"), copied)
            both = _microseconds(partial(_both, args), copied)
            shape = f"{speed.B}, {speed.T}, {speed.D}, {speed.N}"
            cells = [
                f"{took:7.0f} ({speed.floor_bytes(backward) / rate / took:4.0%})"
                for backward, took in ((False, forward), (True, both))
            ]
            layout = "time" if time_contiguous else "channels"
            print(f"{speed.name:12} {shape:>20} {layout:>9} {cells[0]:>14} {cells[1]:>14}")


def _arguments(speed: Speed, time_contiguous: bool) -> list[Any]:
    case = Case(B=speed.B, T=speed.T, D=speed.D, N=speed.N, time_contiguous=time_contiguous)
    given = inputs(case, dtype=torch.bfloat16, device="cuda")
    names = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "initial_state", "resets")
    return [given.get(name) for name in (*names, "cu_seqlens", "softplus", "reverse")]


def _both(args: list[Any]) -> None:
    out, _, kept = op.scan_forward(*args, True, "gpu")
    # The output stands in for its gradient: same shape, dtype and layout.
    op.scan_backward(out, None, kept, *args, "gpu")


def _microseconds(call: Callable[[], object], flush: Tensor) -> float:
    """Median time on the GPU, the cache emptied before each run by writing to ``flush``."""
    for _ in range(3):
        call()
    took: list[float] = []
    for _ in range(20):
        flush.zero_()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        took.append(start.elapsed_time(end) * 1e3)
    return statistics.median(took)


def _cpu() -> None:
    torch.set_num_threads(1)
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}")
    print(f"{'B, T, D, N':>16} {'':>8} {'cpu ns':>8} {'reference ns':>13} {'ratio':>6}")
    for case in CPU_CASES:
        given = inputs(case)
        values = case.B * case.T * case.D * case.N
        for backward in (False, True):
            if backward:
                given["u"].requires_grad_()
            cpu, reference = (
                _nanoseconds(given, name, backward) / values for name in ("cpu", "reference")
            )
            shape, what = (
                f"{case.B}, {case.T}, {case.D}, {case.N}",
                "both" if backward else "forward",
            )
            print(f"{shape:>16} {what:>8} {cpu:8.2f} {reference:13.2f} {reference / cpu:6.2f}")


def _nanoseconds(given: dict[str, Any], implementation: str, backward: bool) -> float:
    """Median CPU time of a call."""
    took = []
    for _ in range(4):
        start = time.process_time_ns()
        out, _ = scan(**given, implementation=implementation)
        if backward:
            torch.autograd.grad(out.sum(), given["u"])
        took.append(time.process_time_ns() - start)
    return statistics.median(took[1:])


if __name__ == "__main__":
    main()
