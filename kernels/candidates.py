"""What ``search`` tries: for a call of an op, rows of block sizes around the shipped one.

Calls are those of the ops' benches on a GPU, bfloat16. They can also be had small, with sizes of
the same kinds (1, multiples of 16, others; see ``launching.warmup``), which compile alike.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any, Final

import torch
from torch import Tensor

from audiomamba.kernels.blocks import Blocks
from audiomamba.kernels.conv import cases as conv_cases
from audiomamba.kernels.conv import conv
from audiomamba.kernels.layer_step import cases as layer_cases
from audiomamba.kernels.layer_step import layer_step_
from audiomamba.kernels.lti import cases as lti_cases
from audiomamba.kernels.lti import lti
from audiomamba.kernels.mamba3 import cases as mamba3_cases
from audiomamba.kernels.mamba3 import mamba3, mamba3_step_
from audiomamba.kernels.norm import norm
from audiomamba.kernels.scan import cases as scan_cases
from audiomamba.kernels.scan import scan
from audiomamba.kernels.ssd import cases as ssd_cases
from audiomamba.kernels.ssd import ssd

__all__ = ["PROBLEMS", "Call", "Problem"]

Call = Callable[[], tuple[Tensor, ...]]
FORWARD_BOUND, BOTH_BOUND = 2.5e-3, 5e-3  # of the ops' tests in bfloat16
# Most rows, steps and channels of a small call: of the kinds, and as little split, as the whole.
SMALL_ROWS, SMALL_STEPS, SMALL_CHANNELS = 16, 1024, 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A call that a row of block sizes is looked for.

    Attributes:
        kernel: A key of ``blocks.TABLES``.
        name: The call, for people.
        sizes: Of the call, as the table's rows ask for them.
        least: From which on the row that is found is to hold; those of the shipped row if None.
        rows: To try beside the shipped one; what they hold from means nothing.
        make: Takes a device and whether the call is to be small. The call returns all results, or
            all gradients.
        bound: Relative error that a result may be off from the shipped row's.
    """

    kernel: str
    name: str
    sizes: Mapping[str, int]
    rows: tuple[Blocks, ...]
    make: Callable[[str, bool], Call]
    bound: float
    least: Mapping[str, int] | None = None


def _grid(
    takes: Mapping[str, Iterable[int]],
    warps: Iterable[int],
    registers: Iterable[int | None] = (None,),
    stages: Iterable[int | None] = (None,),
) -> tuple[Blocks, ...]:
    """Rows of every mixture."""
    return tuple(
        Blocks({}, dict(zip(takes, values, strict=True)), w, r, s)
        for values in product(*takes.values())
        for w, r, s in product(warps, registers, stages)
    )


def _forward(op: Callable[..., Any], given: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """All results, those of a state that has several parts one by one."""
    with torch.no_grad():
        results = op(**given, implementation="gpu")
    return tuple(
        x for part in results for x in ((part,) if isinstance(part, Tensor) else tuple(part))
    )


def _both(op: Callable[..., Any], given: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """Gradients of all inputs, the output weighted by the first of them, which has its shape."""
    leaves = {
        name: x.detach().requires_grad_()
        for name, x in given.items()
        if isinstance(x, Tensor) and (x.is_floating_point() or x.is_complex())
    }
    out = op(**{**given, **leaves}, implementation="gpu")[0]
    return torch.autograd.grad(out, tuple(leaves.values()), next(iter(given.values())))


def _run(both: bool, op: Callable[..., Any], given: Mapping[str, Any]) -> Call:
    return partial(_both if both else _forward, op, given)


def _scan(speed: scan_cases.Speed, both: bool, device: str, small: bool) -> Call:
    case = scan_cases.Case(B=speed.B, T=speed.T, D=speed.D, N=speed.N, time_contiguous=True)
    if small:
        case = replace(
            case,
            B=min(case.B, SMALL_ROWS),
            T=min(case.T, SMALL_STEPS),
            D=min(case.D, SMALL_CHANNELS),
        )
    given = scan_cases.inputs(case, dtype=torch.bfloat16, device=device, there=True)
    del given["initial_state"]
    return _run(both, scan, given)


def _ssd(speed: ssd_cases.Speed, both: bool, device: str, small: bool) -> Call:
    case = ssd_cases.Case(B=speed.B, T=speed.T, H=speed.H, P=speed.P, N=speed.N)
    if small:
        case = replace(case, T=min(case.T, SMALL_STEPS))
    given = ssd_cases.inputs(case, dtype=torch.bfloat16, device=device, there=True)
    del given["initial_state"]
    return _run(both, ssd, given)


def _conv(case: conv_cases.Case, both: bool, device: str, small: bool) -> Call:
    if small:
        case = replace(
            case, B=min(case.B, SMALL_ROWS), T=min(case.T, SMALL_STEPS), D=SMALL_CHANNELS
        )
    given = conv_cases.arguments(case)
    assert given.bias is not None, "the cases have a bias"
    x, weight, bias = (t.to(device, torch.bfloat16) for t in (given.x, given.weight, given.bias))
    op = partial(conv, activation=case.activation)
    return _run(both, op, {"x": x, "weight": weight, "bias": bias})


def _norm(shape: tuple[int, int], both: bool, device: str, small: bool) -> Call:
    """``shape`` is rows and channels."""
    rows, width = shape
    if small:
        rows = min(rows, 16 * SMALL_STEPS)
    draw = torch.Generator(device).manual_seed(0)
    x, residual = torch.randn(2, rows, width, generator=draw, device=device)
    weight = torch.randn(width, generator=draw, device=device).bfloat16()
    return _run(both, norm, {"x": x.bfloat16(), "weight": weight, "residual": residual})


def _lti(
    case: lti_cases.Case,
    mode: str | None,
    both: bool,
    device: str,
    small: bool,
    dtype: torch.dtype = torch.bfloat16,
) -> Call:
    if small:
        case = replace(
            case, B=min(case.B, SMALL_ROWS), T=min(case.T, SMALL_STEPS), D=SMALL_CHANNELS
        )
    drawn = lti_cases.arguments(replace(case, B=1, T=1))
    assert drawn.D is not None, "the case has a skip"
    draw = torch.Generator(device).manual_seed(0)
    u = torch.randn(case.B, case.D, case.T, generator=draw, device=device)
    given = {
        "u": u.to(dtype).transpose(1, 2),
        **{name: getattr(drawn, name).to(device, torch.complex64) for name in ("A", "B", "C")},
        "delta": drawn.delta.to(device, torch.float32),
        "D": drawn.D.to(device, torch.float32),
    }
    return _run(both, partial(lti, mode=mode), given)


def _mamba3(case: mamba3_cases.Case, both: bool, device: str, small: bool) -> Call:
    if small:
        case = replace(case, T=min(case.T, SMALL_STEPS))
    given = mamba3_cases.inputs(case, dtype=torch.bfloat16, device=device, there=True)
    del given["initial_state"]
    return _run(both, mamba3, given)


def _mamba3_step(rows: int, device: str, small: bool) -> Call:
    """Steps of 24 heads of 64 channels and 128 states; the states go on from call to call."""
    rows = min(rows, SMALL_ROWS) if small else rows
    case = mamba3_cases.Case(B=rows, T=1, H=24, P=64, N=128, R=32)
    given = mamba3_cases.inputs(case, dtype=torch.bfloat16, device=device, there=True)
    first = given.pop("initial_state")
    pool = type(first)(*(x.new_zeros(rows + 1, *x.shape[1:]) for x in first))
    timed = ("x", "delta", "A", "mix", "angle", "B", "C", "z")
    given |= {name: given[name][:, 0] for name in timed}
    slots = torch.arange(1, rows + 1, device=device)

    def call() -> tuple[Tensor, ...]:
        # From the same state each time, so that results can be compared; little beside the rest.
        for x in pool:
            x.zero_()
        return (mamba3_step_(**given, pool=pool, slots=slots, implementation="gpu"), pool.state)

    return call


def _layer(case: layer_cases.Case, device: str, small: bool) -> Call:
    """A step from the same states each time. Sizes are constants of the kernels: never smaller."""
    given = layer_cases.inputs(case).to(device, torch.bfloat16)
    pools = tuple(pool.clone() for pool in given.pools)

    def call() -> tuple[Tensor, ...]:
        for pool, first in zip(given.pools, pools, strict=True):
            pool.copy_(first)
        return (*given.call(layer_step_, implementation="gpu"), given.pools[1])

    return call


def _scans() -> list[Problem]:
    """One long row leaves most of a GPU idle unless programs are small; 64 states want more
    registers than 16 do."""
    speeds = {speed.name: speed for speed in scan_cases.SPEED}
    forward = {
        "wide": (
            {"pairs": 2048},
            _grid({"channels": (8,), "steps": (8,)}, (1,), (112, 128))
            + _grid({"channels": (16,), "steps": (8,)}, (1, 2), (128, 168)),
        ),
        "many": (
            {"pairs": 32_768},
            _grid({"channels": (8, 16, 32), "steps": (8,)}, (1,), (None, 128, 168)),
        ),
        "one-long": (  # of the pieces that its row is cut into
            {"pairs": 49_152},
            _grid({"channels": (8, 16, 32), "steps": (8,)}, (1,), (None, 128)),
        ),
        "states-64": (
            {"states": 64, "pairs": 4096},
            _grid({"channels": (8, 16), "steps": (8,)}, (2,), (112, 128, 168)),
        ),
    }
    many = _grid({"channels": (16, 32), "steps": (4,)}, (1,), (None, 168)) + _grid(
        {"channels": (8,), "steps": (4, 8)}, (1,), (128, 168)
    )
    backward = {
        "wide": (
            {"pairs": 2048},
            _grid({"channels": (8,), "steps": (4, 8)}, (1,), (128, 168))
            + _grid({"channels": (16,), "steps": (4, 8)}, (1, 2), (None, 168)),
        ),
        "many": ({"pairs": 32_768}, many),
        "one-long": ({"pairs": 32_768}, many),
        "states-64": (
            {"states": 64, "pairs": 4096},
            _grid({"channels": (8, 16, 32), "steps": (4,)}, (1, 2), (128, 255)),
        ),
    }
    return [
        Problem(
            kernel=f"scan.{'backward' if both else 'forward'}",
            name=f"{speed.B}, {speed.T}, {speed.D}, N {speed.N}",
            # Of the pieces, where rows are cut.
            sizes={"pairs": max(speed.B * speed.D, least.get("pairs", 0)), "states": speed.N},
            least=least,
            rows=rows,
            make=partial(_scan, speed, both),
            bound=BOTH_BOUND if both else FORWARD_BOUND,
        )
        for both, searched in ((False, forward), (True, backward))
        for name, (least, rows) in searched.items()
        for speed in (speeds[name],)
    ]


def _dualities() -> list[Problem]:
    speed = ssd_cases.SPEED[0]
    tried = {
        "outputs": _grid({"channels": (32, 64), "states": (256,)}, (4,), (None, 128, 168), (2, 3)),
        "heads": _grid({"channels": (32, 64), "states": (256,)}, (4,), (None, 168), (1, 2)),
        "shared": _grid({"channels": (32, 64), "states": (64, 128)}, (4, 8), (None, 168), (2, 3)),
        "gradient": _grid({"channels": (32, 64), "states": (256,)}, (4, 8), stages=(1, 2, 3)),
        "forward": _grid({"channels": (32, 64), "states": (256,)}, (4, 8), stages=(1, 2, 3)),
        "chunk": _grid({"steps": (32,)}, (1,)),
    }
    return [
        Problem(
            kernel=f"ssd.{kernel}",
            name=f"{speed.B}, {speed.T}, {speed.H} x {speed.P}, N {speed.N}",
            sizes={"bytes": 2, "states": speed.N},
            rows=rows,
            make=partial(_ssd, speed, kernel != "forward"),
            bound=FORWARD_BOUND if kernel == "forward" else BOTH_BOUND,
        )
        for kernel, rows in tried.items()
    ]


def _convolutions() -> list[Problem]:
    """Of whole vectors of time: a lane has 8 frames, so a warp's 32 have 256."""
    rows = _grid({"channels": (1,), "threads_time": (32, 64, 128)}, (1, 2)) + _grid(
        {"channels": (2, 4), "threads_time": (32, 64)}, (1, 4)
    )
    return [
        Problem(
            kernel=f"conv.vectors_{'backward' if both else 'forward'}",
            name=f"{case.B}, {case.T}, {case.D}, K {case.K}",
            sizes={"taps": case.K},
            rows=rows,
            make=partial(_conv, case, both),
            bound=BOTH_BOUND if both else FORWARD_BOUND,
        )
        for both in (False, True)
        for case in (
            conv_cases.Case(8, 2048, 1536, 4, "silu", state=False),
            conv_cases.Case(64, 400, 640, 4, "silu", state=False),
            conv_cases.Case(8, 2048, 1536, 15, state=False),
        )
    ]


def _norms() -> list[Problem]:
    takes = {"values": (1024, 2048, 4096), "rows": (16,), "programs": (4, 8, 16)}
    return [
        Problem(
            kernel="norm.backward",
            name="25600, 640",
            sizes={"width": 1024},
            rows=_grid(takes, (2, 4, 8)),
            make=partial(_norm, (64 * 400, 640), True),
            bound=BOTH_BOUND,
        )
    ]


def _systems() -> list[Problem]:
    case = lti_cases.Case(64, 400, 640, 16, state=False)
    rows = _grid({"states": (64, 128, 256, 512)}, (1, 2, 4))
    return [
        Problem(
            kernel=f"lti.{kernel}",
            name=f"{case.B}, {case.T}, {case.D}, N {2 * case.N}, recurrent",
            sizes={},
            rows=rows,
            make=partial(_lti, case, "recurrent", kernel == "parameters"),
            bound=BOTH_BOUND,
        )
        for kernel in ("recurrence", "parameters")
    ]


def _chunks() -> list[Problem]:
    takes = {"frames": (32, 64), "rows": (32, 64, 128), "backward_warps": (4, 8), "programs": (8,)}
    return [
        Problem(
            kernel="lti.chunks",
            name=f"{B}, {T}, {D}, N {2 * N}, {'both' if both else 'forward'}",
            sizes={},
            rows=_grid(takes, (4, 8), stages=(1, 2)),
            make=partial(_lti, lti_cases.Case(B, T, D, N, state=False), "chunked", both),
            bound=BOTH_BOUND,
        )
        for B, T, D, N in ((64, 400, 640, 16), (8, 2048, 1536, 32))
        for both in (False, True)
    ]


def _modes() -> list[Problem]:
    """At which length the FFT overtakes the recurrence, in float32: none or all of the frames."""
    all_frames = 1 << 20
    return [
        Problem(
            kernel="lti.mode",
            name=f"{B}, {T}, {D}, N {2 * N}, {'both' if both else 'forward'}",
            sizes={"states": N, "all_states": B * D * N},
            rows=tuple(Blocks({}, {"frames": frames}, 1) for frames in (1, all_frames)),
            make=partial(
                _lti, lti_cases.Case(B, T, D, N, state=False), None, both, dtype=torch.float32
            ),
            bound=BOTH_BOUND,
        )
        for B, D, N, lengths in (
            (64, 640, 16, (128, 400, 640, 1024, 2048, 4096)),
            (8, 1536, 32, (512, 2048, 8192)),
            (1, 640, 16, (100, 200, 400, 1600)),
        )
        for T in lengths
        for both in (False, True)
    ]


def _turning() -> list[Problem]:
    case = mamba3_cases.Case(B=8, T=2048, H=24, P=64, N=128, R=32)
    out, _, gradient = mamba3_cases.BOUNDS[torch.bfloat16]
    tried = {
        "turn": _grid({"steps": (16, 32, 64)}, (2, 4, 8)),
        "unturn": _grid({"steps": (16, 32, 64)}, (4, 8)),
        "emit": _grid({"steps": (16, 32, 64)}, (4, 8)),
    }
    return [
        Problem(
            kernel=f"mamba3.{kernel}",
            name=f"{case.B}, {case.T}, {case.H} x {case.P}, N {case.N}",
            sizes={} if kernel == "emit" else {"states": case.N},
            rows=rows,
            make=partial(_mamba3, case, kernel == "unturn"),
            bound=gradient if kernel == "unturn" else out,
        )
        for kernel, rows in tried.items()
    ] + [
        Problem(
            kernel="mamba3.step",
            name="1024 x 24 x 64, N 128",
            sizes={"values": 64 * 128, "rows": 1024},
            rows=_grid({}, (1, 2, 8, 16)),
            make=partial(_mamba3_step, 1024),
            bound=FORWARD_BOUND,
        )
    ]


def _layers() -> list[Problem]:
    """Every kernel of a layer's step for 1, 3 and 16 rows; in the last on tensor cores."""
    out, _ = layer_cases.BOUNDS[torch.bfloat16]

    def enter(outputs: tuple[int, ...], split: tuple[int, ...]) -> tuple[Blocks, ...]:
        takes = {"outputs": outputs, "inputs": (1024,), "dot": (0,), "split": split}
        return _grid(takes, (4, 8))

    def product(outputs: tuple[int, ...]) -> tuple[Blocks, ...]:
        return _grid({"outputs": outputs, "inputs": (2048,), "dot": (0,)}, (4, 8))

    def cores(outputs: tuple[int, ...], **more: tuple[int, ...]) -> tuple[Blocks, ...]:
        takes = {"outputs": outputs, "inputs": (128, 256), "dot": (1,), **more}
        return _grid(takes, (2, 4), stages=(3,))

    tried = {
        1: {
            "enter": enter((8, 16, 32), (0, 1)),
            "product out": product((2, 4, 8)),
            "advance": _grid({"channels": (16, 32, 64), "parts": (32, 64)}, (2, 4)),
        },
        3: {
            "enter": enter((2, 4, 8), (0, 1)) + cores((16, 32), split=(0,)),
            "product out": product((1, 2, 4)) + cores((16,)),
            "product x": product((1, 2)),
            "advance": _grid({"channels": (16, 32, 64), "parts": (32,)}, (1, 2, 4)),
        },
        16: {
            "enter": cores((16, 32, 64), split=(0,)),
            "product out": cores((16, 32)),
            "product x": _grid({"outputs": (1,), "inputs": (256, 512), "dot": (0,)}, (4, 8))
            + cores((16,)),
            "advance": _grid({"channels": (32, 64, 128), "parts": (32,)}, (1, 2, 4)),
        },
    }
    found = []
    for case in layer_cases.BENCH:
        outputs = {"product out": case.W, "product x": case.R + 2 * case.N}
        for which, rows in tried[case.M].items():
            sizes = {"rows": case.M, "bytes": 2, "inputs": case.W}
            if which in outputs:
                sizes["outputs"] = outputs[which]
            found.append(
                Problem(
                    kernel=f"layer_step.{which.split()[0]}",
                    name=f"{case}, {which}",
                    sizes=sizes,
                    rows=rows,
                    make=partial(_layer, case),
                    bound=out,
                )
            )
    return found


# From the largest loss against others on: where the time is up, the rest is left out.
PROBLEMS: Final = tuple(
    [
        *_scans(),
        *_dualities(),
        *_norms(),
        *_convolutions(),
        *_turning(),
        *_systems(),
        *_chunks(),
        *_modes(),
        *_layers(),
    ]
)
