"""The scan keeps its contract in every implementation; the reference in float64 is the judge."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from audiomamba.errors import BackendError, ShapeError
from audiomamba.kernels import native, testing
from audiomamba.kernels.blocks import Blocks, forced
from audiomamba.kernels.scan import op, scan, scan_step_
from audiomamba.kernels.scan.cases import BOUNDS, ODD, TINY, Case, inputs
from audiomamba.kernels.testing import (
    INSTRUCTION_SETS,
    PLACES,
    Place,
    assert_near,
    same_bits_of_any_threads,
    table_rows,
    use_instruction_set,
)

pytestmark = pytest.mark.usefixtures("poison")
in_every_place = pytest.mark.parametrize("place", PLACES)

evaluate, judge = partial(testing.evaluate, scan), partial(testing.judge, scan)

LONG_SUMS = ("A", "D", "delta_bias")


def check(
    found: dict[str, Tensor], wanted: dict[str, Tensor], dtype: torch.dtype, factor: float = 1
) -> None:
    bounds = BOUNDS[dtype]
    for name, want in wanted.items():
        bound = bounds.long_sum if name.split()[-1] in LONG_SUMS else bounds.gradient
        bound = {"out": bounds.out, "state": bounds.state}.get(name, bound)
        assert_near(found[name], want, factor * bound, name)


def coarser(place: Place, dtype: torch.dtype) -> float:
    """Triton's interpreter cuts float32 to bfloat16 where a GPU rounds: twice the error."""
    return 2 if place.interpreted and dtype == torch.bfloat16 else 1


def forward(given: dict[str, Any], implementation: str) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        return scan(**given, implementation=implementation)


def cut(given: dict[str, Any], lo: int, hi: int) -> dict[str, Any]:
    """The arguments between two times."""
    timed = ("u", "delta", "B", "C", "z", "resets")
    return {name: x[:, lo:hi] if name in timed else x for name, x in given.items()}


@in_every_place
@pytest.mark.parametrize("case", TINY, ids=str)
def test_output_state_and_gradients_match_the_float64_loop(place: Place, case: Case) -> None:
    given = inputs(case, device=place.device)
    check(evaluate(given, place.implementation), judge(given), torch.float32)


@pytest.mark.parametrize("case", [*TINY, *ODD], ids=str)
def test_without_a_compiler_a_cpu_keeps_the_same_bounds(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "why_not", lambda: "not built")
    given = inputs(case)
    check(evaluate(given, "cpu"), judge(given), torch.float32)


@pytest.mark.slow
@pytest.mark.parametrize("name", INSTRUCTION_SETS)
def test_every_instruction_set_keeps_the_same_bounds(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_instruction_set(name, monkeypatch)
    for case in (*TINY, *ODD, Case(B=2, T=53, D=70, N=16, G=2, resets=(17,), reverse=True)):
        given = inputs(case)
        check(evaluate(given, "cpu"), judge(given), torch.float32)


@pytest.mark.parametrize("name", INSTRUCTION_SETS)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_cpu_gives_the_same_bits_however_inputs_lie(
    name: str, reverse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_instruction_set(name, monkeypatch)
    given = inputs(Case(B=2, T=77, D=40, N=5, reverse=reverse))
    one = evaluate(given, "cpu")
    for x in ("u", "delta", "z"):
        given[x] = given[x].mT.contiguous().mT
    given["B"] = torch.cat((given["B"], given["C"]), -1)[..., :5]
    other = evaluate(given, "cpu")
    for x in one:
        assert torch.equal(one[x], other[x]), x


def test_a_cpu_gives_the_same_bits_with_any_number_of_threads() -> None:
    given = inputs(Case(B=3, T=150, D=40, N=5, G=2, resets=(70,)))
    same_bits_of_any_threads(lambda: list(evaluate(given, "cpu").values()))


@pytest.mark.parametrize("name", INSTRUCTION_SETS)
def test_nan_of_any_input_is_not_lost_on_a_cpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use_instruction_set(name, monkeypatch)
    for of in ("u", "delta", "z", "A", "B", "C", "D", "delta_bias", "initial_state"):
        given = inputs(Case(T=40, D=20, N=3))
        given[of].view(-1)[:1] = float("nan")
        assert forward(given, "cpu")[0].isnan().any(), of


@in_every_place
@pytest.mark.parametrize("case", ODD, ids=str)
def test_odd_sizes_match_the_float64_loop(place: Place, case: Case) -> None:
    if place.interpreted:  # the kernels' branches are all in TINY
        case = Case(B=case.B, T=min(case.T, 5), D=min(case.D, 3), N=min(case.N, 5))
    given = inputs(case, device=place.device)
    check(evaluate(given, place.implementation), judge(given), torch.float32)


@in_every_place
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_costs_no_more_than_its_rounding(place: Place, dtype: torch.dtype) -> None:
    case = Case(T=9, D=3, N=2) if place.interpreted else Case(B=2, T=70, D=24, N=16)
    given = inputs(case, dtype=dtype, device=place.device)
    found = evaluate(given, place.implementation)
    check(found, judge(given), dtype, coarser(place, dtype))


@in_every_place
def test_float32_weights_go_with_bfloat16_inputs(place: Place) -> None:
    given = inputs(Case(T=9, D=3, N=2), dtype=torch.bfloat16, device=place.device)
    given["B"], given["C"] = given["B"].float(), given["C"].float()
    found = evaluate(given, place.implementation)
    check(found, judge(given), torch.bfloat16, coarser(place, torch.bfloat16))


@in_every_place
def test_any_strides_give_the_same_and_output_keeps_the_order_of_u(place: Place) -> None:
    given = inputs(Case(B=2, T=9, D=4, N=3, G=2), device=place.device)
    want = evaluate(given, place.implementation)
    odd = dict(given)
    for name in ("u", "delta", "z"):
        odd[name] = given[name].mT.contiguous().mT
    both = torch.cat((given["B"], given["C"], given["B"]), -1)
    odd["B"], odd["C"] = both[..., 6:], both[..., 3:6]
    odd["A"] = given["A"].mT.contiguous().mT
    odd["initial_state"] = given["initial_state"].repeat_interleave(2, 2)[..., ::2]
    found = evaluate(odd, place.implementation)
    assert found["out"].stride() == odd["u"].stride()
    for name in want:
        assert_near(found[name], want[name], 1e-6, name)


@in_every_place
@pytest.mark.parametrize("cuts", [[0], [1], [7], [1, 2, 3], [4, 4]], ids=str)
def test_any_cut_of_time_gives_the_same_answer(place: Place, cuts: list[int]) -> None:
    given = inputs(Case(B=2, T=11, D=3, N=2, resets=(5,)), device=place.device)
    whole, last = forward(given, place.implementation)
    parts = []
    for lo, hi in zip([0, *cuts], [*cuts, 11], strict=True):
        out, given["initial_state"] = forward(cut(given, lo, hi), place.implementation)
        parts.append(out)
    assert_near(torch.cat(parts, 1), whole, 1e-6)
    assert_near(given["initial_state"], last, 1e-6, "state")


@in_every_place
def test_inputs_and_initial_state_are_not_written_to(place: Place) -> None:
    given = inputs(Case(T=9, D=3, N=2), device=place.device)
    copies = {name: x.clone() for name, x in given.items() if isinstance(x, Tensor)}
    evaluate(given, place.implementation)
    for name, copy in copies.items():
        assert torch.equal(given[name], copy), name


@in_every_place
@pytest.mark.parametrize("reverse", [False, True])
def test_nothing_passes_a_reset_not_even_nan(place: Place, reverse: bool) -> None:
    given = inputs(Case(T=11, D=2, N=2, resets=(5,), reverse=reverse), device=place.device)
    given["u"][:, 8 if reverse else 2] = float("nan")
    given["initial_state"].fill_(float("nan"))
    out, state = forward(given, place.implementation)
    assert out[:, :6].isfinite().all() if reverse else out[:, 5:].isfinite().all()
    assert state.isfinite().all()


@in_every_place
def test_a_gradient_does_not_pass_a_reset(place: Place) -> None:
    given = inputs(Case(T=11, D=2, N=2, resets=(5,)), device=place.device)
    u = given["u"].requires_grad_()
    out, _ = scan(**given, implementation=place.implementation)
    (gradient,) = torch.autograd.grad(out[:, 5:].sum(), u)
    assert not gradient[:, :5].any()
    assert gradient[:, 5:].all()


@in_every_place
def test_rows_do_not_see_each_other(place: Place) -> None:
    given = inputs(Case(B=3, T=9, D=2, N=2), device=place.device)
    alone, state = forward(given, place.implementation)
    for name in ("u", "delta", "B", "C", "z", "initial_state"):
        given[name][1] = float("nan")
    out, after = forward(given, place.implementation)
    for row in (0, 2):
        assert torch.equal(out[row], alone[row])
        assert torch.equal(after[row], state[row])


@in_every_place
def test_an_empty_packed_sequence_returns_its_initial_state(place: Place) -> None:
    given = inputs(Case(T=9, D=2, N=2, cu_seqlens=(0, 4, 4, 9)), device=place.device)
    _, state = forward(given, place.implementation)
    assert torch.equal(state[1], given["initial_state"][1])
    del given["initial_state"]
    _, state = forward(given, place.implementation)
    assert not state[1].any()


@in_every_place
def test_extreme_decays_stay_finite_and_right(place: Place) -> None:
    given = inputs(Case(T=10, D=3, N=2, softplus=False), device=place.device)
    given["A"][0] = -1e4  # the state is forgotten within one step
    given["A"][1] = -1e-8  # the state is never forgotten
    given["delta"][:, 3] = 1.0
    given["delta"][:, 6] = 0.0
    given["u"][:, 4:6] = 0.0
    check(evaluate(given, place.implementation), judge(given), torch.float32)


@in_every_place
def test_small_and_large_steps_keep_their_digits(place: Place) -> None:
    given = inputs(Case(T=8, D=4, N=2), device=place.device)
    given["delta_bias"] = torch.tensor([-14.0, -7.0, 19.0, 25.0], device=place.device)
    given["initial_state"].zero_()
    check(evaluate(given, place.implementation), judge(given), torch.float32)


@in_every_place
def test_two_runs_agree_bitwise(place: Place) -> None:
    case = Case(T=9, D=3, N=2) if place.interpreted else Case(B=3, T=130, D=48, N=16)
    given = inputs(case, device=place.device)
    first, second = (evaluate(given, place.implementation) for _ in range(2))
    for name, x in first.items():
        assert torch.equal(x, second[name]), name


@in_every_place
@pytest.mark.parametrize("which", [0, 1], ids=["output alone", "state alone"])
def test_either_result_has_a_gradient_of_its_own(place: Place, which: int) -> None:
    given = inputs(Case(T=9, D=2, N=2), device=place.device)
    found = []
    for implementation in (place.implementation, "reference"):
        u = given["u"].detach().requires_grad_()
        result = scan(**{**given, "u": u}, implementation=implementation)[which]
        found.append(torch.autograd.grad(result.sum(), u)[0])
    assert_near(found[0], found[1], 5e-6)


@pytest.mark.parametrize("implementation", ["reference", "cpu"])
@pytest.mark.parametrize(
    "case",
    [
        Case(B=2, T=5, D=4, N=2, G=2, resets=(2,)),
        Case(T=5, D=2, N=3, reverse=True, extras=False, softplus=False),
        Case(T=6, D=2, N=2, cu_seqlens=(0, 2, 2, 6)),
    ],
    ids=str,
)
def test_gradients_are_those_of_finite_differences(implementation: str, case: Case) -> None:
    given = inputs(case, dtype=torch.float64)
    names = [n for n, x in given.items() if isinstance(x, Tensor) and x.is_floating_point()]

    def call(*leaves: Tensor) -> tuple[Tensor, Tensor]:
        named = dict(zip(names, leaves, strict=True))
        return scan(**{**given, **named}, implementation=implementation)

    assert gradcheck(call, [given[name].requires_grad_() for name in names], fast_mode=True)


def positional(given: dict[str, Any]) -> list[Any]:
    names = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "initial_state", "resets")
    return [given.get(name) for name in (*names, "cu_seqlens", "softplus", "reverse")]


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # opcheck reads it of its own copies
@pytest.mark.parametrize("place", PLACES[1:])
def test_the_operators_are_registered_rightly(place: Place) -> None:
    case = Case(T=2, D=1, N=1) if place.interpreted else Case(B=2, T=9, D=4, N=3, G=2)
    given = inputs(case, device=place.device)
    given["u"].requires_grad_()
    args = positional(given)
    torch.library.opcheck(op.scan_forward, (*args, True, place.implementation))
    given["u"].requires_grad_(False)
    out, state, kept = op.scan_forward(*args, True, place.implementation)
    torch.library.opcheck(op.scan_backward, (out, state, kept, *args, place.implementation))


# The reference is a loop that autograd reads, no op: nobody is promised to compile it.
@pytest.mark.parametrize("place", PLACES[1:])
def test_compiles_into_one_graph(place: Place) -> None:
    given = inputs(Case(T=3, D=2, N=1), device=place.device)
    u = given.pop("u").requires_grad_()

    def loss(u: Tensor) -> Tensor:
        out, state = scan(u, **given, implementation=place.implementation)
        return out.sum() + state.sum()

    compiled: Callable[[Tensor], Tensor] = torch.compile(loss, fullgraph=True, backend="aot_eager")
    (want,) = torch.autograd.grad(loss(u), u)
    (got,) = torch.autograd.grad(compiled(u), u)
    assert_near(got, want, 1e-6)


def step_inputs(
    rows: int, D: int, N: int, device: str, dtype: torch.dtype = torch.float32
) -> dict[str, Any]:
    """Arguments of ``scan_step_`` without pool and slots, and pool rows 0 … rows + 2."""
    given = inputs(Case(B=rows, T=1, D=D, N=N, G=2), device=device, dtype=dtype)
    for name in ("u", "delta", "z", "B", "C"):
        given[name] = given[name][:, 0]
    del given["reverse"], given["initial_state"]
    draw = torch.Generator().manual_seed(7)
    given["pool"] = torch.randn(rows + 3, D, N, generator=draw).to(device)
    return given


@in_every_place
@pytest.mark.parametrize("index", [torch.int32, torch.int64], ids=str)
def test_a_step_is_a_scan_of_one_frame_into_the_named_slots(
    place: Place, index: torch.dtype
) -> None:
    given = step_inputs(3, 4, 3, place.device)
    slots = torch.tensor([4, 1, 5], dtype=index, device=place.device)
    pool = given["pool"]
    before = pool.clone()
    timed = {n: x[:, None] if n in ("u", "delta", "z", "B", "C") else x for n, x in given.items()}
    del timed["pool"]
    want, state = scan(**timed, initial_state=before[slots.long()], implementation="reference")
    out = scan_step_(**given, slots=slots, implementation=place.implementation)
    assert_near(out, want[:, 0], 1e-6)
    assert_near(pool[slots.long()], state, 1e-6, "state")
    others = [row for row in range(6) if row not in (4, 1, 5)]
    assert torch.equal(pool[others], before[others])


@in_every_place
def test_padding_rows_share_the_null_slot_and_disturb_nobody(place: Place) -> None:
    given = step_inputs(4, 4, 2, place.device)
    slots = torch.tensor([0, 2, 0, 0], device=place.device)
    given["pool"][[0, 1, 3, 4, 5, 6]] = float("nan")
    alone = {n: x[1:2] if n in ("u", "delta", "z", "B", "C") else x for n, x in given.items()}
    alone["pool"] = given["pool"].clone()
    want = scan_step_(**alone, slots=slots[1:2], implementation=place.implementation)
    out = scan_step_(**given, slots=slots, implementation=place.implementation)
    assert torch.equal(out[1], want[0])
    assert torch.equal(given["pool"][2], alone["pool"][2])
    assert given["pool"][[1, 3, 4, 5, 6]].isnan().all()


@in_every_place
def test_a_pool_may_be_strided_and_bfloat16(place: Place) -> None:
    given = step_inputs(2, 4, 2, place.device, torch.bfloat16)
    slots = torch.tensor([2, 1], device=place.device)
    given["pool"] = given["pool"].bfloat16()
    wide = torch.stack((given["pool"], given["pool"]), -1)
    want = scan_step_(**given, slots=slots, implementation="reference")
    strided = wide[..., 1]
    out = scan_step_(**{**given, "pool": strided}, slots=slots, implementation=place.implementation)
    bound = 5e-3 * coarser(place, torch.bfloat16)
    assert_near(out, want, bound)
    assert_near(strided, given["pool"], bound, "state")
    assert torch.equal(wide[[0, 3, 4]][..., 1], given["pool"][[0, 3, 4]])


@in_every_place
def test_the_step_without_rows_does_nothing(place: Place) -> None:
    given = step_inputs(1, 4, 2, place.device)
    for name in ("u", "delta", "z", "B", "C"):
        given[name] = given[name][:0]
    slots = torch.zeros(0, dtype=torch.int32, device=place.device)
    assert scan_step_(**given, slots=slots, implementation=place.implementation).shape == (0, 4)


@pytest.mark.parametrize("place", PLACES[1:])
def test_the_step_operator_says_what_it_mutates(place: Place) -> None:
    given = step_inputs(2, 2, 1, place.device)
    names = ("u", "delta", "A", "B", "C", "pool", "slots", "D", "z", "delta_bias", "softplus")
    given["slots"] = torch.tensor([2, 1], device=place.device)
    torch.library.opcheck(op.scan_step_, (*[given[n] for n in names], place.implementation))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="gpu: no GPU here")
def test_a_captured_step_follows_slots_written_later() -> None:
    given = step_inputs(3, 64, 16, "cuda")
    pool, eager = given["pool"], given["pool"].clone()
    slots = torch.tensor([1, 2, 3], device="cuda")
    scan_step_(**{**given, "pool": eager.clone()}, slots=slots)  # compiled before the capture
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = scan_step_(**given, slots=slots)
    for chosen in ([1, 2, 3], [5, 0, 2], [3, 4, 0]):
        slots.copy_(torch.tensor(chosen))
        graph.replay()
        want = scan_step_(**{**given, "pool": eager}, slots=slots)
        assert torch.equal(out, want)
        assert torch.equal(pool, eager)


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("u", lambda x: x[0], "u wants 3 axes"),
        ("delta", lambda x: x[:, :2], "delta wants"),
        ("z", lambda x: x[..., :1], "z wants"),
        ("A", lambda x: x[:1], "A wants"),
        ("B", lambda x: x[..., :1], "B and C want one shape"),
        ("D", lambda x: x[:1], "D wants"),
        ("initial_state", lambda x: x[0], "initial_state wants"),
        ("resets", lambda x: x.float(), "resets wants"),
        ("u", lambda x: x.long(), "floating dtype"),
    ],
)
def test_a_wrong_shape_is_named(name: str, wrong: Callable[[Tensor], Tensor], message: str) -> None:
    given = inputs(Case(T=4, D=3, N=2, resets=(1,)))
    given[name] = wrong(given[name])
    with pytest.raises(ShapeError, match=message):
        scan(**given)


def test_packing_wants_one_row_and_no_resets() -> None:
    given = inputs(Case(B=2, T=4, D=3, N=2))
    with pytest.raises(ShapeError, match="batch of 1"):
        scan(**given, cu_seqlens=torch.tensor([0, 4], dtype=torch.int32))
    given = inputs(Case(T=4, D=3, N=2, cu_seqlens=(0, 4), resets=(1,)))
    with pytest.raises(ShapeError, match="exclude each other"):
        scan(**given)


def test_groups_must_divide_the_channels() -> None:
    given = inputs(Case(T=4, D=3, N=2, G=2, extras=False))
    with pytest.raises(ShapeError, match="do not divide"):
        scan(**given)


def test_an_unknown_implementation_is_refused_by_name() -> None:
    with pytest.raises(BackendError, match="'cuda' is unknown"):
        scan(**inputs(Case(T=1, D=1, N=1)), implementation="cuda")


@pytest.mark.parametrize("place", PLACES[2:])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    "case",
    [
        Case(B=2, T=130, D=2, N=2),  # two pieces, the last one shorter
        Case(T=192, D=2, N=3, G=2, extras=False, time_contiguous=True),  # three, whole tiles
    ],
    ids=str,
)
def test_rows_cut_into_pieces_are_whole(place: Place, case: Case, reverse: bool) -> None:
    given = inputs(replace(case, reverse=reverse), device=place.device)
    row = Blocks({}, {"most": 100, "pairs": 12, "least": 64, "pieces": 2}, 1)
    # The other direction's rows stay whole; where time runs backwards one table is of both.
    for table in ("scan.pieces",) if reverse else ("scan.pieces", "scan.pieces_backward"):
        with forced(table, row):
            found = evaluate(given, place.implementation)
        check(found, judge(given), torch.float32)


@pytest.mark.parametrize("place", PLACES[2:])
@pytest.mark.parametrize(("kernel", "row"), table_rows("scan"))
def test_every_shipped_row_of_block_sizes_is_right(place: Place, kernel: str, row: Blocks) -> None:
    with forced(kernel, row):
        if kernel == "scan.step":
            test_a_step_is_a_scan_of_one_frame_into_the_named_slots(place, torch.int32)
            return
        for states in (2,) if place.interpreted else (16, 64, 200):
            case = Case(T=11, D=3, N=states, resets=(4,))
            if not place.interpreted:
                case = Case(B=2, T=152, D=130, N=states, G=2, resets=(40,), time_contiguous=True)
            given = inputs(case, device=place.device)
            check(evaluate(given, place.implementation), judge(given), torch.float32)


@in_every_place
def test_a_negative_slot_names_no_row(place: Place) -> None:
    given = step_inputs(4, 4, 2, place.device)
    alone = {n: x[[1, 3]] if n in ("u", "delta", "z", "B", "C") else x for n, x in given.items()}
    alone["pool"] = given["pool"].clone()
    slots = torch.tensor([-1, 2, -7, 1], device=place.device)
    out = scan_step_(**given, slots=slots, implementation=place.implementation)
    want = scan_step_(**alone, slots=slots[[1, 3]], implementation=place.implementation)
    assert torch.equal(out[[1, 3]], want) and torch.equal(given["pool"], alone["pool"])
    assert (out[[0, 2]] == 0).all()
