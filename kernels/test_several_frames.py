"""Steps of several frames at once: one contract of all ops that have them.

A call with T frames is T calls with one, whatever the rows' slots are; the definition's single
steps are the judge.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from audiomamba.kernels import conv, mamba3, scan, ssd
from audiomamba.kernels.blocks import Blocks, forced
from audiomamba.kernels.conv import cases as conv_cases
from audiomamba.kernels.mamba3 import cases as mamba3_cases
from audiomamba.kernels.scan import cases as scan_cases
from audiomamba.kernels.ssd import cases as ssd_cases
from audiomamba.kernels.testing import PLACES, Place, assert_near, table_rows

pytestmark = pytest.mark.usefixtures("poison")
in_every_place = pytest.mark.parametrize("place", PLACES)
FRAMES = (1, 2, 3, 7, 16)
SLOTS = (4, 0, 1, 0, 6)  # two rows of padding
LIVE = (0, 2, 4)
OTHERS = (2, 3, 5, 7)
POOL_ROWS = 8


@dataclass(frozen=True, slots=True)
class Stepped:
    """An op's step with its arguments: those with an axis of frames, the rest, and a pool."""

    step_: Callable[..., Tensor]
    timed: dict[str, Tensor]
    rest: dict[str, Any]
    pool: tuple[Tensor, ...]

    def run(self, frames: slice | int, pool: tuple[Tensor, ...], slots: Tensor, **how: Any) -> Any:
        given = {name: x[:, frames] for name, x in self.timed.items()}
        first = {"pool": mamba3.Mamba3State(*pool) if len(pool) > 1 else pool[0]}
        return self.step_(**given, **self.rest, **first, slots=slots, **how)

    @property
    def frames(self) -> int:
        return next(iter(self.timed.values())).shape[1]


def stepped(
    op: str, frames: int, place: Place, dtype: torch.dtype = torch.float32, pool: Any = None
) -> Stepped:
    """Arguments of five rows: small in the interpreter, else of odd sizes that fill programs."""
    small, device, rows = place.interpreted, place.device, len(SLOTS)
    draw = torch.Generator().manual_seed(7)

    def state(*shape: int) -> Tensor:
        found = torch.randn(POOL_ROWS, *shape, generator=draw)
        return found.to(device, pool or torch.float32)

    if op.startswith("conv"):
        D, K = (6 if small else 130), int(op.removeprefix("conv"))
        drawn = conv_cases.arguments(conv_cases.Case(rows, frames, D, K))
        assert drawn.bias is not None
        weights = {"weight": drawn.weight, "bias": drawn.bias}
        rest = {name: x.to(device, torch.float32) for name, x in weights.items()}
        timed = {"x": drawn.x.to(device, dtype)}
        return Stepped(conv.conv_step_, timed, rest | {"activation": "silu"}, (state(K - 1, D),))
    if op == "scan":
        D, N = (6, 3) if small else (150, 16)
        given = scan_cases.inputs(
            scan_cases.Case(B=rows, T=frames, D=D, N=N, G=2), dtype=dtype, device=device
        )
        del given["reverse"], given["initial_state"]
        return _split(scan.scan_step_, given, ("u", "delta", "z", "B", "C"), (state(D, N),))
    if op == "mamba3":
        H, P, N, R = (2, 3, 5, 2) if small else (4, 24, 34, 8)
        case = mamba3_cases.Case(B=rows, T=frames, H=H, P=P, N=N, R=R)
        given = mamba3_cases.inputs(case, dtype=dtype, device=device)
        del given["initial_state"]
        turns = torch.rand(POOL_ROWS, H, R, generator=draw).to(device, pool or torch.float32)
        names = ("x", "delta", "A", "mix", "angle", "B", "C", "z")
        pools = (turns, state(H, P, N), state(H, N), state(H, P))
        return _split(mamba3.mamba3_step_, given, names, pools)
    H, P, N = (2, 5, 3) if small else (4, 24, 34)
    case_ = ssd_cases.Case(
        B=rows, T=frames, H=H, P=P, N=N, G=2, limit=(0.01, 0.1), by_step=op == "ssd by step"
    )
    given = ssd_cases.inputs(case_, dtype=dtype, device=device)
    del given["initial_state"]
    names = ("x", "delta", "z", "B", "C", *(("A",) if case_.by_step else ()))
    return _split(ssd.ssd_step_, given, names, (state(H, P, N),))


def _split(
    step_: Callable[..., Tensor],
    given: dict[str, Any],
    names: tuple[str, ...],
    pool: tuple[Tensor, ...],
) -> Stepped:
    timed = {name: given.pop(name) for name in names}
    return Stepped(step_, timed, given, pool)


def singly(call: Stepped, pool: tuple[Tensor, ...], slots: Tensor, implementation: str) -> Tensor:
    steps = [call.run(t, pool, slots, implementation=implementation) for t in range(call.frames)]
    return torch.stack(steps, 1)


OPS = ("scan", "ssd", "ssd by step", "mamba3", "conv1", "conv2", "conv4", "conv15")
STEP_ROWS = [
    row
    for op in ("scan", "ssd", "mamba3", "conv")
    for row in table_rows(op)
    if row.values[0] in (f"{op}.step", f"{op}.steps") and row.values[0] != "conv.step"
]
in_every_op = pytest.mark.parametrize("op", OPS)


@in_every_place
@in_every_op
@pytest.mark.parametrize("frames", FRAMES)
def test_several_frames_are_as_many_steps(place: Place, op: str, frames: int) -> None:
    call = stepped(op, frames, place)
    slots = torch.tensor(SLOTS, device=place.device)
    for x in call.pool:
        x[0] = float("nan")  # what lies in the null slot means nothing
    before, expected = ([x.clone() for x in call.pool] for _ in range(2))
    want = singly(call, tuple(expected), slots, "reference")
    got = call.run(slice(None), call.pool, slots, implementation=place.implementation)
    assert_near(got[list(LIVE)], want[list(LIVE)], 2e-6)  # of sixteen frames that build on another
    for mine, theirs, old in zip(call.pool, expected, before, strict=True):
        named = slots[list(LIVE)]
        if op.startswith("conv"):
            assert torch.equal(mine[named], theirs[named])
        else:
            assert_near(mine[named], theirs[named], 2e-6, "state")
        assert torch.equal(mine[list(OTHERS)], old[list(OTHERS)])


@in_every_place
@in_every_op
@pytest.mark.parametrize(
    ("dtype", "pool"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.bfloat16),
        (torch.float32, torch.bfloat16),
    ],
    ids=str,
)
def test_narrow_numbers_cost_their_rounding(
    place: Place, op: str, dtype: torch.dtype, pool: torch.dtype
) -> None:
    call = stepped(op, 7, place, dtype, pool)
    slots = torch.tensor(SLOTS, device=place.device)
    expected = tuple(x.clone() for x in call.pool)
    want = singly(call, expected, slots, "reference")
    got = call.run(slice(None), call.pool, slots, implementation=place.implementation)
    # A narrow pool is rounded after every single step, and here once, angles of a turn among the
    # rest; an interpreted cast to bfloat16 cuts.
    narrow = 1e-1 if op == "mamba3" else 3e-2
    bound = narrow if pool == torch.bfloat16 else 1e-2
    assert_near(got[list(LIVE)].float(), want[list(LIVE)].float(), bound)
    pools = list(zip(call.pool, expected, strict=True))
    for mine, theirs in pools[op == "mamba3" :]:  # its angles are points on a circle
        named = slots[list(LIVE)]
        assert_near(mine[named].float(), theirs[named].float(), bound, "state")


@in_every_place
@in_every_op
def test_any_cut_into_calls_gives_the_same(place: Place, op: str) -> None:
    call = stepped(op, 6, place)
    slots = torch.tensor(SLOTS, device=place.device)
    whole, cut = (tuple(x.clone() for x in call.pool) for _ in range(2))
    how = {"implementation": place.implementation}
    want = call.run(slice(None), whole, slots, **how)
    parts = [
        call.run(slice(0, 2), cut, slots, **how),
        call.run(slice(2, 2), cut, slots, **how),
        call.run(2, cut, slots, **how)[:, None],
        call.run(slice(3, 6), cut, slots, **how),
    ]
    live = list(LIVE)
    assert_near(torch.cat(parts, 1)[live], want[live], 2e-6)
    for mine, theirs in zip(cut, whole, strict=True):
        assert_near(mine[slots[live]], theirs[slots[live]], 2e-6, "state")


@in_every_place
@pytest.mark.parametrize("op", [op for op in OPS if op != "mamba3"])
def test_a_negative_slot_names_no_row(place: Place, op: str) -> None:
    call = stepped(op, 3, place)
    slots = torch.tensor([4, -1, 1, -7, 6], device=place.device)
    before, alone = ([x.clone() for x in call.pool] for _ in range(2))
    got = call.run(slice(None), call.pool, slots, implementation=place.implementation)
    want = singly(call, tuple(alone), slots, "reference")
    assert (got[[1, 3]] == 0).all()
    assert_near(got, want, 1e-6)
    for mine, old in zip(call.pool, before, strict=True):
        assert torch.equal(mine[[0, *OTHERS]], old[[0, *OTHERS]])


@in_every_place
@in_every_op
def test_inputs_may_be_parts_of_a_projection(place: Place, op: str) -> None:
    call = stepped(op, 3, place)
    slots = torch.tensor(SLOTS, device=place.device)
    wide = {name: torch.cat((x, x, x), -1) for name, x in call.timed.items()}
    parts = {name: x[..., x.shape[-1] // 3 : 2 * (x.shape[-1] // 3)] for name, x in wide.items()}
    other = Stepped(call.step_, parts, call.rest, tuple(x.clone() for x in call.pool))
    how = {"implementation": place.implementation}
    want = call.run(slice(None), call.pool, slots, **how)
    got = other.run(slice(None), other.pool, slots, **how)
    assert_near(got[list(LIVE)], want[list(LIVE)], 1e-6)


@pytest.mark.parametrize("place", PLACES[2:])
@pytest.mark.parametrize(("kernel", "row"), STEP_ROWS)
def test_every_shipped_row_of_block_sizes_is_right(place: Place, kernel: str, row: Blocks) -> None:
    op = kernel.split(".")[0]
    with forced(kernel, row):
        test_several_frames_are_as_many_steps(place, "conv4" if op == "conv" else op, 3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="gpu: no GPU here")
@pytest.mark.parametrize("op", ["scan", "ssd", "mamba3", "conv4"])
def test_a_captured_call_follows_slots_written_later(op: str) -> None:
    call = stepped(op, 7, Place("gpu", "cuda"))
    slots = torch.tensor([1, 2, 3, 4, 5], device="cuda")
    eager = tuple(x.clone() for x in call.pool)
    call.run(slice(None), tuple(x.clone() for x in eager), slots)  # compiled before the capture
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = call.run(slice(None), call.pool, slots)
    for chosen in ([1, 2, 3, 4, 5], [5, 0, 2, 7, 1]):
        slots.copy_(torch.tensor(chosen))
        graph.replay()
        want = call.run(slice(None), eager, slots)
        assert torch.equal(out, want)
        for mine, theirs in zip(call.pool, eager, strict=True):
            assert torch.equal(mine, theirs)
