"""What the step of a whole layer promises, as defined and in Triton."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from audiomamba.errors import BackendError, ShapeError
from audiomamba.kernels import blocks, dispatch
from audiomamba.kernels.blocks import Blocks, forced
from audiomamba.kernels.launching import launch
from audiomamba.kernels.layer_step import MAX_ROWS, layer_step_, most_rows, supports
from audiomamba.kernels.layer_step.cases import (
    BENCH,
    BOUNDS,
    CASES,
    OF_TINY,
    Case,
    Inputs,
    inputs,
)
from audiomamba.kernels.testing import PLACES, Place, assert_near, table_rows

pytestmark = pytest.mark.usefixtures("poison")
WITHOUT_CPU = [PLACES[0], *PLACES[2:]]  # there is none for a CPU
in_every_place = pytest.mark.parametrize("place", WITHOUT_CPU)
DTYPES = [torch.float32, torch.bfloat16]


def run(given: Inputs, place: Place) -> tuple[Tensor, Tensor]:
    result: tuple[Tensor, Tensor] = given.call(layer_step_, implementation=place.implementation)
    return result


def check(case: Case, place: Place, dtype: torch.dtype, steps: int = 2) -> None:
    """Hold some steps in a row to the definition in float64, fed the same numbers."""
    given = inputs(case).to("cpu", dtype)
    exact, given = given.to("cpu", torch.float64, exactly=True), given.to(place.device, dtype)
    before = [pool.clone() for pool in given.pools]
    # Triton's interpreter cuts float32 to bfloat16 where a GPU rounds.
    coarser = 2 if place.interpreted and dtype == torch.bfloat16 else 1
    if case not in BENCH:
        coarser *= OF_TINY[dtype]
    bound, of_state = (coarser * b for b in BOUNDS[dtype])
    for _ in range(steps):
        want, want_stream = exact.call(layer_step_, implementation="reference")
        out, stream = run(given, place)
        assert (out.dtype, stream.dtype) == (dtype, torch.float32)
        assert_near(out, want, bound)
        assert_near(stream, want_stream, 1e-6, "stream")
    for name, pool, right, old in zip(
        ("conv", "state"), given.pools, exact.pools, before, strict=True
    ):
        assert_near(pool, right, of_state, name)
        others = [row for row in range(pool.shape[0]) if row not in given.slots.tolist()]
        assert torch.equal(pool[others], old[others])


@in_every_place
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_steps_are_the_definitions_and_leave_other_rows(
    place: Place, case: Case, dtype: torch.dtype
) -> None:
    check(case, place, dtype)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="gpu: no GPU here")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", BENCH, ids=str)
def test_layers_of_a_real_size_are_the_definitions(case: Case, dtype: torch.dtype) -> None:
    check(case, Place("gpu", "cuda"), dtype)


@pytest.mark.parametrize("place", PLACES[2:])
@pytest.mark.parametrize(("kernel", "row"), table_rows("layer_step"))
def test_every_shipped_row_of_block_sizes_is_right(place: Place, kernel: str, row: Blocks) -> None:
    if kernel == "layer_step.rows":
        return  # not of a kernel
    with forced(kernel, row):
        # Inputs of each product that one piece does not hold.
        wide = Case(M=3, W=300, D=290, N=4, R=4)
        case = Case(M=3, D=36) if place.interpreted else wide
        for dtype in DTYPES:
            check(case, place, dtype, steps=1)


@pytest.mark.parametrize("place", PLACES[2:])
@pytest.mark.parametrize("dot", [0, 1])
@pytest.mark.parametrize("split", [0, 1])
@pytest.mark.parametrize("rows", [1, 3, 16])
def test_every_form_is_the_definition(place: Place, dot: int, split: int, rows: int) -> None:
    """In pieces, whose last one is not whole."""
    enter = Blocks({}, {"outputs": 4, "inputs": 16, "dot": dot, "split": split}, 1)
    product = Blocks({}, {"outputs": 2, "inputs": 8, "dot": dot}, 1)
    advance = Blocks({}, {"channels": 8, "parts": 2}, 1)
    with (
        forced("layer_step.enter", enter),
        forced("layer_step.product", product),
        forced("layer_step.advance", advance),
    ):
        case = Case(M=rows, W=20, D=10, N=3, R=5) if place.interpreted else Case(M=rows, W=200)
        check(case, place, torch.float32, steps=1)


@pytest.mark.parametrize("place", PLACES[2:])
@pytest.mark.parametrize(("split", "launches"), [(1, 3), (0, 4)])
def test_a_layer_is_at_most_four_launches(
    place: Place, split: int, launches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []

    def counted(kernel: Any, *args: Any, **settings: Any) -> None:
        started.append(kernel.fn.__name__)
        launch(kernel, *args, **settings)

    monkeypatch.setattr("audiomamba.kernels.layer_step.gpu.launch", counted)
    row = Blocks({}, {"outputs": 8, "inputs": 16, "dot": 0, "split": split}, 1)
    with forced("layer_step.enter", row):
        run(inputs(Case()).to(place.device, torch.float32), place)
    assert len(started) == launches
    assert started[0] == "enter_kernel" and started[-2:] == ["advance_kernel", "product_kernel"]


@in_every_place
def test_padding_rows_share_the_null_slot_and_disturb_nobody(place: Place) -> None:
    given = inputs(Case(M=4)).to(place.device, torch.float32)
    slots = torch.tensor([0, 2, 0, 0], device=place.device)
    for pool in given.pools:
        pool[[0, 1, 3, 4, 5, 6]] = float("nan")
    given = replace(given, slots=slots)
    assert given.residual is not None
    alone = Inputs(
        given.x[1:2].clone(),
        given.residual[1:2].clone(),
        given.weights,
        (given.pools[0].clone(), given.pools[1].clone()),
        slots[1:2],
    )
    want, _ = run(alone, place)
    out, _ = run(given, place)
    assert_near(out[1:2], want, 1e-6)
    for pool, single in zip(given.pools, alone.pools, strict=True):
        assert_near(pool[2], single[2], 1e-6, "state")
        assert pool[[1, 3, 4, 5, 6]].isnan().all()


@in_every_place
@pytest.mark.parametrize("index", [torch.int32, torch.int64], ids=str)
def test_a_negative_slot_names_no_row_and_adds_nothing(place: Place, index: torch.dtype) -> None:
    given = inputs(Case(M=2)).to(place.device, torch.float32)
    given = replace(given, slots=torch.tensor([-1, 1], dtype=index, device=place.device))
    given.x[0] = float("nan")
    before = [pool.clone() for pool in given.pools]
    out, stream = run(given, place)
    assert (out[0] == 0).all() and (out[1] != 0).any()
    assert given.residual is not None
    assert torch.equal(stream[1], given.x[1] + given.residual[1])
    others = [0, 2, 3, 4]
    for pool, old in zip(given.pools, before, strict=True):
        assert torch.equal(pool[others], old[others])


@in_every_place
def test_pools_may_be_strided_and_states_bfloat16(place: Place) -> None:
    given = inputs(Case(M=2)).to(place.device, torch.float32)
    narrow = replace(given, pools=(given.pools[0].clone(), given.pools[1].bfloat16()))
    doubled = tuple(torch.stack((pool, pool), -1) for pool in narrow.pools)
    strided = replace(narrow, pools=(doubled[0][..., 1], doubled[1][..., 1]))
    want, _ = given.call(layer_step_, implementation="reference")
    out, _ = run(strided, place)
    assert_near(out, want, 8e-3)
    assert_near(strided.pools[0], given.pools[0], 1e-6, "conv")
    assert_near(strided.pools[1], given.pools[1], 8e-3, "state")


@in_every_place
def test_an_input_may_be_strided_and_is_not_written_to(place: Place) -> None:
    given = inputs(Case(M=3)).to(place.device, torch.float32)
    again = replace(given, pools=(given.pools[0].clone(), given.pools[1].clone()))
    want, want_stream = run(given, place)
    for x in (
        torch.stack((given.x, given.x), 1)[:, 1],
        torch.stack((given.x, given.x), -1)[..., 0],
    ):
        pools = (again.pools[0].clone(), again.pools[1].clone())
        kept = x.clone()
        out, stream = run(replace(again, x=x, pools=pools), place)
        assert torch.equal(out, want) and torch.equal(stream, want_stream)
        assert torch.equal(x, kept)


@in_every_place
def test_two_runs_are_bitwise_equal(place: Place) -> None:
    for M in (1, 3, 7):
        given = inputs(Case(M=M)).to(place.device, torch.bfloat16)
        again = given.to(place.device, torch.bfloat16)
        pairs = zip(
            (*run(given, place), *given.pools), (*run(again, place), *again.pools), strict=True
        )
        assert all(torch.equal(a, b) for a, b in pairs)


@in_every_place
def test_the_step_without_rows_does_nothing(place: Place) -> None:
    given = inputs(Case(M=2)).to(place.device, torch.float32)
    assert given.residual is not None
    none = replace(given, x=given.x[:0], residual=given.residual[:0], slots=given.slots[:0])
    out, stream = run(none, place)
    assert out.shape == stream.shape == (0, 24)


@pytest.mark.parametrize("place", PLACES[2:])
def test_the_operator_says_what_it_mutates(place: Place) -> None:
    from audiomamba.kernels.layer_step import op

    given = inputs(Case(M=2, K=3)).to(place.device, torch.float32)
    arguments = (
        given.x, given.residual, *given.weights, *given.pools, given.slots, 1e-5,
        place.implementation,
    )  # fmt: skip
    torch.library.opcheck(op.layer_step_, arguments)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="gpu: no GPU here")
@pytest.mark.parametrize("case", BENCH, ids=str)
def test_a_captured_step_follows_slots_written_later(case: Case) -> None:
    given = inputs(case).to("cuda", torch.bfloat16)
    eager = given.to("cuda", torch.bfloat16)
    given.to("cuda", torch.bfloat16).call(layer_step_)  # compiled before the capture
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out, stream = given.call(layer_step_)
    for turn in range(3):
        chosen = torch.randperm(case.M + 2)[: case.M] + 1
        if turn == 2:
            chosen[0] = 0  # padding
        given.slots.copy_(chosen)
        graph.replay()
        want, want_stream = replace(eager, slots=given.slots).call(layer_step_)
        assert torch.equal(out, want) and torch.equal(stream, want_stream)
        for pool, right in zip(given.pools, eager.pools, strict=True):
            assert torch.equal(pool, right)


def widened(name: str) -> Callable[[Inputs], Inputs]:
    def change(given: Inputs) -> Inputs:
        weight = getattr(given.weights, name)
        return replace(
            given, weights=given.weights._replace(**{name: torch.cat((weight, weight[:1]))})
        )

    return change


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda g: replace(g, x=g.x[0]), r"x wants \(M, W\) floating"),
        (lambda g: replace(g, x=g.x.long()), r"x wants \(M, W\) floating"),
        (lambda g: replace(g, residual=g.residual[:1]), r"residual wants \(2, 24\) torch.float32"),
        (lambda g: replace(g, residual=g.residual.bfloat16()), "got .* torch.bfloat16"),
        (widened("norm"), r"norm wants \(24,\), got \(25,\)"),
        (widened("in_proj"), r"in_proj wants \(40, 24\), got \(41, 24\)"),
        (widened("x_proj"), r"x_proj wants \(13, 20\), got \(14, 20\)"),
        (widened("out_proj"), r"out_proj wants \(24, 20\), got \(25, 20\)"),
        (
            lambda g: replace(g, weights=g.weights._replace(in_proj=g.weights.in_proj.bfloat16())),
            "projections want torch.float32, got torch.bfloat16",
        ),
        (
            lambda g: replace(g, weights=g.weights._replace(A_log=g.weights.A_log[0])),
            "want two axes",
        ),
        (lambda g: replace(g, pools=(g.pools[0][:, :1], g.pools[1])), "the pool of conv wants"),
        (lambda g: replace(g, pools=(g.pools[0], g.pools[1][..., :1])), "the pool of state wants"),
        (lambda g: replace(g, slots=g.slots.float()), r"slots wants \(2,\) int32 or int64"),
    ],
)
def test_a_wrong_argument_is_named(wrong: Callable[[Inputs], Inputs], message: str) -> None:
    given = wrong(inputs(Case()).to("cpu", torch.float32))
    with pytest.raises(ShapeError, match=message):
        given.call(layer_step_, implementation="reference")


def test_a_cpu_is_told_to_take_the_parts() -> None:
    given = inputs(Case()).to("cpu", torch.float32)
    with pytest.raises(BackendError, match="use norm, conv and scan"):
        given.call(layer_step_, implementation="cpu")
    given.call(layer_step_)  # the definition, by its logged name


@pytest.mark.skipif(not dispatch.INTERPRETED, reason="gpu-interpreted: TRITON_INTERPRET=1 not set")
def test_a_gpu_says_what_it_cannot_hold() -> None:
    many = inputs(Case(M=MAX_ROWS + 1, W=2, D=2, N=1, R=1))
    with pytest.raises(ShapeError, match="at most 64 rows of float32 or bfloat16, got 65"):
        many.to("cpu", torch.float32).call(layer_step_, implementation="gpu")
    with pytest.raises(ShapeError, match="of torch.float64; use 'reference'"):
        inputs(Case()).call(layer_step_, implementation="gpu")


def test_it_is_meant_for_few_rows_of_narrow_layers_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from audiomamba.kernels import layer_step

    monkeypatch.setattr(layer_step, "DEVICES", ("cpu",))
    given = inputs(Case()).to("cpu", torch.bfloat16)
    most = most_rows(given.x.device, torch.bfloat16)
    assert 1 <= most <= MAX_ROWS
    assert supports(given.x, given.weights)
    assert supports(given.x[:1].expand(most, -1), given.weights)
    assert not supports(given.x[:1].expand(most + 1, -1), given.weights)
    assert not supports(given.x[:0], given.weights)
    assert not supports(given.x.float(), given.weights)
    with torch.autocast("cpu"):
        assert not supports(given.x, given.weights)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert not supports(given.x, given.weights)
    monkeypatch.undo()
    assert not supports(given.x, given.weights)


@pytest.mark.parametrize(
    ("arch", "dtype", "most"),
    [
        ("sm_90", torch.bfloat16, 16),
        ("sm_90", torch.float32, 4),
        ("sm_86", torch.bfloat16, 4),
        ("sm_86", torch.float32, 4),
    ],
    ids=str,
)
def test_what_was_not_measured_is_left_to_the_parts_from_five_rows_on(
    monkeypatch: pytest.MonkeyPatch, arch: str, dtype: torch.dtype, most: int
) -> None:
    monkeypatch.setattr(blocks, "architecture", lambda device: arch)
    assert most_rows(torch.device("cuda"), dtype) == most
