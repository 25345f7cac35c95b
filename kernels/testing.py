"""What the ops' tests share: places to run in, poisoned memory, the measure of error."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pytest
import torch
from torch import Tensor

from audiomamba.kernels import native
from audiomamba.kernels.blocks import TABLES, Blocks
from audiomamba.kernels.dispatch import INTERPRETED

__all__ = [
    "INSTRUCTION_SETS",
    "PLACES",
    "Place",
    "assert_near",
    "evaluate",
    "judge",
    "poisoned",
    "relative_error",
    "same_bits_of_any_threads",
    "table_rows",
    "use_instruction_set",
]

Op = Callable[..., tuple[Tensor, Tensor]]


@dataclass(frozen=True, slots=True)
class Place:
    """An implementation and the device its tests put their tensors on."""

    implementation: str
    device: str
    interpreted: bool = False  # thousands of times slower: tiny shapes only


_no_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="gpu: no GPU here")
_not_interpreted = pytest.mark.skipif(
    not INTERPRETED, reason="gpu-interpreted: TRITON_INTERPRET=1 is not set"
)

# For pytest.mark.parametrize("place", PLACES). `-m gpu` runs the last alone.
PLACES: Final = [
    pytest.param(Place("reference", "cpu"), id="reference"),
    pytest.param(Place("cpu", "cpu"), id="cpu"),
    pytest.param(
        Place("gpu", "cpu", interpreted=True), id="gpu-interpreted", marks=_not_interpreted
    ),
    pytest.param(Place("gpu", "cuda"), id="gpu", marks=[pytest.mark.gpu, _no_gpu]),
]


INSTRUCTION_SETS: Final = ("plain", "avx2", "avx512")  # that the native library is built for


def use_instruction_set(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the native library run one of ``INSTRUCTION_SETS``, or skip where it cannot."""
    if native.why_not() is not None:
        pytest.skip("the native library was not built")
    monkeypatch.setenv("AUDIOMAMBA_INSTRUCTION_SET", name)
    runs = native.library().am_instruction_set().decode()
    if runs != name:
        pytest.skip(f"this processor runs {runs}")


def same_bits_of_any_threads(call: Callable[[], Sequence[Tensor | None]]) -> None:
    """Check that what ``call`` returns is the same to the bit with one thread and with four."""
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 4):
            torch.set_num_threads(threads)
            results.append(call())
    finally:
        torch.set_num_threads(before)
    for one, other in zip(*results, strict=True):
        assert (one is None and other is None) or torch.equal(one, other)


@contextlib.contextmanager
def poisoned() -> Iterator[None]:
    """Fill what ``torch.empty`` and its kin return with NaN, so that unwritten memory is seen.

    Integers are filled with their least value. As a fixture: ``usefixtures("poison")``.
    """
    # torch notes once which of its functions a default device is for: they must not be ours.
    with torch.device("cpu"):
        torch.empty(0)
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in (
            (torch, "empty"),
            (torch, "empty_like"),
            (torch, "empty_strided"),
            (Tensor, "new_empty"),
            (Tensor, "new_empty_strided"),
        ):
            patch.setattr(owner, name, _filling(getattr(owner, name)))
        yield


def _filling(allocate: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def allocate_poisoned(*args: Any, **kwargs: Any) -> Tensor:
        out = allocate(*args, **kwargs)
        with torch.no_grad():
            if out.is_floating_point() or out.is_complex():
                return out.fill_(float("nan"))
            return out.fill_(True if out.dtype == torch.bool else torch.iinfo(out.dtype).min)

    return allocate_poisoned


def relative_error(got: Tensor, want: Tensor) -> float:
    """``‖got − want‖₂ / ‖want‖₂`` in float64; ``‖got‖₂`` where ``want`` is zero or empty."""
    wide = torch.complex128 if want.is_complex() else torch.float64
    got, want = got.detach().to("cpu", wide), want.detach().to("cpu", wide)
    size = float(torch.linalg.vector_norm(want))
    error = float(torch.linalg.vector_norm(got - want))
    return error / size if size > 0 else error


def assert_near(got: Tensor, want: Tensor, bound: float, name: str = "out") -> None:
    """Check shape and relative error, and that no single value is far off.

    A single value may miss by ten times what rounding ``want`` to ``got``'s dtype costs at most,
    or by ``bound`` times the largest value, whichever is more. NaN anywhere fails.
    """
    assert got.shape == want.shape, f"{name}: shape {tuple(got.shape)}, want {tuple(want.shape)}"
    error = relative_error(got, want)
    assert error <= bound, f"{name}: relative error {error:.2e} > {bound:.0e}"
    if want.numel():
        want = want.detach().cpu()
        rounding = float((want.to(got.dtype).to(want.dtype) - want).abs().max())
        worst = float((got.detach().cpu().to(want.dtype) - want).abs().max())
        most = max(10 * rounding, bound * float(want.abs().max()))
        assert worst <= most, f"{name}: largest error {worst:.2e} > {most:.2e}"


def evaluate(
    op: Op, given: dict[str, Any], implementation: str | None, seed: int = 1
) -> dict[str, Tensor]:
    """Output, last state and the gradients of a random weighting of both, by name.

    Args:
        op: Answers with both; takes the tensors of ``given`` by name.
        given: Its arguments.
        implementation: That computes it.
        seed: Of the weighting.
    """
    leaves = {
        name: x.detach().requires_grad_()
        for name, x in given.items()
        if isinstance(x, Tensor) and x.is_floating_point()
    }
    out, state = op(**{**given, **leaves}, implementation=implementation)
    draw = torch.Generator().manual_seed(seed)
    loss = torch.zeros((), dtype=torch.float64, device=out.device)
    for y in (out, state):
        loss = loss + (y * torch.randn(y.shape, generator=draw).to(y)).double().sum()
    gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    found = {"out": out.detach(), "state": state.detach()}
    for (name, x), gradient in zip(leaves.items(), gradients, strict=True):
        found[f"gradient of {name}"] = torch.zeros_like(x) if gradient is None else gradient
    return found


def judge(op: Op, given: dict[str, Any]) -> dict[str, Tensor]:
    """The same from the op's reference in float64, on the CPU."""
    wide = {
        name: x.to("cpu", torch.float64 if x.is_floating_point() else x.dtype)
        if isinstance(x, Tensor)
        else x
        for name, x in given.items()
    }
    return evaluate(op, wide, "reference")


def table_rows(op: str) -> list[Any]:
    """For ``parametrize(("kernel", "row"), ...)``: every row shipped for an op's kernels.

    A row that several architectures have is given once.
    """
    found: dict[str, tuple[str, Blocks]] = {}
    for kernel, table in TABLES.items():
        if kernel.split(".")[0] == op:
            for arch, rows in table.items():
                for i, row in enumerate(rows):
                    if (kernel, row) not in found.values():
                        found[f"{kernel}-{arch}-{i}"] = (kernel, row)
    return [pytest.param(*given, id=name) for name, given in found.items()]
