"""What tracing is promised of an op's results is what they are: a compiled graph relies on it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from audiomamba.kernels.conv import cases as conv_cases
from audiomamba.kernels.conv import conv
from audiomamba.kernels.lti import cases as lti_cases
from audiomamba.kernels.lti import lti
from audiomamba.kernels.mamba3 import cases as mamba3_cases
from audiomamba.kernels.mamba3 import mamba3
from audiomamba.kernels.norm import cases as norm_cases
from audiomamba.kernels.norm import norm
from audiomamba.kernels.scan import cases as scan_cases
from audiomamba.kernels.scan import scan
from audiomamba.kernels.ssd import cases as ssd_cases
from audiomamba.kernels.ssd import ssd
from audiomamba.kernels.testing import PLACES, Place

Layout = Callable[[Tensor], Tensor]


class Promises(TorchDispatchMode):
    """Holds every op of the package to what its fake says: shape, dtype and strides."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.held: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        if func.namespace != "audiomamba":
            return results
        plain = tree_map(lambda x: x.detach() if isinstance(x, Tensor) else x, args)
        with FakeTensorMode() as mode:
            fakes = func(*tree_map(lambda x: fake(mode, x), plain))
        for i, (real, promised) in enumerate(
            zip(tree_leaves(results), tree_leaves(fakes), strict=True)
        ):
            told = (promised.shape, promised.dtype, matters(promised))
            assert (real.shape, real.dtype, matters(real)) == told, f"{func}: result {i}"
        self.held.append(func._schema.name.removeprefix("audiomamba::"))
        return results


def fake(mode: FakeTensorMode, x: Any) -> Any:
    return mode.from_tensor(x) if isinstance(x, Tensor) else x


def matters(x: Tensor) -> tuple[int, ...]:
    """Strides of the axes that have any: one element has no next, and nothing has no elements."""
    if x.numel() == 0:
        return ()
    return tuple(stride for size, stride in zip(x.shape, x.stride(), strict=True) if size > 1)


def part_of_more(x: Tensor) -> Tensor:
    """As a projection's output that was split: every other last axis is somebody else's."""
    return torch.cat((x, x), -1)[..., : x.shape[-1]]


def time_last(x: Tensor) -> Tensor:
    """Time contiguous, rows and channels in any order: (D, B, T) memory."""
    if x.ndim < 3:
        return x
    order = (*range(2, x.ndim), 0, 1)
    back = [order.index(axis) for axis in range(x.ndim)]
    return x.permute(order).contiguous().permute(back)


LAYOUTS: dict[str, Layout] = {
    "dense": lambda x: x.contiguous(),
    "part of more": part_of_more,
    "time last": time_last,
}
TIMED = ("u", "x", "delta", "B", "C", "z", "A", "mix", "angle", "gate")


def arguments(op: str) -> dict[str, Any]:
    """Small arguments of an op, in float32, by name."""
    if op == "scan":
        return scan_cases.inputs(scan_cases.Case(B=2, T=6, D=4, N=2))
    if op == "ssd":
        return ssd_cases.inputs(ssd_cases.Case(B=2, T=6, H=2, P=4, N=2))
    if op == "mamba3":
        return mamba3_cases.inputs(mamba3_cases.Case(B=2, T=6, H=2, P=4, N=4, R=2))
    if op == "conv":
        made = conv_cases.arguments(conv_cases.Case(2, 6, 4, 3))
        return {name: getattr(made, name) for name in ("x", "weight", "bias", "initial_state")}
    if op == "norm":
        given = norm_cases.arguments(norm_cases.Case((2, 6, 8), gate="before"))
        return {name: getattr(given, name) for name in ("x", "weight", "residual", "gate")}
    system = lti_cases.arguments(lti_cases.Case(2, 6, 4, 2))
    names = ("u", "A", "B", "C", "delta", "D", "initial_state")
    return {name: getattr(system, name) for name in names}


OPS: dict[str, Callable[..., Any]] = {
    "conv": conv,
    "lti": lti,
    "lti in chunks": lambda u, **rest: lti(u.bfloat16(), mode="chunked", **rest),
    "mamba3": mamba3,
    "norm": norm,
    "scan": scan,
    "ssd": ssd,
}


@pytest.mark.parametrize("place", PLACES[1:])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("op", OPS)
def test_results_and_gradients_lie_as_tracing_was_told(place: Place, op: str, layout: str) -> None:
    leaves: list[Tensor] = []

    def placed(name: str, x: Any) -> Any:
        if hasattr(x, "_fields"):
            return type(x)(*(placed("", part) for part in x))
        if not isinstance(x, Tensor):
            return x
        x = x.to(place.device, torch.complex64 if x.is_complex() else torch.float32)
        # Weights of the time-invariant system share these names and have no time.
        if name in TIMED and not (op.startswith("lti") and name != "u"):
            x = LAYOUTS[layout](x)
        leaves.append(x.detach().requires_grad_())
        return leaves[-1]

    given = {name: placed(name, x) for name, x in arguments(op).items()}
    with Promises() as promises, torch.autograd.set_multithreading_enabled(False):
        results = tree_leaves(OPS[op](**given, implementation=place.implementation))
        tracked = [y for y in results if y.requires_grad]
        torch.autograd.grad(
            tracked, leaves, [torch.ones_like(y) for y in tracked], allow_unused=True
        )
    by_torch = op == "lti" or (op == "lti in chunks" and place.implementation == "cpu")
    assert len(promises.held) >= 2 or by_torch, promises.held
