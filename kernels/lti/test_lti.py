"""What every implementation and mode of ``lti`` promises."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from audiomamba.errors import ShapeError
from audiomamba.kernels import blocks, native
from audiomamba.kernels.blocks import Blocks, forced, pick_blocks
from audiomamba.kernels.lti import MODES, lti, lti_step_
from audiomamba.kernels.lti.cases import BOUNDS, CASES, SMALL_CASES, Arguments, Case, arguments
from audiomamba.kernels.lti.discretize import discretize, powers, tables
from audiomamba.kernels.lti.op import recurrence
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
NAMES = ("y", "state", "du", "dA", "dB", "dC", "ddelta", "dD", "dinitial_state")
STREAM = ("u", "dy")  # in the dtype under test; the rest stays wide
WITH_RESETS = [mode for mode in MODES if mode != "conv"]


def cast(given: Arguments, device: str, dtype: torch.dtype) -> Arguments:
    """Move to a device and to the dtypes an implementation is fed."""
    wide = torch.promote_types(dtype, torch.float32)

    def to(name: str, value: Tensor | None) -> Tensor | None:
        if value is None or value.dtype == torch.bool:
            return None if value is None else value.to(device)
        if value.is_complex():
            wide_complex = torch.complex128 if wide == torch.float64 else torch.complex64
            return value.to(device, wide_complex, copy=True)
        return value.to(device, dtype if name in STREAM else wide, copy=True)

    values: dict[str, Any] = {name: to(name, value) for name, value in given._asdict().items()}
    return Arguments(**values)


def run(
    case: Case,
    given: Arguments,
    place: Place,
    dtype: torch.dtype,
    mode: str | None,
    *,
    of_state: bool = True,
) -> list[Tensor | None]:
    """Return both results and the gradients of all seven tensors, from the state's as well."""
    given = cast(given, place.device, dtype)
    leaves = [None if v is None else v.requires_grad_() for v in given[:7]]
    y, state = lti(
        *given[:5], **given.options(case, mode=mode, implementation=place.implementation)
    )
    if of_state:
        torch.autograd.backward([y, state], [given.dy, given.dstate])
    else:
        y.backward(given.dy)
    return [y.detach(), state.detach(), *(None if v is None else v.grad for v in leaves)]


def cancelled(given: Arguments, want: dict[str, Tensor | None]) -> float:
    """By how much the terms of delta's gradient are larger than their sum.

    A and B enter as delta A and delta B alone, so delta times its gradient is the sum over the
    states of Re(conj(A) dA) + Re(conj(B) dB), and these cancel. The error of dA and dB is that of a
    float32 loop: after 1,000 steps 2e-6 in numpy's arithmetic as on an H200, and 1.0e-5 of delta's.
    """
    terms = torch.zeros_like(given.delta)
    for x, gradient in ((given.A, want["dA"]), (given.B, want["dB"])):
        assert gradient is not None
        terms += (x.abs() * gradient.abs()).sum(-1)
    of_delta = want["ddelta"]
    assert of_delta is not None
    return float((terms / given.delta).norm() / of_delta.norm())


def check(case: Case, place: Place, dtype: torch.dtype, mode: str | None) -> None:
    given = arguments(case)
    if dtype not in (torch.float32, torch.float64):
        given = given._replace(u=given.u.to(dtype).double(), dy=given.dy.to(dtype).double())
    want = run(case, given, Place("reference", "cpu"), torch.float64, None)
    got = run(case, given, place, dtype, mode)
    # Triton's interpreter cuts float32 to bfloat16 where a GPU rounds.
    bound = 2 if place.interpreted and dtype == torch.bfloat16 else 1
    wanted = dict(zip(NAMES, want, strict=True))
    for name, g, w in zip(NAMES, got, want, strict=True):
        if g is None or w is None:
            assert g is w is None
        elif name == "state":  # float32 whatever u is
            assert_near(g, w, 1e-11 if dtype == torch.float64 else 1e-6, name)
        elif name == "ddelta" and dtype == torch.float32:  # dA and dB, each within its bound, added
            assert_near(g, w, cancelled(given, wanted) * BOUNDS[dtype][True], name)
        else:
            assert_near(g, w, bound * BOUNDS[dtype][name.startswith("d")], name)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_results_and_gradients_are_the_definitions(
    place: Place, mode: str | None, case: Case
) -> None:
    if case.resets and mode == "conv":
        return  # refused; see test_a_wrong_argument_is_named
    if place.interpreted and case not in SMALL_CASES:
        return  # the same kernels ran above
    check(case, place, torch.float32, mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_without_a_compiler_a_cpu_keeps_the_same_bounds(
    mode: str | None, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    if case.resets and mode == "conv":
        return
    monkeypatch.setattr(native, "why_not", lambda: "not built")
    check(case, CPU, torch.float32, mode)


@pytest.mark.slow
@pytest.mark.parametrize("name", INSTRUCTION_SETS)
def test_every_instruction_set_keeps_the_same_bounds(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_instruction_set(name, monkeypatch)
    for case in (*CASES, Case(2, 70, 40, 3, resets=True), Case(1, 3000, 3, 4)):
        check(case, CPU, torch.float32, None)


def test_a_cpu_gives_the_same_bits_however_inputs_lie() -> None:
    case = Case(2, 77, 40, 3)
    given = arguments(case)
    other = given._replace(u=given.u.contiguous(), dy=given.dy.mT.contiguous().mT)
    results = [run(case, lying, CPU, torch.float32, None) for lying in (given, other)]
    for a, b in zip(*results, strict=True):
        assert a is not None and b is not None and torch.equal(a, b)


def test_a_cpu_gives_the_same_bits_with_any_number_of_threads() -> None:
    case = Case(3, 150, 40, 5, resets=True)
    given = arguments(case)
    same_bits_of_any_threads(lambda: run(case, given, CPU, torch.float32, None))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # opcheck reads it of its own copies
def test_the_recurrence_of_a_cpu_keeps_its_schema() -> None:
    if native.why_not() is not None:
        pytest.skip("the native library was not built")
    case = Case(2, 20, 5, 3, resets=True)
    given = cast(arguments(case), "cpu", torch.float32)
    system = discretize(*given[1:6], 1.0, "zoh", torch.float32)
    leaves = [x.requires_grad_() for x in (given.u, *tables(system)) if x is not None]
    for initial, resets in ((given.initial_state, given.resets), (None, None)):
        torch.library.opcheck(recurrence, (*leaves, initial, resets, "compiled"))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_costs_one_rounding(
    place: Place, mode: str | None, dtype: torch.dtype
) -> None:
    check(Case(2, 20 if place.interpreted else 300, 6, 4), place, dtype, mode)


CHUNKS = Blocks({}, {"frames": 16, "rows": 16, "backward_warps": 4, "programs": 8}, 4, stages=1)


@pytest.mark.parametrize("place", PLACES[2:])
@pytest.mark.parametrize(
    "case",
    [
        Case(1, 1, 1, 1),
        Case(2, 45, 2, 5, "bilinear", layout="channels"),
        Case(1, 64, 3, 17, skip=False, layout="strided"),
        Case(2, 300, 1, 3),  # two blocks
        Case(5, 513, 1, 3, state=False),  # a frame into the third block; rows of two programs
    ],
    ids=str,
)
def test_products_of_chunks_are_the_definition(place: Place, case: Case) -> None:
    """Gradients of parameters and states stay in float32, so they are held closer than outputs."""
    given = arguments(case)
    given = given._replace(u=given.u.bfloat16().double(), dy=given.dy.bfloat16().double())
    want = run(case, given, Place("reference", "cpu"), torch.float64, None, of_state=False)
    with forced("lti.chunks", CHUNKS):
        got = run(case, given, place, torch.bfloat16, "chunked", of_state=False)
    looser = 2 if place.interpreted else 1  # it cuts to bfloat16 where a GPU rounds
    for name, g, w in zip(NAMES, got, want, strict=True):
        if g is None or w is None:
            assert g is w is None
        elif name in ("y", "du"):
            assert_near(g, w, looser * BOUNDS[torch.bfloat16][0], name)
        else:
            assert_near(g, w, 1e-6 if name == "state" else looser * 5e-5, name)


def test_chunks_are_for_bfloat16_without_resets_and_few_states() -> None:
    pytest.importorskip("triton")
    from audiomamba.kernels.lti import chunks

    u = torch.zeros(1, 40, 2, dtype=torch.bfloat16)
    assert chunks.supports(u, chunks.MOST_STATES, None)
    assert not chunks.supports(u, chunks.MOST_STATES + 1, None)
    assert not chunks.supports(u.float(), 4, None)
    assert not chunks.supports(u, 4, torch.zeros(1, 40, dtype=torch.bool))


@pytest.mark.parametrize("place", PLACES[2:])
def test_chunks_go_on_from_steps_and_steps_from_chunks(place: Place) -> None:
    case = Case(2, 50, 3, 4)
    given = cast(arguments(case), place.device, torch.bfloat16)
    options = given.options(case, implementation=place.implementation)
    whole, last = lti(*given[:5], **{**options, "mode": "recurrent"})
    parts = []
    with forced("lti.chunks", CHUNKS):
        for lo, hi, mode in ((0, 3, "recurrent"), (3, 40, "chunked"), (40, 50, "recurrent")):
            y, options["initial_state"] = lti(
                given.u[:, lo:hi], *given[1:5], **{**options, "mode": mode}
            )
            parts.append(y)
    assert_near(torch.cat(parts, 1), whole, 5e-3)
    assert_near(options["initial_state"], last, 1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_the_cpu_runs_in_float64_throughout(mode: str | None) -> None:
    check(Case(2, 90, 4, 3, "bilinear", rate=1.5), Place("cpu", "cpu"), torch.float64, mode)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("cuts", [[0], [1], [7], [1, 2, 3], [0, 17]], ids=str)
def test_any_cut_of_time_and_any_mode_gives_the_same_answer(
    place: Place, mode: str | None, cuts: list[int]
) -> None:
    case = Case(2, 17, 5, 4)
    given = cast(arguments(case), place.device, torch.float32)
    options = given.options(case, implementation=place.implementation)
    whole, last = lti(*given[:5], **options)
    options["mode"], parts = mode, []
    for lo, hi in zip([0, *cuts], [*cuts, 17], strict=True):
        y, options["initial_state"] = lti(given.u[:, lo:hi], *given[1:5], **options)
        parts.append(y)
    assert_near(torch.cat(parts, 1), whole, 1e-6)
    assert_near(options["initial_state"], last, 1e-6)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("pool_dtype", [torch.float32, torch.bfloat16], ids=str)
def test_steps_are_the_whole_and_touch_their_slots_alone(
    place: Place, dtype: torch.dtype, pool_dtype: torch.dtype
) -> None:
    case = Case(3, 5, 6, 4, "bilinear", rate=1.5)
    given = cast(arguments(case), place.device, dtype)
    options = given.options(case, implementation=place.implementation)
    whole, last = lti(*given[:5], **options)
    state = options.pop("initial_state")
    options.pop("resets")
    slots = torch.tensor([5, 0, 2, 6, 0], device=place.device)
    live = torch.tensor([0, 2, 3], device=place.device)  # the other two are padding
    pool = torch.full((7, 6, 4, 2), float("nan"), device=place.device, dtype=pool_dtype)
    pool[slots[live]] = state.to(pool_dtype)
    for t in range(case.T):
        order = torch.randperm(5, generator=torch.Generator().manual_seed(t)).to(place.device)
        frame = torch.zeros(5, 6, device=place.device, dtype=dtype)
        frame[live] = given.u[:, t]
        y = torch.empty_like(frame)
        y[order] = lti_step_(frame[order], *given[1:5], pool, slots[order], **options)
        if pool_dtype == torch.float32:
            bound = 1e-6 if dtype == torch.float32 else 5e-3
            assert_near(y[live], whole[:, t], bound)
    bound = 1e-6 if pool_dtype == torch.float32 else 2e-2  # five roundings to 8 bits
    assert_near(pool[slots[live]].float(), last, bound)
    assert pool[[1, 3, 4]].isnan().all()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("mode", WITH_RESETS)
def test_what_lies_before_a_reset_is_never_seen(place: Place, mode: str | None) -> None:
    case = Case(1, 12, 3, 4, state=False)
    given = cast(arguments(case), place.device, torch.float32)
    options = given.options(case, implementation=place.implementation, mode=mode)
    want, last = lti(given.u[:, 6:], *given[1:5], **options)
    options["resets"] = torch.zeros(1, 12, dtype=torch.bool, device=place.device)
    options["resets"][0, 6] = True
    options["initial_state"] = torch.full_like(given.dstate, float("nan"))
    u = given.u.clone()
    u[:, :6] = float("nan")
    u.requires_grad_()
    got, state = lti(u, *given[1:5], **options)
    assert_near(got[:, 6:], want, 1e-6)
    assert_near(state, last, 1e-6)
    (du,) = torch.autograd.grad(got[:, 6:].sum() + state.sum(), u)
    assert not du[:, 6:].isnan().any()
    assert (du[:, :6] == 0).all()


@pytest.mark.parametrize("place", PLACES)
def test_no_frames_leave_the_state_as_it_was(place: Place) -> None:
    case = Case(2, 0, 3, 4)
    given = cast(arguments(case), place.device, torch.float32)
    y, state = lti(*given[:5], **given.options(case, implementation=place.implementation))
    assert y.shape == (2, 0, 3)
    assert torch.equal(state, given.options(case)["initial_state"])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("discretization", ["zoh", "bilinear"])
def test_gradients_are_those_of_finite_differences(mode: str | None, discretization: str) -> None:
    case = Case(1, 5, 2, 2, discretization, rate=1.3)
    given = arguments(case)

    def call(*inputs: Tensor) -> tuple[Tensor, Tensor]:
        *system, D, state = inputs
        return lti(
            *system,
            D=D,
            initial_state=state,
            rate=case.rate,
            discretization=discretization,
            mode=mode,
            implementation="cpu" if mode else "reference",
        )

    inputs = [v.requires_grad_() for v in given[:7] if v is not None]
    assert torch.autograd.gradcheck(call, inputs)


def test_powers_hold_far_from_the_first_step() -> None:
    A = torch.tensor([[-1e-4 + 3j, -0.5 + 50j, -16.0 + 0j]], dtype=torch.complex64)
    ones = torch.ones_like(A)
    system = discretize(A, ones, ones, torch.ones(1), None, 1.0, "zoh", torch.float32)
    steps = torch.tensor([0, 1, 1000, 65_535])
    got = powers(system, steps)
    want = torch.exp(A.to(torch.complex128)[..., None] * steps)
    assert_near(got, want, 1e-6)


def test_a_tiny_step_and_a_vanished_decay_stay_finite() -> None:
    A = torch.tensor([[-1e-9 + 0j], [-2.0 + 0j]], dtype=torch.complex64, requires_grad=True)
    ones = torch.ones(2, 1, dtype=torch.complex64)
    # The bilinear decay of the second is exactly 0.
    system = discretize(A, ones, ones, torch.ones(2), None, 1.0, "bilinear", torch.float32)
    values = powers(system, torch.arange(3))
    assert torch.equal(values[1, 0].detach(), torch.tensor([1, 0, 0], dtype=torch.complex64))
    (gradient,) = torch.autograd.grad(values.real.sum(), A)
    assert gradient.real.isfinite().all()
    y, _ = lti(torch.ones(1, 3, 2), A, ones, ones, torch.ones(2))
    torch.testing.assert_close(y[0, :, 0], torch.tensor([2.0, 4.0, 6.0]), rtol=1e-6, atol=0)


def test_the_rate_is_a_factor_of_the_step() -> None:
    case = Case(1, 9, 3, 2)
    given = cast(arguments(case), "cpu", torch.float32)
    y, _ = lti(*given[:5], rate=0.5)
    want, _ = lti(*given[:4], given.delta * 0.5)
    torch.testing.assert_close(y, want)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # opcheck reads it of its own copies
@pytest.mark.parametrize("place", PLACES[1:])
@pytest.mark.parametrize("echo", [False, True])
def test_the_convolution_keeps_its_schema(place: Place, echo: bool) -> None:
    device = place.device
    u, k, late = (
        torch.randn(*shape, device=device, requires_grad=True)
        for shape in ((2, 3, 5), (3, 5), (2, 3, 5))
    )
    op = torch.ops.audiomamba.lti_convolve.default
    torch.library.opcheck(op, (u, k, late if echo else None))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("mode", MODES)
def test_two_runs_are_bitwise_equal(place: Place, mode: str | None) -> None:
    case = Case(2, 12, 3, 4) if place.interpreted else Case(4, 300, 10, 8)
    given = arguments(case)
    first, second = (run(case, given, place, torch.float32, mode) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert a is not None and b is not None
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"u": torch.zeros(2, 3)}, r"u must be \(B, T, D\)"),
        ({"A": torch.zeros(3, 2)}, r"A must be \(3, N/2\) complex"),
        ({"B": torch.zeros(3, 1).to(torch.complex64)}, r"B must be \(3, 2\)"),
        ({"C": torch.zeros(3, 2)}, "C must be complex"),
        ({"delta": torch.ones(2)}, r"delta must be \(3,\)"),
        ({"rate": 0.0}, "rate must be positive"),
        ({"discretization": "euler"}, "discretization"),
        ({"initial_state": torch.zeros(2, 3, 2)}, r"initial_state must be \(2, 3, 2, 2\)"),
        ({"mode": "fft"}, "mode must be one of"),
        ({"resets": torch.zeros(2, 5, dtype=torch.bool), "mode": "conv"}, "not 'conv'"),
    ],
)
def test_a_wrong_argument_is_named(change: dict[str, Any], message: str) -> None:
    complex_ones = torch.ones(3, 2, dtype=torch.complex64)
    given: dict[str, Any] = {"u": torch.zeros(2, 5, 3), "delta": torch.ones(3)}
    given |= dict.fromkeys("ABC", complex_ones)
    with pytest.raises(ShapeError, match=message):
        lti(**(given | change))


@pytest.mark.parametrize("place", PLACES[2:])
@pytest.mark.parametrize("longer", [-1, 0, 1])
def test_modes_agree_around_the_length_at_which_the_choice_changes(
    place: Place, longer: int
) -> None:
    """A short limit stands for the shipped ones in the interpreter; a GPU runs those."""
    case = Case(2, 1, 5, 4) if place.interpreted else Case(32, 1, 640, 16, layout="channels")
    sizes = {"states": case.N, "all_states": case.B * case.D * case.N}
    shipped = pick_blocks("lti.mode", torch.device(place.device), **sizes)
    limit = 9 if place.interpreted else shipped["frames"]
    case = replace(case, T=limit + longer)
    given = cast(arguments(case), place.device, torch.float32)
    with forced("lti.mode", replace(shipped, takes={"frames": limit})):
        results = {
            mode: lti(
                *given[:5], **given.options(case, mode=mode, implementation=place.implementation)
            )
            for mode in (None, "recurrent", "conv")
        }
    chosen = results["recurrent" if longer <= 0 else "conv"]
    for got, want, other in zip(results[None], chosen, results["conv"], strict=True):
        assert torch.equal(got, want)
        assert_near(got, other, 2e-6)  # each is within 1e-6 of the definition


@pytest.mark.parametrize(
    ("arch", "case", "frames"),
    [
        ("sm_90", Case(64, 400, 640, 16), 4096),
        ("sm_90", Case(8, 2048, 1536, 32), 2048),
        ("sm_90", Case(1, 400, 640, 16), 400),
        ("sm_90", Case(8, 2048, 1536, 64), 64),
        ("any", Case(64, 400, 640, 16), 400),
        ("any", Case(1, 400, 640, 16), 64),
    ],
)
def test_the_recurrence_takes_long_calls_where_they_fill_the_gpu(
    monkeypatch: pytest.MonkeyPatch, arch: str, case: Case, frames: int
) -> None:
    monkeypatch.setattr(blocks, "architecture", lambda device: arch)
    sizes = {"states": case.N, "all_states": case.B * case.D * case.N}
    assert pick_blocks("lti.mode", torch.device("cpu"), **sizes)["frames"] == frames


@pytest.mark.parametrize("place", PLACES[2:])
@pytest.mark.parametrize(("kernel", "row"), table_rows("lti"))
def test_every_shipped_row_of_block_sizes_is_right(place: Place, kernel: str, row: Blocks) -> None:
    if kernel == "lti.mode":
        return  # see test_modes_agree_around_the_length_at_which_the_choice_changes
    with forced(kernel, row):
        if kernel == "lti.step":
            test_steps_are_the_whole_and_touch_their_slots_alone(
                place, torch.float32, torch.float32
            )
            return
        if kernel == "lti.chunks":
            case = Case(1, 70, 1, 17) if place.interpreted else Case(9, 3000, 130, 32)
            given = cast(arguments(case), place.device, torch.bfloat16)
            options = given.options(case, implementation=place.implementation)
            got = lti(*given[:5], **options, mode="chunked")
            want = lti(*given[:5], **options, mode="recurrent")
            assert_near(got[0], want[0], 5e-3)
            assert_near(got[1], want[1], 2e-6)  # each is within 1e-6 of the definition
            return
        case = Case(2, 13, 3, 5, resets=True) if place.interpreted else Case(2, 90, 130, 16)
        check(case, place, torch.float32, "recurrent")
