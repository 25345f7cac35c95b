"""What every implementation of ``norm`` promises."""

from typing import Any

import pytest
import torch
from torch import Tensor

from audiomamba.errors import ShapeError
from audiomamba.kernels.blocks import Blocks, forced
from audiomamba.kernels.norm import norm
from audiomamba.kernels.norm.cases import (
    BOUNDS,
    CASES,
    SMALL_CASES,
    Arguments,
    Case,
    arguments,
)
from audiomamba.kernels.testing import PLACES, Place, assert_near, table_rows

pytestmark = pytest.mark.usefixtures("poison")
NAMES = ("y", "r", "dx", "dweight", "dresidual", "dgate")
STREAM = ("weight", "residual", "dr")  # float32 whatever x is


def rounded(given: Arguments, dtype: torch.dtype) -> Arguments:
    """Round to the dtypes an implementation is fed."""
    wide = torch.promote_types(dtype, torch.float32)
    values: dict[str, Any] = {
        name: None if value is None else value.to(wide if name in STREAM else dtype)
        for name, value in given._asdict().items()
    }
    return Arguments(**values)


def run(case: Case, given: Arguments, place: Place, dtype: torch.dtype) -> list[Tensor | None]:
    """Return both results and the gradients of x, weight, residual and gate."""
    x, weight, residual, gate, dy, dr = (
        None if v is None else v.to(place.device, copy=True) for v in rounded(given, dtype)
    )
    leaves = [None if v is None else v.requires_grad_() for v in (x, weight, residual, gate)]
    assert x is not None and weight is not None
    y, r = norm(
        x,
        weight,
        residual=residual,
        gate=gate,
        norm_before_gate=case.gate != "after",
        group_size=case.group,
        implementation=place.implementation,
    )
    torch.autograd.backward([y, r], [dy, dr])
    return [y.detach(), r.detach(), *(None if v is None else v.grad for v in leaves)]


def check(case: Case, place: Place, dtype: torch.dtype) -> None:
    given = rounded(arguments(case), dtype)
    want = run(case, given, Place("reference", "cpu"), torch.float64)
    got = run(case, given, place, dtype)
    # Triton's interpreter cuts float32 to bfloat16 where a GPU rounds.
    bound = 2 if place.interpreted and dtype == torch.bfloat16 else 1
    for name, g, w in zip(NAMES, got, want, strict=True):
        if g is None or w is None:
            assert g is w is None
        elif name == "r":  # the stream is float32, exact to its own rounding
            assert_near(g, w, BOUNDS[torch.promote_types(dtype, torch.float32)][0], name)
        else:
            assert_near(g, w, bound * BOUNDS[dtype][name.startswith("d")], name)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_results_and_gradients_are_the_definitions(place: Place, case: Case) -> None:
    if place.interpreted and case not in SMALL_CASES:
        return  # the same kernels ran above
    check(case, place, torch.float32)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("gate", [None, "before", "after"])
def test_half_precision_costs_one_rounding(
    place: Place, dtype: torch.dtype, gate: str | None
) -> None:
    check(Case((33, 40), gate=gate), place, dtype)


@pytest.mark.parametrize("place", PLACES)
def test_the_stream_is_float32_and_its_gradient_passes_through(place: Place) -> None:
    x = torch.randn(3, 4, dtype=torch.bfloat16, device=place.device, requires_grad=True)
    residual = torch.randn(3, 4, device=place.device, requires_grad=True)
    weight = torch.ones(4, device=place.device)
    y, r = norm(x, weight, residual=residual, implementation=place.implementation)
    assert (y.dtype, r.dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(r, residual + x.float())
    dr = torch.randn(3, 4, device=place.device)
    dx, dresidual = torch.autograd.grad(r, (x, residual), dr)
    assert torch.equal(dresidual, dr)
    if not place.interpreted:
        assert torch.equal(dx, dr.bfloat16())


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("shape", [(2, 0, 4), (0, 4)], ids=str)
def test_no_rows_are_no_work(place: Place, shape: tuple[int, ...]) -> None:
    x = torch.zeros(shape, device=place.device, requires_grad=True)
    weight = torch.ones(4, device=place.device, requires_grad=True)
    y, r = norm(x, weight, implementation=place.implementation)
    assert y.shape == r.shape == shape
    dx, dweight = torch.autograd.grad(y.sum() + r.sum(), (x, weight))
    assert dx.shape == shape
    assert (dweight == 0).all()


@pytest.mark.parametrize("implementation", ["reference", "cpu"])
@pytest.mark.parametrize("case", [SMALL_CASES[2], SMALL_CASES[3], SMALL_CASES[4]], ids=str)
def test_gradients_are_those_of_finite_differences(implementation: str, case: Case) -> None:
    x, weight, residual, gate, *_ = arguments(case)
    given = {"residual": residual, "gate": gate}
    names = [name for name, value in given.items() if value is not None]
    inputs = [x, weight, *(value for value in given.values() if value is not None)]

    def call(x: Tensor, weight: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
        kwargs: dict[str, Any] = dict(zip(names, rest, strict=True))
        return norm(
            x,
            weight,
            **kwargs,
            norm_before_gate=case.gate != "after",
            group_size=case.group,
            implementation=implementation,
        )

    assert torch.autograd.gradcheck(call, [v.requires_grad_() for v in inputs])


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # opcheck reads it of its own copies
@pytest.mark.parametrize("place", PLACES[1:])
def test_the_operators_keep_their_schema(place: Place) -> None:
    one = torch.ones(1, device=place.device)
    norm(one, one, implementation=place.implementation)  # registers the operators
    op = getattr(torch.ops.audiomamba, f"norm_{place.implementation}").default
    x, weight, residual, gate = (
        torch.randn(*shape, device=place.device, requires_grad=True)
        for shape in ((2, 3, 4), (4,), (2, 3, 4), (2, 3, 4))
    )
    torch.library.opcheck(op, (x, weight, residual, gate, 1e-5, False, 2))
    torch.library.opcheck(op, (x.detach().bfloat16(), weight, None, None, 1e-5, True, 4))


@pytest.mark.parametrize("place", PLACES)
def test_two_runs_are_bitwise_equal(place: Place) -> None:
    case = Case((20, 24)) if place.interpreted else Case((4000, 320))
    given = arguments(case)
    first, second = (run(case, given, place, torch.float32) for _ in range(2))
    for a, b in zip(first[:5], second[:5], strict=True):
        assert a is not None and b is not None
        assert torch.equal(a, b)


def test_a_compiled_graph_is_whole() -> None:
    x = torch.randn(2, 3, 4, requires_grad=True)
    weight, residual = torch.randn(4), torch.randn(2, 3, 4)

    @torch.compile(fullgraph=True, backend="aot_eager")
    def compiled(x: Tensor) -> Tensor:
        return norm(x, weight, residual=residual)[0]

    got, want = compiled(x), norm(x, weight, residual=residual)[0]
    assert torch.equal(got, want)
    assert torch.equal(*(torch.autograd.grad(v.sum(), x)[0] for v in (got, want)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(2, 6, dtype=torch.long)}, r"x must be \(..., D\) floating"),
        ({"weight": torch.zeros(4)}, r"weight must be \(6,\)"),
        ({"residual": torch.zeros(3, 6)}, r"residual must be \(2, 6\) torch.float32"),
        ({"residual": torch.zeros(2, 6).bfloat16()}, "got .* torch.bfloat16"),
        ({"gate": torch.zeros(6)}, r"gate must be \(2, 6\)"),
        ({"group_size": 4}, "group_size must divide D = 6, got 4"),
    ],
)
def test_a_wrong_argument_is_named(change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"x": torch.zeros(2, 6), "weight": torch.zeros(6)}
    with pytest.raises(ShapeError, match=message):
        norm(**(given | change))


@pytest.mark.parametrize("place", PLACES[2:])
@pytest.mark.parametrize(("kernel", "row"), table_rows("norm"))
def test_every_shipped_row_of_block_sizes_is_right(place: Place, kernel: str, row: Blocks) -> None:
    with forced(kernel, row):
        for gate in (None, "before", "after"):
            rows, width = (3, 24) if place.interpreted else (2000, max(640, row["values"] - 3))
            check(Case((rows, width), gate=gate), place, torch.float32)
