"""Time the duality: ``python -m audiomamba.kernels.ssd.bench``.

On a GPU: microseconds of the forward, of forward and backward, and of the step, beside their
floors and, where mamba-ssm is installed, its kernels. Elsewhere: the CPU path beside the
reference, in CPU time of one thread.
"""

import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from audiomamba.kernels.ssd import op, ssd, ssd_step_
from audiomamba.kernels.ssd.cases import SPEED, Case, Speed, inputs

__all__ = ["main"]

CPU_CASES = (
    Case(B=2, T=512, H=8, P=64, N=128),
    Case(B=1, T=8, H=24, P=64, N=128),
    Case(B=8, T=1, H=24, P=64, N=128),
)
STEP_ROWS = (1, 64, 256, 1024)


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
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    flops = 2 * 8192**3 / _microseconds(lambda: a @ a, copied)  # operations a µs
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, triton {triton.__version__}")
    print(f"copy {rate / 1e6:.2f} TB/s, products {flops / 1e6:.0f} TFLOP/s")
    print("bfloat16 inputs; microseconds, median of 20; share of the greater of both floors")
    print(f"{'case':12} {'B, T, H, P, N':>24} {'forward':>14} {'both':>14} {'mamba-ssm':>18}")
    for speed in SPEED:
        args = _arguments(speed)
        forward = _microseconds(partial(op.ssd_forward, *args, False, "gpu"), copied)
        both = _microseconds(partial(_both, args), copied)
        shape = f"{speed.B}, {speed.T}, {speed.H}, {speed.P}, {speed.N}"
        cells = []
        for backward, took in ((False, forward), (True, both)):
            floor = max(speed.floor_bytes(backward) / rate, speed.flops(64, backward) / flops)
            cells.append(f"{took:7.0f} ({floor / took:4.0%})")
        print(
            f"{speed.name:12} {shape:>24} {cells[0]:>14} {cells[1]:>14} {_peer(args, copied):>18}"
        )
    _steps(rate, copied)


def _arguments(speed: Speed) -> list[Any]:
    case = Case(B=speed.B, T=speed.T, H=speed.H, P=speed.P, N=speed.N)
    given = inputs(case, dtype=torch.bfloat16, device="cuda")
    names = ("x", "delta", "A", "B", "C", "D", "z", "delta_bias", "initial_state", "resets")
    args = [given.get(name) for name in (*names, "cu_seqlens")]
    args[5] = given["D"][:, None].expand(speed.H, speed.P)
    return [*args, True, *case.limit]


def _both(args: list[Any]) -> None:
    out, _, kept = op.ssd_forward(*args, True, "gpu")
    # The output stands in for its gradient: same shape, dtype and layout.
    op.ssd_backward(out, None, kept, *args, "gpu")


def _peer(args: list[Any], flush: Tensor) -> str:
    """Forward, and forward and backward, of mamba-ssm's kernels, if they are installed."""
    if find_spec("mamba_ssm") is None:
        return "not installed"
    peer = import_module("mamba_ssm.ops.triton.ssd_combined").mamba_chunk_scan_combined
    x, delta, A, B, C, D, z, bias, state, _, _, softplus, *_ = args
    leaves = [v.detach().requires_grad_() for v in (x, delta, B, C, z)]

    def forward() -> Tensor:
        x, delta, B, C, z = leaves
        out: Tensor = peer(
            x, delta, A, B, C, 256, D[:, 0], z, bias, initial_states=state, dt_softplus=softplus
        )
        return out

    def both() -> None:
        torch.autograd.grad(forward(), leaves, x)

    with torch.no_grad():
        alone = _microseconds(forward, flush)
    return f"{alone:.0f} / {_microseconds(both, flush):.0f}"


def _steps(rate: float, flush: Tensor) -> None:
    print(f"{'step, rows':>12} {'fp32 pool':>16} {'bf16 pool':>16}   24 x 64 x 128 states a row")
    for rows in STEP_ROWS:
        case = Case(B=rows, T=1, H=24, P=64, N=128)
        given = inputs(case, dtype=torch.bfloat16, device="cuda")
        del given["initial_state"]
        for name in ("x", "delta", "z", "B", "C"):
            given[name] = given[name][:, 0]
        slots = torch.randperm(rows, device="cuda") + 1
        cells = []
        for dtype in (torch.float32, torch.bfloat16):
            pool = torch.zeros(rows + 1, case.H, case.P, case.N, device="cuda", dtype=dtype)
            took = _microseconds(partial(ssd_step_, pool=pool, slots=slots, **given), flush)
            cells.append(f"{took:8.1f} ({2 * pool.nbytes / rate / took:4.0%})")
        print(f"{rows:>12} {cells[0]:>16} {cells[1]:>16}")


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
    print("CPU nanoseconds of one thread per step, head and channel (B x T x H x P)")
    print(f"{'B, T, H, P, N':>20} {'':>8} {'cpu':>8} {'reference':>10} {'ratio':>6}")
    for case in CPU_CASES:
        given = inputs(case)
        values = case.B * case.T * case.H * case.P
        for backward in (False, True):
            given["x"].requires_grad_(backward)
            cpu, reference = (
                _nanoseconds(given, name, backward) / values for name in ("cpu", "reference")
            )
            shape = f"{case.B}, {case.T}, {case.H}, {case.P}, {case.N}"
            what = "both" if backward else "forward"
            print(f"{shape:>20} {what:>8} {cpu:8.1f} {reference:10.1f} {reference / cpu:6.2f}")


def _nanoseconds(given: dict[str, Any], implementation: str, backward: bool) -> float:
    """Median CPU time of a call."""
    took = []
    for _ in range(4):
        start = time.process_time_ns()
        out, _ = ssd(**given, implementation=implementation)
        if backward:
            torch.autograd.grad(out.sum(), given["x"])
        took.append(time.process_time_ns() - start)
    return statistics.median(took[1:])


if __name__ == "__main__":
    main()
