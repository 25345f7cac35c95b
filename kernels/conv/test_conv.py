"""What every implementation of ``conv`` promises."""

from typing import Any

import pytest
import torch
from torch import Tensor

from audiomamba.errors import ShapeError
from audiomamba.kernels import native
from audiomamba.kernels.blocks import Blocks, forced
from audiomamba.kernels.conv import conv, conv_step_
from audiomamba.kernels.conv.cases import (
    BOUNDS,
    CASES,
    SMALL_CASES,
    Arguments,
    Case,
    arguments,
)
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
CPU = Place("cpu", "cpu")
NAMES = ("y", "state", "dx", "dweight", "dbias", "dinitial_state")


def run(case: Case, given: Arguments, place: Place, dtype: torch.dtype) -> list[Tensor | None]:
    """Return both results and the gradients of x, weight, bias and state."""

    def leaf(tensor: Tensor | None) -> Tensor | None:
        # A copy that keeps strides, parameters in float32 as in training.
        if tensor is None:
            return None
        return tensor.to(place.device, copy=True).requires_grad_()

    parameters = torch.promote_types(dtype, torch.float32)
    x, state = (leaf(None if v is None else v.to(dtype)) for v in (given.x, given.initial_state))
    weight, bias = (
        leaf(None if v is None else v.to(parameters)) for v in (given.weight, given.bias)
    )
    assert x is not None and weight is not None
    y, last = conv(
        x,
        weight,
        bias,
        activation=case.activation,
        initial_state=state,
        resets=None if given.resets is None else given.resets.to(place.device),
        reverse=case.reverse,
        implementation=place.implementation,
    )
    torch.autograd.backward(
        [y, last], [given.dy.to(place.device, dtype), given.dstate.to(place.device, dtype)]
    )
    leaves = (x, weight, bias, state)
    return [y.detach(), last.detach(), *(None if v is None else v.grad for v in leaves)]


def rounded(given: Arguments, dtype: torch.dtype) -> Arguments:
    """Round to a dtype and back, parameters to float32: what the implementation is fed."""
    parameters = torch.promote_types(dtype, torch.float32)

    def to(value: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        return value if value is None or value.dtype == torch.bool else value.to(dtype).double()

    values: dict[str, Any] = {
        name: to(value, parameters if name in ("weight", "bias") else dtype)
        for name, value in given._asdict().items()
    }
    return Arguments(**values)


def check(case: Case, place: Place, dtype: torch.dtype) -> None:
    given = rounded(arguments(case), dtype)
    want = run(case, given, Place("reference", "cpu"), torch.float64)
    got = run(case, given, place, dtype)
    # Triton's interpreter cuts float32 to bfloat16 where a GPU rounds.
    bound = 2 if place.interpreted and dtype == torch.bfloat16 else 1
    for name, g, w in zip(NAMES, got, want, strict=True):
        if g is None or w is None:
            assert g is w is None
        else:
            assert_near(g, w, bound * BOUNDS[dtype][name.startswith("d")], name)
    # Exact copies: the state's bits are those of the inputs.
    assert got[1] is not None and want[1] is not None
    assert torch.equal(got[1].cpu().double(), want[1])


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_results_and_gradients_are_the_definitions(place: Place, case: Case) -> None:
    if place.interpreted and case not in SMALL_CASES:
        return  # the same kernels ran above; here each program takes a tenth of a second
    check(case, place, torch.float32)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_without_a_compiler_a_cpu_keeps_the_same_bounds(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "why_not", lambda: "not built")
    check(case, CPU, torch.float32)


@pytest.mark.slow
@pytest.mark.parametrize("name", INSTRUCTION_SETS)
def test_every_instruction_set_keeps_the_same_bounds(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_instruction_set(name, monkeypatch)
    for case in (*CASES, Case(2, 61, 20, 19, "silu", resets=True), Case(1, 3, 17, 40, resets=True)):
        check(case, CPU, torch.float32)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_cpu_gives_the_same_bits_however_inputs_lie(reverse: bool) -> None:
    case = Case(2, 77, 40, 4, "silu", reverse=reverse)
    given = arguments(case)
    other = given._replace(x=given.x.contiguous(), dy=given.dy.mT.contiguous().mT)
    results = [run(case, lying, CPU, torch.float32) for lying in (given, other)]
    for a, b in zip(*results, strict=True):
        assert a is not None and b is not None and torch.equal(a, b)


def test_a_cpu_gives_the_same_bits_with_any_number_of_threads() -> None:
    case = Case(3, 150, 40, 4, "silu", resets=True)
    given = arguments(case)
    same_bits_of_any_threads(lambda: run(case, given, CPU, torch.float32))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("K", [4, 15])
def test_half_precision_costs_one_rounding(place: Place, dtype: torch.dtype, K: int) -> None:
    T = 20 if place.interpreted else 300
    check(Case(1, T, 6, K, "silu" if K == 4 else None), place, dtype)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("cuts", [[0], [1], [7], [1, 2, 3], [0, 17]], ids=str)
def test_any_cut_of_time_gives_the_same_answer(place: Place, cuts: list[int]) -> None:
    x, weight, bias, state, *_ = arguments(Case(2, 17, 5, 4))
    assert state is not None
    x, weight, state = (v.to(place.device, torch.float32) for v in (x, weight, state))
    kwargs: dict[str, Any] = {"activation": "silu", "implementation": place.implementation}
    whole, last = conv(x, weight, initial_state=state, **kwargs)
    parts = []
    for lo, hi in zip([0, *cuts], [*cuts, 17], strict=True):
        y, state = conv(x[:, lo:hi], weight, initial_state=state, **kwargs)
        parts.append(y)
    assert_near(torch.cat(parts, 1), whole, 1e-6)
    assert torch.equal(state, last)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("K", [1, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_steps_are_the_whole_and_touch_their_slots_alone(
    place: Place, K: int, dtype: torch.dtype
) -> None:
    M, T, D, R = 3, 5, 6, 7
    x, weight, bias, state, *_ = arguments(Case(M, T, D, K))
    assert bias is not None and state is not None
    x, state = x.to(place.device, dtype), state.to(place.device, dtype)
    weight, bias = weight.to(place.device, torch.float32), bias.to(place.device, torch.float32)
    kwargs: dict[str, Any] = {"activation": "silu", "implementation": place.implementation}
    whole, last = conv(x, weight, bias, initial_state=state, **kwargs)
    slots = torch.tensor([5, 0, 2, 6, 0], device=place.device)
    live = torch.tensor([0, 2, 3], device=place.device)  # the other two are padding
    pool = torch.full((R, K - 1, D), float("nan"), device=place.device, dtype=dtype)
    pool[slots[live]] = state
    for t in range(T):
        order = torch.randperm(5, generator=torch.Generator().manual_seed(t)).to(place.device)
        frame = torch.zeros(5, D, device=place.device, dtype=dtype)
        frame[live] = x[:, t]
        y = torch.empty_like(frame)
        y[order] = conv_step_(frame[order], weight, bias, pool, slots[order], **kwargs)
        assert_near(y[live], whole[:, t], 1e-6 if dtype == torch.float32 else 2.5e-3)
    assert torch.equal(pool[slots[live]], last)
    assert pool[[1, 3, 4]].isnan().all()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("reverse", [False, True])
def test_what_lies_before_a_reset_is_never_seen(place: Place, reverse: bool) -> None:
    x, weight, *_ = arguments(Case(1, 12, 3, 4))
    x, weight = x.to(place.device, torch.float32), weight.to(place.device, torch.float32)
    resets = torch.zeros(1, 12, dtype=torch.bool, device=place.device)
    resets[0, 6] = True
    before, after = (slice(7, 12), slice(0, 7)) if reverse else (slice(0, 6), slice(6, 12))
    kwargs: dict[str, Any] = {"reverse": reverse, "implementation": place.implementation}
    want, last = conv(x[:, after], weight, **kwargs)
    x[:, before] = float("nan")
    x.requires_grad_()
    got, state = conv(x, weight, resets=resets, **kwargs)
    assert_near(got[:, after], want, 1e-6)
    assert torch.equal(state, last)
    (dx,) = torch.autograd.grad(got[:, after].sum() + state.sum(), x)
    assert not dx[:, after].isnan().any()
    assert (dx[:, before] == 0).all()


@pytest.mark.parametrize("place", PLACES)
def test_no_frames_leave_the_state_as_it_was(place: Place) -> None:
    _, weight, bias, state, *_ = arguments(Case(2, 1, 3, 4))
    assert bias is not None and state is not None
    weight, bias = weight.to(place.device).float(), bias.to(place.device).float()
    state = state.to(place.device).float().requires_grad_()
    x = torch.zeros(2, 0, 3, device=place.device)
    y, last = conv(x, weight, bias, initial_state=state, implementation=place.implementation)
    assert y.shape == (2, 0, 3)
    assert torch.equal(last, state)
    assert last.data_ptr() != state.data_ptr()
    (dstate,) = torch.autograd.grad(last.sum(), state)
    assert (dstate == 1).all()


@pytest.mark.parametrize("implementation", ["reference", "cpu"])
@pytest.mark.parametrize("case", [SMALL_CASES[2], SMALL_CASES[3]], ids=str)
def test_gradients_are_those_of_finite_differences(implementation: str, case: Case) -> None:
    x, weight, bias, state, resets, *_ = arguments(case)
    assert bias is not None and state is not None
    inputs = [v.requires_grad_() for v in (x, weight, bias, state)]

    def call(x: Tensor, weight: Tensor, bias: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return conv(
            x,
            weight,
            bias,
            activation=case.activation,
            initial_state=state,
            resets=resets,
            reverse=case.reverse,
            implementation=implementation,
        )

    assert torch.autograd.gradcheck(call, inputs)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # opcheck reads it of its own copies
@pytest.mark.parametrize("place", PLACES[1:])
@pytest.mark.parametrize("layout", ["time", "channels"])
def test_the_operators_keep_their_schema(place: Place, layout: str) -> None:
    x, weight, bias, state, resets, *_ = arguments(Case(2, 5, 3, 4, resets=True, layout=layout))
    assert bias is not None and state is not None
    x, weight, bias, state = (
        v.to(place.device, torch.float32).requires_grad_() for v in (x, weight, bias, state)
    )
    conv(torch.zeros(1, 1, 1, device=place.device), torch.ones(1, 1, device=place.device),
         implementation=place.implementation)  # registers the operators  # fmt: skip
    op = getattr(torch.ops.audiomamba, f"conv_{place.implementation}").default
    resets = None if resets is None else resets.to(place.device)
    torch.library.opcheck(op, (x, weight, bias, state, resets, True, False))
    torch.library.opcheck(op, (x, weight, None, None, None, False, True))
    step = getattr(torch.ops.audiomamba, f"conv_{place.implementation}_step_").default
    frame, pool = x.detach()[:, 0], torch.zeros(4, 3, 3, device=place.device)
    slots = torch.tensor([2, 1], device=place.device)
    torch.library.opcheck(step, (frame, weight.detach(), None, pool, slots, True))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("layout", ["time", "channels"])
def test_results_and_gradients_lie_in_memory_as_the_input(place: Place, layout: str) -> None:
    x, weight, *_ = arguments(Case(2, 5, 3, 4, layout=layout))
    x, weight = x.to(place.device).float().requires_grad_(), weight.to(place.device).float()
    y, _ = conv(x, weight, implementation=place.implementation)
    (dx,) = torch.autograd.grad(y.square().sum(), x)
    fast = 1 if layout == "time" else 2
    if place.implementation != "reference":
        assert y.stride(fast) == dx.stride(fast) == 1


@pytest.mark.parametrize("place", PLACES)
def test_two_runs_are_bitwise_equal(place: Place) -> None:
    case = Case(2, 12, 3, 4, "silu") if place.interpreted else Case(4, 600, 40, 4, "silu")
    given = arguments(case)
    first, second = (run(case, given, place, torch.float32) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert a is not None and b is not None
        assert torch.equal(a, b)


def test_a_compiled_graph_is_whole() -> None:
    x, weight, *_ = arguments(Case(1, 6, 3, 4))

    @torch.compile(fullgraph=True, backend="aot_eager")
    def compiled(x: Tensor, weight: Tensor) -> Tensor:
        return conv(x, weight, activation="silu")[0]

    x, weight = x.float().requires_grad_(), weight.float()
    got, want = compiled(x, weight), conv(x, weight, activation="silu")[0]
    assert torch.equal(got, want)
    assert torch.equal(*(torch.autograd.grad(v.sum(), x)[0] for v in (got, want)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="gpu: no GPU here")
def test_a_replayed_graph_follows_its_slots() -> None:
    x, weight = torch.randn(2, 8, device="cuda"), torch.randn(8, 4, device="cuda")
    pool, slots = torch.randn(5, 3, 8, device="cuda"), torch.tensor([1, 2], device="cuda")
    conv_step_(x, weight, None, pool.clone(), slots)  # compiled before it is captured
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = conv_step_(x, weight, None, pool, slots)
    slots.copy_(torch.tensor([4, 3]))
    expected = pool.clone()
    want = conv_step_(x, weight, None, expected, slots)
    graph.replay()
    assert torch.equal(y, want)
    assert torch.equal(pool, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(2, 3)}, r"x must be \(B, T, D\)"),
        ({"weight": torch.zeros(4, 4)}, r"weight must be \(3, K"),
        ({"bias": torch.zeros(4)}, r"bias must be \(3,\)"),
        ({"activation": "relu"}, "activation"),
        ({"initial_state": torch.zeros(2, 4, 3)}, r"initial_state must be \(2, 3, 3\)"),
        ({"resets": torch.zeros(2, 5)}, "resets must be bool"),
    ],
)
def test_a_wrong_argument_is_named(change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"x": torch.zeros(2, 5, 3), "weight": torch.zeros(3, 4)}
    with pytest.raises(ShapeError, match=message):
        conv(**(given | change))


@pytest.mark.parametrize("place", PLACES[2:])
@pytest.mark.parametrize(("kernel", "row"), table_rows("conv"))
def test_every_shipped_row_of_block_sizes_is_right(place: Place, kernel: str, row: Blocks) -> None:
    if kernel == "conv.steps":
        return  # see test_several_frames.py
    with forced(kernel, row):
        if kernel == "conv.step":
            test_steps_are_the_whole_and_touch_their_slots_alone(place, 4, torch.float32)
            return
        for layout in ("time", "channels"):
            D, T = (5, 40) if place.interpreted else (150, 700)
            resets = "vectors" not in kernel  # those have none
            check(Case(2, T, D, 4, "silu", resets=resets, layout=layout), place, torch.float32)


@pytest.mark.parametrize("place", PLACES)
def test_a_negative_slot_names_no_row(place: Place) -> None:
    x, weight, bias, pool, *_ = arguments(Case(4, 1, 6, 4))
    assert bias is not None and pool is not None
    x, weight, bias, pool = (v.to(place.device, torch.float32) for v in (x, weight, bias, pool))
    before, x = pool.clone(), x[:, 0]
    slots = torch.tensor([-1, 2, -1, 0], device=place.device)
    how: dict[str, Any] = {"activation": "silu", "implementation": place.implementation}
    out = conv_step_(x, weight, bias, pool, slots, **how)
    alone = before.clone()
    want = conv_step_(x[[1, 3]], weight, bias, alone, slots[[1, 3]], **how)
    assert torch.equal(out[[1, 3]], want) and torch.equal(pool, alone)
    assert (out[[0, 2]] == 0).all()
