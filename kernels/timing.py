"""How the ops' benches measure, and the table they print.

All contenders of a case are measured in turns, so that a busy moment or a change of clocks hits all
of them. They must be right and agree first: a fast wrong answer is not timed. Kernels are compiled
before that, those of all cases at once.

On a GPU a call is a replayed CUDA graph (launched from Python, small kernels measure Python), with
the cache emptied before it, between two events; and memory is what a call from Python allocates at
its peak, what it returns included. On a CPU it is CPU time of one thread.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "Case",
    "Row",
    "difference",
    "error_of",
    "main",
    "measure",
    "microseconds_of",
    "several_frames",
]

Call = Callable[[], Tensor]
ROUNDS = 20
WARM = 3
FLUSH_BYTES = 1 << 30  # a copy of this size is also what a floor is measured by
CPU_ROUNDS = 7
WHAT = ("forward", "both", "step", "frames")


@dataclass(frozen=True, slots=True)
class Case:
    """What is timed.

    Attributes:
        name: The shape, for people.
        what: ``forward``, ``both`` (forward and backward), ``step``, or ``frames``: several steps
            at once.
        calls: Contenders by name, ours first; each returns something all must agree on.
        values: Numbers that the output holds; on a CPU times are given for one of them.
        floor_bytes: That must move on a GPU, or None.
        bound: Relative error that contenders may differ by.
        error: Ours against the definition in float64, on a part of the input; None where a
            contender in ``calls`` does that.
        floor_products: Multiply-adds on tensor cores that it takes, times two; the floor is the
            greater of both.
    """

    name: str
    what: str
    calls: Mapping[str, Call]
    values: int
    floor_bytes: int | None = None
    bound: float = 1e-3
    error: Callable[[], float] | None = None
    floor_products: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of a case, by contender: median and 10th and 90th percentile; bytes that a
    call takes at its peak, on a GPU."""

    case: Case
    unit: str
    times: Mapping[str, tuple[float, float, float]]
    floor: float | None = None
    memory: Mapping[str, int] = field(default_factory=dict)


def main(
    op: str,
    cases: Callable[..., Iterable[Case]],
    *,
    program: str = "",
    switches: Mapping[str, str] | None = None,
) -> None:
    """Measure an op as its command line asks: a table, or with ``--json`` a line a contender.

    Args:
        op: Its name.
        cases: Makes the cases of a device, ``cuda`` or ``cpu``, one after the other; takes each
            switch that was given by name.
        program: The module that asks, where it is not the op's bench.
        switches: More options that are on or off, with what they do.
    """
    program = program or f"audiomamba.kernels.{op}.bench"
    parser = argparse.ArgumentParser(prog=f"python -m {program}")
    parser.add_argument("--json", action="store_true", help="print a JSON object a contender")
    parser.add_argument("--what", nargs="+", choices=WHAT, default=WHAT, help="kinds of case (all)")
    for switch, does in (switches or {}).items():
        parser.add_argument(f"--{switch}", action="store_true", help=does)
    options = parser.parse_args()
    on = {switch: True for switch in switches or {} if getattr(options, switch)}
    as_json, wanted = options.json, set(options.what)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.set_num_threads(1)
    began = time.perf_counter()
    given: Iterable[Case] = (case for case in cases(device, **on) if case.what in wanted)
    rate = products = None
    if device == "cuda":
        from audiomamba.kernels.launching import warmup

        given = list(given)
        warmed = warmup(*(next(iter(case.calls.values())) for case in given))
        rate = copy_rate()
        products = product_rate() if any(case.floor_products for case in given) else None
    if not as_json:
        unit = "microseconds" if device == "cuda" else "CPU nanoseconds a value"
        print(f"{op} on {_machine(device)}; {unit}, median [10th-90th percentile]")
        if rate:
            peak = f", products {products / 1e6:.0f} TFLOP/s" if products else ""
            print(
                f"copy {rate / 1e6:.2f} TB/s{peak}; {len(warmed.kernels)} kernels compiled in "
                f"{warmed.seconds:.0f} s; then the share of the floor, and peers over ours"
            )
    for case in given:
        row = measure(case, device, rate, products)
        print(_json(op, row, device) if as_json else _line(row), flush=True)
    if device == "cuda" and not as_json:
        print(f"{time.perf_counter() - began:.0f} s in all")


def measure(
    case: Case, device: str, rate: float | None = None, products: float | None = None
) -> Row:
    """Time the contenders of a case.

    A peer that cannot run here is named on standard error and left out.

    Args:
        case: What to time.
        device: ``cuda`` or ``cpu``.
        rate: Bytes a microsecond that the device copies.
        products: Operations a microsecond of its matrix products.

    Raises:
        ArithmeticError: ours is wrong, or two of them do not agree.
    """
    error = 0.0 if case.error is None else case.error()
    if not error <= case.bound:
        raise ArithmeticError(
            f"{case.name} {case.what}: off by {error:.1e}, at most {case.bound:.0e} is right"
        )
    case = _agreeing(case)
    if device == "cuda":
        times = _gpu_microseconds({name: _captured(call) for name, call in case.calls.items()})
        floors = [case.floor_bytes / rate] if rate and case.floor_bytes else []
        floors += [case.floor_products / products] if products else []
        floor = max(floors, default=None)
        memory = {name: _peak_bytes(call) for name, call in case.calls.items()}
        return Row(case, "us", times, floor, memory)
    spreads = _cpu_nanoseconds(case.calls)
    scaled = {
        name: (low / case.values, middle / case.values, high / case.values)
        for name, (low, middle, high) in spreads.items()
    }
    return Row(case, "ns a value", scaled)


def microseconds_of(call: Callable[[], object]) -> float:
    """Median time of a call on a GPU: a replayed graph, the cache emptied before it."""
    return _gpu_microseconds({"": _captured(call)})[""][1]


def copy_rate() -> float:
    """Bytes read and written a microsecond by a device's own copy."""
    source = torch.empty(FLUSH_BYTES // 4, device="cuda")
    _, median, _ = _gpu_microseconds({"copy": source.clone})["copy"]
    return 2 * source.nbytes / median


def product_rate() -> float:
    """Multiplications and additions a microsecond of a device's own bfloat16 product."""
    side = 8192
    a = torch.randn(side, side, device="cuda", dtype=torch.bfloat16)
    _, median, _ = _gpu_microseconds({"product": partial(torch.mm, a, a)})["product"]
    return 2 * side**3 / median


def error_of(
    run: Callable[..., Tensor], given: Mapping[str, Any], *, backward: bool = False
) -> float:
    """How far ``run`` with its own implementation is from its reference in float64 on a CPU.

    Args:
        run: Takes the tensors of ``given`` and ``implementation`` by name.
        given: Its arguments, few enough for a loop over time; NamedTuples of tensors pass too.
        backward: Compare the gradient of the first argument instead of the output.

    Returns:
        Relative error.
    """
    results = []
    for name in (None, "reference"):
        args = {k: _moved(v, name is not None) for k, v in given.items()}
        first = next(iter(args))
        args[first] = args[first].detach().requires_grad_(backward)
        with torch.set_grad_enabled(backward):
            out = run(**args, implementation=name)
        if backward:
            (out,) = torch.autograd.grad(out.sum(), args[first])
        results.append(out.detach().double().cpu())
    return relative_difference(*results)


def difference(ours: Call, reference: Call) -> float:
    """How far what ``ours`` returns is from what ``reference`` does: relative error."""
    return relative_difference(ours().detach().double(), reference().detach().double())


def several_frames(
    name: str,
    frames: int,
    step_: Callable[[Mapping[str, Tensor], tuple[Tensor, ...]], Tensor],
    timed: Mapping[str, Tensor],
    pool: tuple[Tensor, ...],
    moved: int,
    bound: float,
) -> Case:
    """Frames of a step in one call, beside as many calls, and beside a copy of the pool.

    Args:
        name: The shape, for people.
        frames: Of a call.
        step_: Takes inputs of all frames or of one, and a pool that it advances.
        timed: All inputs that have an axis of frames, behind that of rows.
        pool: Of all rows, in the state before the first frame.
        moved: Bytes of the pool and of the frames that one call reads and writes.
        bound: Relative error that the last frame's output may differ by.
    """
    pools = [tuple(x.clone() for x in pool) for _ in range(3)]
    single = [{name: x[:, t].contiguous() for name, x in timed.items()} for t in range(frames)]

    def ours() -> Tensor:
        return step_(timed, pools[0])[:, -1]

    def singly() -> Tensor:
        return [step_(frame, pools[1]) for frame in single][-1]

    said: list[Tensor] = []

    def copy() -> Tensor:
        for source, into in zip(pool, pools[2], strict=True):
            into.copy_(source)
        if not said:
            said.append(step_(timed, tuple(x.clone() for x in pool))[:, -1].clone())
        return said[0]

    calls = {"ours": ours, "singly": singly, "copy": copy}
    values = pool[0].shape[0] * frames * sum(x[0].numel() for x in pool)
    return Case(f"{name}, T {frames}", "frames", calls, values, moved, bound)


def relative_difference(got: Tensor, want: Tensor) -> float:
    size = max(float(torch.linalg.vector_norm(want)), 1e-30)
    return float(torch.linalg.vector_norm(got - want)) / size


def _moved(value: Any, wide: bool) -> Any:
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_moved(v, wide) for v in value))
    if not wide or not isinstance(value, Tensor):
        return value
    return value.detach().cpu().double() if value.is_floating_point() else value.cpu()


def _agreeing(case: Case) -> Case:
    """The case with those peers that run; raises for one that says something else than ours."""
    (ours, call), *peers = case.calls.items()
    want, calls = call().detach().double(), {ours: call}
    for name, call in peers:
        try:
            got = call().detach().double()
        except Exception as reason:
            line = str(reason).strip().partition("\n")[0]
            print(f"{case.name} {case.what}: {name} does not run here: {line}", file=sys.stderr)
            continue
        error = relative_difference(got, want)
        if not error <= case.bound:
            raise ArithmeticError(
                f"{case.name} {case.what}: {name} and {ours} differ by {error:.1e}, "
                f"at most {case.bound:.0e} are right"
            )
        calls[name] = call
    return replace(case, calls=calls)


def _captured(call: Callable[[], object]) -> Callable[[], None]:
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(WARM):
            call()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    replay: Callable[[], None] = graph.replay
    return replay


def _peak_bytes(call: Callable[[], object]) -> int:
    """Bytes that a call allocates on a GPU at its peak, beside those that are there before."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _gpu_microseconds(
    calls: Mapping[str, Callable[[], object]],
) -> dict[str, tuple[float, float, float]]:
    flush = torch.empty(FLUSH_BYTES // 4, device="cuda")
    took: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(WARM + ROUNDS):
        for name, call in calls.items():
            flush.zero_()
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            call()
            end.record()
            end.synchronize()
            if turn >= WARM:
                took[name].append(start.elapsed_time(end) * 1e3)
    return {name: _spread(times) for name, times in took.items()}


def _cpu_nanoseconds(calls: Mapping[str, Call]) -> dict[str, tuple[float, float, float]]:
    took: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(1 + CPU_ROUNDS):
        for name, call in calls.items():
            began = time.process_time_ns()
            call()
            if turn:
                took[name].append(time.process_time_ns() - began)
    return {name: _spread(times) for name, times in took.items()}


def _spread(times: Sequence[float]) -> tuple[float, float, float]:
    tenths = statistics.quantiles(times, n=10, method="inclusive")
    return tenths[0], statistics.median(times), tenths[-1]


def _line(row: Row) -> str:
    ours, *peers = row.times.items()
    name, (low, median, high) = ours
    share = f" {row.floor / median:4.0%}" if row.floor else ""
    cells = [f"{name} {median:8.2f} [{low:.2f}-{high:.2f}]{share}"]
    cells += [f"{peer} {time:8.2f} {time / median:5.2f}x" for peer, (_, time, _) in peers]
    if row.memory:
        cells += [" / ".join(f"{taken / 2**20:.0f}" for taken in row.memory.values()) + " MiB"]
    return f"{row.case.name:>24} {row.case.what:8} " + " | ".join(cells)


def _json(op: str, row: Row, device: str) -> str:
    lines = []
    _, ours, _ = next(iter(row.times.values()))
    for name, (low, median, high) in row.times.items():
        lines.append(
            json.dumps(
                {
                    "op": op, "case": row.case.name, "what": row.case.what, "contender": name,
                    "unit": row.unit, "median": round(median, 4), "p10": round(low, 4),
                    "p90": round(high, 4), "over_ours": round(median / ours, 4),
                    "share_of_floor": round(row.floor / median, 4) if row.floor else None,
                    "peak_bytes": row.memory.get(name),
                    "machine": _machine(device),
                }
            )
        )  # fmt: skip
    return "\n".join(lines)


def _machine(device: str) -> str:
    if device == "cuda":
        from importlib.metadata import version

        name = torch.cuda.get_device_name()
        return f"{name}, torch {torch.__version__}, triton {version('triton')}"
    return f"{platform.processor() or platform.machine()}, one thread, torch {torch.__version__}"
