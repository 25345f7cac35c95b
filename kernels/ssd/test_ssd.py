"""The duality keeps its contract in every implementation; the float64 loop is the judge."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from audiomamba.errors import BackendError, ShapeError
from audiomamba.kernels import testing
from audiomamba.kernels.blocks import Blocks, forced
from audiomamba.kernels.ssd import op, reference, ssd, ssd_step_
from audiomamba.kernels.ssd.cases import BOUNDS, ODD, TINY, Case, inputs
from audiomamba.kernels.testing import PLACES, Place, assert_near, table_rows

pytestmark = pytest.mark.usefixtures("poison")
in_every_place = pytest.mark.parametrize("place", PLACES)

evaluate, judge = partial(testing.evaluate, ssd), partial(testing.judge, ssd)

LONG_SUMS = ("A", "D", "delta_bias")
TIMED = ("x", "delta", "B", "C", "z", "resets")


def check(
    found: dict[str, Tensor], wanted: dict[str, Tensor], dtype: torch.dtype, factor: float = 1
) -> None:
    bounds = BOUNDS[dtype]
    for name, want in wanted.items():
        bound = bounds.long_sum if name.split()[-1] in LONG_SUMS else bounds.gradient
        bound = {"out": bounds.out, "state": bounds.state}.get(name, bound)
        assert_near(found[name], want, factor * bound, name)


def coarser(place: Place, dtype: torch.dtype) -> float:
    """Triton's interpreter cuts float32 to bfloat16 where a GPU rounds, twice on the way: all
    errors have one sign, and add up."""
    return 3 if place.interpreted and dtype == torch.bfloat16 else 1


def forward(given: dict[str, Any], implementation: str) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        return ssd(**given, implementation=implementation)


@in_every_place
@pytest.mark.parametrize("case", TINY, ids=str)
def test_output_state_and_gradients_match_the_float64_loop(place: Place, case: Case) -> None:
    given = inputs(case, device=place.device)
    check(evaluate(given, place.implementation), judge(given), torch.float32)


@in_every_place
@pytest.mark.parametrize("case", ODD, ids=str)
def test_odd_sizes_match_the_float64_loop(place: Place, case: Case) -> None:
    if place.interpreted:  # the kernels' branches are all in TINY
        case = Case(B=case.B, T=min(case.T, 5), H=case.H, G=case.G, P=min(case.P, 80), N=case.N)
    given = inputs(case, device=place.device)
    check(evaluate(given, place.implementation), judge(given), torch.float32)


@pytest.mark.parametrize("case", [TINY[0], TINY[1], ODD[3], ODD[6]], ids=str)
def test_the_quadratic_form_is_the_recurrence(case: Case) -> None:
    given = inputs(case, dtype=torch.float64)
    for name in ("initial_state", "resets"):
        given.pop(name, None)
    want, _ = forward(given, "reference")
    if "D" in given:
        given["D"] = given["D"][:, None].expand(case.H, case.P)
    assert_near(reference.ssd_quadratic(**given), want, 1e-12)


@in_every_place
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_costs_no_more_than_its_rounding(place: Place, dtype: torch.dtype) -> None:
    case = Case(T=70, H=2 if place.interpreted else 4, P=20, N=16)
    if place.device == "cuda":
        case = Case(B=2, T=300, H=4, P=64, N=128)
    given = inputs(case, dtype=dtype, device=place.device)
    found = evaluate(given, place.implementation)
    check(found, judge(given), dtype, coarser(place, dtype))


@in_every_place
def test_any_strides_give_the_same(place: Place) -> None:
    given = inputs(Case(B=2, T=9, H=4, P=3, N=3, G=2), device=place.device)
    want = evaluate(given, place.implementation)
    odd = dict(given)
    for name in ("x", "z"):
        odd[name] = given[name].transpose(1, 3).contiguous().transpose(1, 3)
    odd["delta"] = given["delta"].mT.contiguous().mT
    both = torch.cat((given["B"], given["C"], given["B"]), -1)
    odd["B"], odd["C"] = both[..., 6:], both[..., 3:6]
    odd["initial_state"] = given["initial_state"].repeat_interleave(2, 2)[..., ::2, :]
    odd["D"] = given["D"][:, None].expand(4, 3)
    found = evaluate(odd, place.implementation)
    assert found["out"].stride() == odd["x"].stride()
    found["gradient of D"] = found["gradient of D"].sum(1)
    for name in want:
        assert_near(found[name], want[name], 1e-6, name)


@in_every_place
@pytest.mark.parametrize("cuts", [[0], [1], [32], [1, 2, 40]], ids=str)
def test_any_cut_of_time_gives_the_same_answer(place: Place, cuts: list[int]) -> None:
    given = inputs(Case(B=2, T=45, H=2, P=3, N=2, resets=(37,)), device=place.device)
    whole, last = forward(given, place.implementation)
    parts = []
    for lo, hi in zip([0, *cuts], [*cuts, 45], strict=True):
        now = {name: x[:, lo:hi] if name in TIMED else x for name, x in given.items()}
        out, given["initial_state"] = forward(now, place.implementation)
        parts.append(out)
    assert_near(torch.cat(parts, 1), whole, 1e-6)
    assert_near(given["initial_state"], last, 1e-6, "state")


@in_every_place
def test_inputs_and_initial_state_are_not_written_to(place: Place) -> None:
    given = inputs(Case(T=9, H=2, P=3, N=2), device=place.device)
    copies = {name: x.clone() for name, x in given.items() if isinstance(x, Tensor)}
    evaluate(given, place.implementation)
    for name, copy in copies.items():
        assert torch.equal(given[name], copy), name


@in_every_place
def test_nothing_passes_a_reset_not_even_nan(place: Place) -> None:
    given = inputs(Case(T=40, H=2, P=2, N=2, resets=(5, 20)), device=place.device)
    given["x"][:, 2] = float("nan")
    given["B"][:, 3] = float("nan")
    given["initial_state"].fill_(float("nan"))
    given["x"].requires_grad_()
    out, state = ssd(**given, implementation=place.implementation)
    assert out[:, 5:].isfinite().all()
    assert state.isfinite().all()
    (gradient,) = torch.autograd.grad(out[:, 5:].sum(), given["x"])
    assert gradient[:, 5:].isfinite().all()


@in_every_place
def test_a_gradient_does_not_pass_a_reset(place: Place) -> None:
    given = inputs(Case(T=11, H=2, P=2, N=2, resets=(5,)), device=place.device)
    x = given["x"].requires_grad_()
    out, _ = ssd(**given, implementation=place.implementation)
    (gradient,) = torch.autograd.grad(out[:, 5:].sum(), x)
    assert not gradient[:, :5].any()
    assert gradient[:, 5:].all()


@in_every_place
def test_rows_do_not_see_each_other(place: Place) -> None:
    given = inputs(Case(B=3, T=9, H=2, P=2, N=2), device=place.device)
    alone, state = forward(given, place.implementation)
    for name in ("x", "delta", "B", "C", "z", "initial_state"):
        given[name][1] = float("nan")
    out, after = forward(given, place.implementation)
    for row in (0, 2):
        assert torch.equal(out[row], alone[row])
        assert torch.equal(after[row], state[row])
    assert out[1].isnan().all() and after[1].isnan().all()


@in_every_place
def test_an_empty_packed_sequence_returns_its_initial_state(place: Place) -> None:
    given = inputs(Case(T=9, H=2, P=2, N=2, cu_seqlens=(0, 4, 4, 9)), device=place.device)
    _, state = forward(given, place.implementation)
    assert torch.equal(state[1], given["initial_state"][1])
    del given["initial_state"]
    _, state = forward(given, place.implementation)
    assert not state[1].any()


@in_every_place
def test_extreme_decays_stay_finite_and_right(place: Place) -> None:
    given = inputs(Case(T=10, H=3, P=3, N=2, softplus=False), device=place.device)
    given["A"][0] = -1e4  # the state is forgotten within one step
    given["A"][1] = -1e-8  # the state is never forgotten
    given["delta"][:, 3] = 1.0
    given["delta"][:, 6] = 0.0
    given["x"][:, 4:6] = 0.0
    check(evaluate(given, place.implementation), judge(given), torch.float32)


@in_every_place
def test_what_follows_a_great_decay_keeps_its_digits(place: Place) -> None:
    given = inputs(Case(T=30, H=2, P=3, N=2, softplus=False), device=place.device)
    given["A"][:] = -1.0
    given["delta"][:, ::7] = 2e3  # sums of logarithms reach 1e4, differences between them 1e-2
    given["delta_bias"].zero_()
    check(evaluate(given, place.implementation), judge(given), torch.float32)


@in_every_place
def test_small_and_large_steps_keep_their_digits(place: Place) -> None:
    given = inputs(Case(T=8, H=4, P=2, N=2), device=place.device)
    given["delta_bias"] = torch.tensor([-14.0, -7.0, 19.0, 25.0], device=place.device)
    given["initial_state"].zero_()
    check(evaluate(given, place.implementation), judge(given), torch.float32)


@in_every_place
def test_two_runs_agree_bitwise(place: Place) -> None:
    case = Case(T=9, H=2, P=3, N=2)
    if place.device == "cuda":
        case = Case(B=3, T=530, H=2, P=48, N=16)
    given = inputs(case, device=place.device)
    first, second = (evaluate(given, place.implementation) for _ in range(2))
    for name, x in first.items():
        assert torch.equal(x, second[name]), name


@in_every_place
@pytest.mark.parametrize("which", [0, 1], ids=["output alone", "state alone"])
def test_either_result_has_a_gradient_of_its_own(place: Place, which: int) -> None:
    given = inputs(Case(T=9, H=2, P=2, N=2), device=place.device)
    found = []
    for implementation in (place.implementation, "reference"):
        x = given["x"].detach().requires_grad_()
        result = ssd(**{**given, "x": x}, implementation=implementation)[which]
        found.append(torch.autograd.grad(result.sum(), x)[0])
    assert_near(found[0], found[1], 5e-6)


@pytest.mark.parametrize("implementation", ["reference", "cpu"])
@pytest.mark.parametrize(
    "case",
    [
        Case(B=2, T=5, H=4, P=2, N=2, G=2, resets=(2,)),
        Case(T=5, H=2, P=1, N=3, extras=False, softplus=False),
        Case(T=6, H=2, P=2, N=2, cu_seqlens=(0, 2, 2, 6)),
        Case(T=5, H=2, P=2, N=2, by_step=True),
    ],
    ids=str,
)
def test_gradients_are_those_of_finite_differences(implementation: str, case: Case) -> None:
    given = inputs(case, dtype=torch.float64)
    names = [n for n, x in given.items() if isinstance(x, Tensor) and x.is_floating_point()]

    def call(*leaves: Tensor) -> tuple[Tensor, Tensor]:
        named = dict(zip(names, leaves, strict=True))
        return ssd(**{**given, **named}, implementation=implementation)

    assert gradcheck(call, [given[name].requires_grad_() for name in names], fast_mode=True)


def positional(given: dict[str, Any], case: Case) -> list[Any]:
    names = ("x", "delta", "A", "B", "C", "D", "z", "delta_bias", "initial_state", "resets")
    args = [given.get(name) for name in (*names, "cu_seqlens")]
    args[5] = None if args[5] is None else args[5][:, None].expand(case.H, case.P)
    return [*args, case.softplus, *case.limit]


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # opcheck reads it of its own copies
@pytest.mark.parametrize("place", PLACES[1:])
def test_the_operators_are_registered_rightly(place: Place) -> None:
    case = Case(T=2, H=1, P=1, N=1) if place.interpreted else Case(B=2, T=9, H=4, P=3, N=3, G=2)
    given = inputs(case, device=place.device)
    given["x"].requires_grad_()
    args = positional(given, case)
    torch.library.opcheck(op.ssd_forward, (*args, True, place.implementation))
    given["x"].requires_grad_(False)
    out, state, kept = op.ssd_forward(*args, True, place.implementation)
    torch.library.opcheck(op.ssd_backward, (out, state, kept, *args, place.implementation))


# The reference is a loop that autograd reads, no op: nobody is promised to compile it.
@pytest.mark.parametrize("place", PLACES[1:])
def test_compiles_into_one_graph(place: Place) -> None:
    given = inputs(Case(T=3, H=2, P=2, N=1), device=place.device)
    x = given.pop("x").requires_grad_()

    def loss(x: Tensor) -> Tensor:
        out, state = ssd(x, **given, implementation=place.implementation)
        return out.sum() + state.sum()

    compiled: Callable[[Tensor], Tensor] = torch.compile(loss, fullgraph=True, backend="aot_eager")
    (want,) = torch.autograd.grad(loss(x), x)
    (got,) = torch.autograd.grad(compiled(x), x)
    assert_near(got, want, 1e-6)


STEPPED = ("x", "delta", "z", "B", "C")


def step_inputs(
    rows: int, case: Case, device: str, dtype: torch.dtype = torch.float32
) -> dict[str, Any]:
    """Arguments of ``ssd_step_`` without slots; the pool has rows 0 … rows + 2."""
    given = inputs(case, device=device, dtype=dtype)
    for name in (*STEPPED, "A") if case.by_step else STEPPED:
        given[name] = given[name][:, 0]
    del given["initial_state"]
    draw = torch.Generator().manual_seed(7)
    given["pool"] = torch.randn(rows + 3, case.H, case.P, case.N, generator=draw).to(device)
    return given


@in_every_place
@pytest.mark.parametrize("index", [torch.int32, torch.int64], ids=str)
@pytest.mark.parametrize("by_step", [False, True])
def test_a_step_is_one_frame_into_the_named_slots(
    place: Place, index: torch.dtype, by_step: bool
) -> None:
    case = Case(B=3, T=1, H=4, P=5, N=3, G=2, limit=(0.01, 0.1), by_step=by_step)
    given = step_inputs(3, case, place.device)
    slots = torch.tensor([4, 1, 5], dtype=index, device=place.device)
    pool = given["pool"]
    before = pool.clone()
    stepped = (*STEPPED, "A") if by_step else STEPPED
    timed = {n: x[:, None] if n in stepped else x for n, x in given.items()}
    del timed["pool"]
    want, state = ssd(**timed, initial_state=before[slots.long()], implementation="reference")
    out = ssd_step_(**given, slots=slots, implementation=place.implementation)
    assert_near(out, want[:, 0], 1e-6)
    assert_near(pool[slots.long()], state, 1e-6, "state")
    others = [row for row in range(6) if row not in (4, 1, 5)]
    assert torch.equal(pool[others], before[others])


@in_every_place
def test_padding_rows_share_the_null_slot_and_disturb_nobody(place: Place) -> None:
    given = step_inputs(4, Case(B=4, T=1, H=2, P=4, N=2), place.device)
    slots = torch.tensor([0, 2, 0, 0], device=place.device)
    given["pool"][[0, 1, 3, 4, 5, 6]] = float("nan")
    alone = {n: x[1:2] if n in STEPPED else x for n, x in given.items()}
    alone["pool"] = given["pool"].clone()
    want = ssd_step_(**alone, slots=slots[1:2], implementation=place.implementation)
    out = ssd_step_(**given, slots=slots, implementation=place.implementation)
    assert_near(out[1], want[0], 1e-6)
    assert_near(given["pool"][2], alone["pool"][2], 1e-6)
    assert given["pool"][[1, 3, 4, 5, 6]].isnan().all()


@in_every_place
def test_a_pool_may_be_strided_and_bfloat16(place: Place) -> None:
    case = Case(B=2, T=1, H=2, P=4, N=2)
    given = step_inputs(2, case, place.device, torch.bfloat16)
    slots = torch.tensor([2, 1], device=place.device)
    given["pool"] = given["pool"].bfloat16()
    wide = torch.stack((given["pool"], given["pool"]), -1)
    want = ssd_step_(**given, slots=slots, implementation="reference")
    strided = wide[..., 1]
    out = ssd_step_(**{**given, "pool": strided}, slots=slots, implementation=place.implementation)
    bound = 5e-3 * coarser(place, torch.bfloat16)
    assert_near(out, want, bound)
    assert_near(strided, given["pool"], bound, "state")
    assert torch.equal(wide[[0, 3, 4]][..., 1], given["pool"][[0, 3, 4]])


@in_every_place
def test_the_step_without_rows_does_nothing(place: Place) -> None:
    given = step_inputs(1, Case(T=1, H=2, P=4, N=2), place.device)
    for name in STEPPED:
        given[name] = given[name][:0]
    slots = torch.zeros(0, dtype=torch.int32, device=place.device)
    assert ssd_step_(**given, slots=slots, implementation=place.implementation).shape == (0, 2, 4)


@pytest.mark.parametrize("place", PLACES[1:])
def test_the_step_operator_says_what_it_mutates(place: Place) -> None:
    case = Case(B=2, T=1, H=2, P=2, N=1)
    given = step_inputs(2, case, place.device)
    given["D"] = given["D"][:, None].expand(2, 2)
    given["slots"] = torch.tensor([2, 1], device=place.device)
    names = ("x", "delta", "A", "B", "C", "pool", "slots", "D", "z", "delta_bias", "softplus")
    args = (*[given[n] for n in names], *case.limit, place.implementation)
    torch.library.opcheck(op.ssd_step_, args)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="gpu: no GPU here")
def test_a_captured_step_follows_slots_written_later() -> None:
    given = step_inputs(3, Case(B=3, T=1, H=4, P=64, N=128), "cuda")
    pool, eager = given["pool"], given["pool"].clone()
    slots = torch.tensor([1, 2, 3], device="cuda")
    ssd_step_(**{**given, "pool": eager.clone()}, slots=slots)  # compiled before the capture
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = ssd_step_(**given, slots=slots)
    for chosen in ([1, 2, 3], [5, 0, 2], [3, 4, 0]):
        slots.copy_(torch.tensor(chosen))
        graph.replay()
        want = ssd_step_(**{**given, "pool": eager}, slots=slots)
        assert torch.equal(out, want)
        assert torch.equal(pool, eager)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="gpu: no GPU here")
def test_forward_and_backward_are_captured_packed_or_not() -> None:
    for packed in ((), (0, 100, 100, 700)):
        given = inputs(Case(T=700, H=4, P=64, N=64, cu_seqlens=packed), device="cuda")
        given["x"].requires_grad_()

        def both(given: dict[str, Any] = given) -> tuple[Tensor, Tensor]:
            out, _ = ssd(**given)
            # Detached: a graph that lives on would tie x to the stream that it was captured on.
            return out.detach(), torch.autograd.grad(out.sum(), given["x"])[0]

        both()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = both()
        with torch.no_grad():
            given["x"].mul_(0.5)
        graph.replay()
        for got, want in zip(captured, both(), strict=True):
            assert torch.equal(got, want)


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("x", lambda x: x[0], "x wants 4 axes"),
        ("delta", lambda x: x[:, :2], "delta wants"),
        ("z", lambda x: x[..., :1], "z wants"),
        ("A", lambda x: x[:1], "A wants"),
        ("B", lambda x: x[..., :1], "B and C want one shape"),
        ("D", lambda x: x[:1], "D wants"),
        ("initial_state", lambda x: x[0], "initial_state wants"),
        ("resets", lambda x: x.float(), "resets wants"),
        ("x", lambda x: x.long(), "floating dtype"),
        ("delta_limit", lambda x: (2.0, 1.0), "least <= largest"),
    ],
)
def test_a_wrong_shape_is_named(name: str, wrong: Callable[[Any], Any], message: str) -> None:
    given = inputs(Case(T=4, H=3, P=2, N=2, resets=(1,)))
    given[name] = wrong(given[name])
    with pytest.raises(ShapeError, match=message):
        ssd(**given)


def test_packing_wants_one_row_and_no_resets() -> None:
    given = inputs(Case(B=2, T=4, H=3, P=2, N=2))
    with pytest.raises(ShapeError, match="batch of 1"):
        ssd(**given, cu_seqlens=torch.tensor([0, 4], dtype=torch.int32))
    given = inputs(Case(T=4, H=3, P=2, N=2, cu_seqlens=(0, 4), resets=(1,)))
    with pytest.raises(ShapeError, match="exclude each other"):
        ssd(**given)


def test_groups_must_divide_the_heads() -> None:
    with pytest.raises(ShapeError, match="do not divide"):
        ssd(**inputs(Case(T=4, H=3, P=2, N=2, G=2, extras=False)))


def test_an_unknown_implementation_is_refused_by_name() -> None:
    with pytest.raises(BackendError, match="'cuda' is unknown"):
        ssd(**inputs(Case(T=1, H=1, P=1, N=1)), implementation="cuda")


@pytest.mark.parametrize("place", PLACES[2:])
@pytest.mark.parametrize(("kernel", "row"), table_rows("ssd"))
def test_every_shipped_row_of_block_sizes_is_right(place: Place, kernel: str, row: Blocks) -> None:
    with forced(kernel, row):
        if kernel == "ssd.step":
            test_a_step_is_one_frame_into_the_named_slots(place, torch.int32, False)
            return
        dtype = torch.float32 if place.interpreted or "bytes" in row.least else torch.bfloat16
        case = Case(T=70, H=2, P=3, N=2, resets=(33,))
        if not place.interpreted:
            states = min(256, row.least.get("states", 128))
            case = Case(B=2, T=200, H=4, P=100, N=states, G=2, resets=(70,))
        given = inputs(case, dtype=dtype, device=place.device)
        check(evaluate(given, place.implementation), judge(given), dtype)


# Each is compiled otherwise, in whole or half tiles and with as many products unrolled. There are
# few steps and two heads: how close sums over all of them come is for the tests above.
@pytest.mark.parametrize("place", PLACES[3:])
@pytest.mark.parametrize("N", [16, 64, 128, 256])
@pytest.mark.parametrize("P", [16, 64, 100, 128, 256])
def test_every_width_is_right_in_16_bits(place: Place, P: int, N: int) -> None:
    for extras in (False, True):
        case = Case(T=130, H=2, P=P, N=N, extras=extras)
        given = inputs(case, dtype=torch.bfloat16, device=place.device)
        wanted = judge(given)
        for name in [name for name in wanted if name.split()[-1] in LONG_SUMS]:
            del wanted[name]
        check(evaluate(given, place.implementation), wanted, torch.bfloat16, factor=2)


def test_memory_too_wide_for_short_offsets_is_copied() -> None:
    apart = 2**25 + 2**21
    wide = torch.empty_strided((2, 100, 3, 64), (1, 2, 200, apart), device="meta")
    assert op.near(wide).is_contiguous()
    assert op.near(wide[..., :32]).stride() == wide.stride()


@in_every_place
def test_a_negative_slot_names_no_row(place: Place) -> None:
    given = step_inputs(4, Case(B=4, T=1, H=2, P=4, N=2), place.device)
    alone = {n: x[[1, 3]] if n in STEPPED else x for n, x in given.items()}
    alone["pool"] = given["pool"].clone()
    slots = torch.tensor([-1, 2, -7, 1], device=place.device)
    out = ssd_step_(**given, slots=slots, implementation=place.implementation)
    want = ssd_step_(**alone, slots=slots[[1, 3]], implementation=place.implementation)
    assert torch.equal(out[[1, 3]], want) and torch.equal(given["pool"], alone["pool"])
    assert (out[[0, 2]] == 0).all()
