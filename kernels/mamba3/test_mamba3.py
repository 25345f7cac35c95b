"""Mamba-3 keeps its contract in every implementation; the loop in float64 is the judge."""

import math
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from audiomamba.errors import ShapeError
from audiomamba.kernels.blocks import Blocks, forced
from audiomamba.kernels.mamba3 import Mamba3State, mamba3, mamba3_step_, op
from audiomamba.kernels.mamba3.cases import BOUNDS, CASES, Case, inputs
from audiomamba.kernels.mamba3.chunked import running_turns
from audiomamba.kernels.testing import PLACES, Place, assert_near, table_rows

pytestmark = pytest.mark.usefixtures("poison")
in_every_place = pytest.mark.parametrize("place", PLACES)

TIMED = ("x", "delta", "A", "mix", "angle", "B", "C", "z", "resets")


def flat(given: dict[str, Any]) -> dict[str, Tensor]:
    """Floating tensors by name, those of the state among them."""
    found = {k: v for k, v in given.items() if isinstance(v, Tensor) and v.is_floating_point()}
    if "initial_state" in given:
        found |= {f"first {k}": v for k, v in given["initial_state"]._asdict().items()}
    return found


def call(
    given: dict[str, Any], named: dict[str, Tensor], implementation: str
) -> tuple[Tensor, Mamba3State]:
    args = {k: named.get(k, v) for k, v in given.items()}
    if "initial_state" in given:
        args["initial_state"] = Mamba3State(*(named[f"first {k}"] for k in Mamba3State._fields))
    return mamba3(**args, implementation=implementation)


def evaluate(given: dict[str, Any], implementation: str) -> dict[str, Tensor]:
    """Output, last state and the gradients of a random weighting of both, by name.

    Angles count as points on the circle, since 0 and 1 turn are one.
    """
    named = {k: v.detach().requires_grad_() for k, v in flat(given).items()}
    out, state = call(given, named, implementation)
    results = {"out": out, **{f"last {k}": v for k, v in state._asdict().items()}}
    turns = 2 * math.pi * results.pop("last turns")
    results["last angle"] = torch.stack((turns.cos(), turns.sin()), -1)
    draw = torch.Generator().manual_seed(1)
    loss = torch.zeros((), dtype=torch.float64, device=out.device)
    for y in results.values():
        loss = loss + (y * torch.randn(y.shape, generator=draw).to(y)).double().sum()
    gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    for (name, x), gradient in zip(named.items(), gradients, strict=True):
        results[f"gradient of {name}"] = torch.zeros_like(x) if gradient is None else gradient
    return results


def judge(given: dict[str, Any]) -> dict[str, Tensor]:
    """The same from the reference in float64, on the CPU."""

    def wide(x: Any) -> Any:
        if isinstance(x, Mamba3State):
            return Mamba3State(*map(wide, x))
        if isinstance(x, Tensor):
            return x.to("cpu", torch.float64 if x.is_floating_point() else x.dtype)
        return x

    return evaluate({k: wide(v) for k, v in given.items()}, "reference")


def check(
    found: dict[str, Tensor], wanted: dict[str, Tensor], dtype: torch.dtype, factor: float = 1
) -> None:
    out, state, gradient = (factor * bound for bound in BOUNDS[dtype])
    for name, want in wanted.items():
        bound = gradient if name.startswith("gradient") else out if name == "out" else state
        assert_near(found[name], want, bound, name)


@in_every_place
@pytest.mark.parametrize("case", CASES, ids=str)
def test_output_state_and_gradients_match_the_float64_loop(place: Place, case: Case) -> None:
    given = inputs(case, device=place.device)
    check(evaluate(given, place.implementation), judge(given), torch.float32)


@in_every_place
def test_bfloat16_costs_its_rounding(place: Place) -> None:
    case = Case(T=40, H=2, P=8, N=8, R=2)
    if place.device == "cuda":
        case = Case(B=2, T=300, H=4, P=64, N=64, R=16)
    given = inputs(case, dtype=torch.bfloat16, device=place.device)
    factor = 5 if place.interpreted else 1  # it cuts where a GPU rounds, each time downwards
    check(evaluate(given, place.implementation), judge(given), torch.bfloat16, factor)


@pytest.mark.parametrize("place", PLACES[2:])
@pytest.mark.parametrize("resets", [(), (0, 4, 5, 30)], ids=str)
def test_sums_go_over_more_chunks_than_are_loaded_at_once(
    place: Place, resets: tuple[int, ...]
) -> None:
    sequence = import_module("audiomamba.kernels.mamba3.sequence")  # it needs Triton
    given = inputs(Case(T=70, H=1, P=1, N=2, R=1, resets=resets), device=place.device)
    row = Blocks({}, {"steps": 2}, 1)
    assert 70 // row["steps"] > sequence.CHUNKS_AT_ONCE
    with forced("mamba3.turn", row), forced("mamba3.unturn", row):
        check(evaluate(given, place.implementation), judge(given), torch.float32)


@in_every_place
@pytest.mark.parametrize("cuts", [[0], [1], [32], [1, 2, 37]], ids=str)
def test_any_cut_of_time_gives_the_same_answer(place: Place, cuts: list[int]) -> None:
    given = inputs(Case(B=2, T=45, H=2, P=3, N=4, R=2, resets=(37,)), device=place.device)
    with torch.no_grad():
        whole, last = mamba3(**given, implementation=place.implementation)
        parts = []
        for lo, hi in zip([0, *cuts], [*cuts, 45], strict=True):
            now = {k: v[:, lo:hi] if k in TIMED else v for k, v in given.items()}
            out, given["initial_state"] = mamba3(**now, implementation=place.implementation)
            parts.append(out)
    assert_near(torch.cat(parts, 1), whole, 2e-6)
    for name, x in given["initial_state"]._asdict().items():
        assert_near(x, getattr(last, name), 2e-6, name)


@in_every_place
def test_nothing_passes_a_reset_not_even_nan(place: Place) -> None:
    given = inputs(Case(T=12, H=2, P=2, N=4, R=2, resets=(5,)), device=place.device)
    fresh = {k: v[:, 5:] if k in TIMED else v for k, v in given.items() if k != "initial_state"}
    want, last = mamba3(**fresh, implementation="reference")
    for name in TIMED[:-1]:
        given[name][:, 2:5] = float("nan")
    for x in given["initial_state"]:
        x.fill_(float("nan"))
    out, state = mamba3(**given, implementation=place.implementation)
    assert_near(out[:, 5:], want, 1e-6)
    for name, x in state._asdict().items():
        assert_near(x, getattr(last, name), 1e-6, name)


@pytest.mark.parametrize("place", PLACES[2:])
def test_an_angle_common_to_rounded_keys_and_queries_has_no_gradient(place: Place) -> None:
    # What is left of each of thousands of steps would add up. Keys from before the rounding leave
    # 3e-3 here.
    given = inputs(Case(T=50, H=1, P=1, N=8, R=3), dtype=torch.bfloat16, device=place.device)
    first = given["initial_state"].turns.requires_grad_()
    angle = given["angle"].float().requires_grad_()
    names = ("delta", "A", "mix")
    args = (*(given[name] for name in names), angle, given["B"], given["C"], None, first, None)
    _, _, _, k, q, _, _ = op.mamba3_turn(*args, torch.bfloat16, True)
    assert torch.equal(k, k.bfloat16().float())
    draw = torch.Generator().manual_seed(0)
    seen = torch.randn(50, 50, generator=draw).tril().to(place.device)
    loss = (seen * (q[0, :, 0] @ k[0, :, 0].mT)).sum()
    of_first, of_angle = torch.autograd.grad(loss, (first, angle))
    assert of_first.norm() < 1e-5 * of_angle.norm()


def test_nan_in_an_angle_stays_until_the_next_reset() -> None:
    steps = torch.full((1, 6, 1, 1), 0.75)
    steps[0, 1] = float("nan")
    resets = torch.tensor([[False, False, False, True, False, False]])
    turns = running_turns(steps, torch.full((1, 1, 1), 0.5), resets).flatten()
    assert turns[1:3].isnan().all()
    assert turns[[0, 3, 4, 5]].tolist() == [0.25, 0.75, 0.5, 0.25]


def test_an_angle_of_many_turns_keeps_its_digits() -> None:
    steps = torch.full((1, 100_000, 1, 1), 0.3)
    got = running_turns(steps, torch.zeros(1, 1, 1), None)[0, -1, 0, 0]
    want = (100_000 * float(steps[0, 0, 0, 0])) % 1
    assert abs(float(got) - want) < 1e-6


@pytest.mark.parametrize("implementation", ["reference", "cpu"])
@pytest.mark.parametrize("case", [CASES[0], Case(T=5, H=1, P=2, N=2, R=1, resets=(2,))], ids=str)
def test_gradients_are_those_of_finite_differences(implementation: str, case: Case) -> None:
    given = inputs(case, dtype=torch.float64)
    named = flat(given)

    def run(*leaves: Tensor) -> tuple[Tensor, ...]:
        out, state = call(given, dict(zip(named, leaves, strict=True)), implementation)
        return out, state.state, state.key, state.value, (2 * math.pi * state.turns).sin()

    assert gradcheck(run, [x.requires_grad_() for x in named.values()], fast_mode=True)


def step_inputs(rows: int, device: str, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    given = inputs(Case(B=rows, T=1, H=2, P=5, N=7, R=2), device=device, dtype=dtype)
    del given["initial_state"]
    for name in TIMED[:-1]:
        given[name] = given[name][:, 0]
    pool = inputs(Case(B=7, T=0, H=2, P=5, N=7, R=2), device=device, seed=3)["initial_state"]
    return {**given, "pool": pool}


@in_every_place
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_step_is_one_frame_into_the_named_slots(place: Place, dtype: torch.dtype) -> None:
    given = step_inputs(3, place.device, dtype)
    pool = given.pop("pool")
    slots = torch.tensor([4, 1, 5], dtype=torch.int32, device=place.device)
    before = Mamba3State(*(x.clone() for x in pool))
    timed = {k: v[:, None] if k in TIMED else v for k, v in given.items()}
    first = Mamba3State(*(x[slots.long()] for x in before))
    want, after = mamba3(**timed, initial_state=first, implementation="reference")
    out = mamba3_step_(**given, pool=pool, slots=slots, implementation=place.implementation)
    assert_near(out, want[:, 0], 1e-6 if dtype == torch.float32 else 8e-3)
    for name in pool._fields:
        mine, theirs = getattr(pool, name), getattr(after, name)
        assert_near(mine[slots.long()], theirs, 2e-6, name)
        assert torch.equal(mine[[0, 2, 3, 6]], getattr(before, name)[[0, 2, 3, 6]])


@in_every_place
def test_padding_rows_share_the_null_slot_and_disturb_nobody(place: Place) -> None:
    given = step_inputs(4, place.device)
    pool = given.pop("pool")
    for x in pool:
        x[[0, 1, 3, 4, 5, 6]] = float("nan")
    slots = torch.tensor([0, 2, 0, 0], device=place.device)
    out = mamba3_step_(**given, pool=pool, slots=slots, implementation=place.implementation)
    assert out[1].isfinite().all()
    for x in pool:
        assert x[2].isfinite().all()
        assert x[[1, 3, 4, 5, 6]].isnan().all()


@pytest.mark.parametrize("place", PLACES[1:])
def test_the_step_operator_says_what_it_mutates(place: Place) -> None:
    given = step_inputs(2, place.device)
    names = (*TIMED[:7],)
    slots = torch.tensor([2, 1], device=place.device)
    args = [*[given[n] for n in names], *given["pool"], slots]
    torch.library.opcheck(
        op.mamba3_step_, (*args, given["D"], given["z"], given["delta_bias"], place.implementation)
    )


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # opcheck reads it of its own copies
@pytest.mark.parametrize("place", PLACES[2:])
def test_the_operators_around_the_duality_are_as_they_say(place: Place) -> None:
    given = inputs(Case(B=2, T=3, H=2, P=2, N=5, R=2, resets=(1,)), device=place.device)
    named = {k: v.requires_grad_() for k, v in flat(given).items()}
    turned = [named[k] for k in ("delta", "A", "mix", "angle", "B", "C", "delta_bias")]
    args = (*turned, named["first turns"], given["resets"])
    torch.library.opcheck(op.mamba3_turn, (*args, torch.float32, True))
    take = torch.randn(2, 3, 2, device=place.device, requires_grad=True)
    x, z, D = (named[k] for k in ("x", "z", "D"))
    torch.library.opcheck(op.mamba3_emit, (x.detach().mT.contiguous().mT, x, take, D, z))


@pytest.mark.parametrize("place", PLACES[1:])
def test_compiles_into_one_graph(place: Place) -> None:
    given = inputs(Case(T=3, H=2, P=2, N=4, R=1), device=place.device)
    x = given.pop("x").requires_grad_()

    def loss(x: Tensor) -> Tensor:
        out, state = mamba3(x, **given, implementation=place.implementation)
        return out.sum() + state.state.sum()

    compiled: Callable[[Tensor], Tensor] = torch.compile(loss, fullgraph=True, backend="aot_eager")
    (want,) = torch.autograd.grad(loss(x), x)
    (got,) = torch.autograd.grad(compiled(x), x)
    assert_near(got, want, 1e-6)


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("x", lambda x: x[0], "x wants 4 axes"),
        ("x", lambda x: x.long(), "floating dtype"),
        ("delta", lambda x: x[:, :2], "delta wants"),
        ("angle", lambda x: x.repeat(1, 1, 3), "angle wants"),
        ("B", lambda x: x[:, :, :1], "B wants"),
        ("resets", lambda x: x.float(), "resets wants"),
        ("initial_state", lambda s: s._replace(key=s.value), "initial_state.key wants"),
    ],
)
def test_a_wrong_shape_is_named(name: str, wrong: Callable[[Any], Any], message: str) -> None:
    given = inputs(Case(T=4, H=3, P=2, N=4, R=2, resets=(1,)))
    given[name] = wrong(given[name])
    with pytest.raises(ShapeError, match=message):
        mamba3(**given)


def test_a_wrong_pool_or_slot_is_named() -> None:
    given = step_inputs(2, "cpu")
    slots = torch.tensor([1, 2])
    with pytest.raises(ShapeError, match="slots wants"):
        mamba3_step_(**given, slots=slots[:1])
    odd = given["pool"]._replace(key=given["pool"].key.mT.contiguous().mT)
    with pytest.raises(ShapeError, match=r"pool\.key wants contiguous"):
        mamba3_step_(**{**given, "pool": odd}, slots=slots)


@pytest.mark.parametrize("place", PLACES[2:])
@pytest.mark.parametrize(("kernel", "row"), table_rows("mamba3"))
def test_every_shipped_row_of_block_sizes_is_right(place: Place, kernel: str, row: Blocks) -> None:
    with forced(kernel, row):
        if kernel == "mamba3.step":
            test_a_step_is_one_frame_into_the_named_slots(place, torch.float32)
        else:
            test_output_state_and_gradients_match_the_float64_loop(place, CASES[2])
