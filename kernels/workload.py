"""Calls that launch every kernel of the ops, on small inputs of the sizes that models have.

For what must reach them all: tests of ``warmup``, and the table of registers (``offline``).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor

from audiomamba.kernels import conv, layer_step, lti, mamba3, norm, scan, ssd
from audiomamba.kernels.conv import cases as conv_cases
from audiomamba.kernels.layer_step import cases as layer_cases
from audiomamba.kernels.lti import cases as lti_cases
from audiomamba.kernels.mamba3 import cases as mamba3_cases
from audiomamba.kernels.norm import cases as norm_cases
from audiomamba.kernels.scan import cases as scan_cases
from audiomamba.kernels.ssd import cases as ssd_cases

__all__ = ["OPS", "calls"]

Call = Callable[[], object]
OPS: Final = ("conv", "layer_step", "lti", "mamba3", "norm", "scan", "ssd")
ROWS: Final = 2
FRAMES: Final = 4  # of a step that takes several


def calls(op: str, device: str, dtype: torch.dtype, *, steps: int = 16) -> dict[str, Call]:
    """Calls of an op with ``implementation="gpu"``, by what they run.

    Args:
        op: One of ``OPS``.
        device: That the tensors lie on.
        dtype: Of inputs; weights and states are as models have them.
        steps: Frames of the calls that are no single step.
    """
    made: dict[str, Call] = _MAKERS[op](device, dtype, steps)
    return made


def _conv(device: str, dtype: torch.dtype, steps: int) -> dict[str, Call]:
    found: dict[str, Call] = {}
    for taps in (4, 15):
        for layout in ("time", "channels"):
            case = conv_cases.Case(ROWS, steps, 64, taps, "silu", layout=layout)
            given = conv_cases.arguments(case)
            x, weight, bias, first = (
                _leaf(t, device, dtype)
                for t in (given.x, given.weight, given.bias, given.initial_state)
            )

            def run(x: Tensor = x, w: Tensor = weight, b: Tensor = bias, h: Tensor = first) -> None:
                y, state = conv.conv(
                    x, w, b, activation="silu", initial_state=h, implementation="gpu"
                )
                _backward((y, state), (x, w, b, h))

            found[f"{taps} taps, {layout} contiguous"] = run
        pool = torch.zeros(ROWS + 1, taps - 1, 64, device=device)
        several = x.detach()[:, :1].expand(-1, FRAMES, -1).contiguous()
        for what, frames in (("step", several[:, 0]), (f"step of {FRAMES} frames", several)):
            found[f"{taps} taps, {what}"] = partial(
                conv.conv_step_, frames, weight.detach(), bias.detach(), pool, _slots(device),
                activation="silu", implementation="gpu",
            )  # fmt: skip
    return found


def _layer_step(device: str, dtype: torch.dtype, steps: int) -> dict[str, Call]:
    """Layers of a real size, as sizes are constants of the kernels; each call has one frame."""
    found: dict[str, Call] = {}
    for case in layer_cases.BENCH:
        given = layer_cases.inputs(case).to(device, dtype)
        found[f"{case.M} rows"] = partial(given.call, layer_step.layer_step_, implementation="gpu")
    return found


def _lti(device: str, dtype: torch.dtype, steps: int) -> dict[str, Call]:
    given = lti_cases.arguments(lti_cases.Case(ROWS, steps, 64, 16, resets=steps > 1))
    u = _leaf(given.u, device, dtype)
    first, delta, skip = (
        _leaf(t, device, torch.float32) for t in (given.initial_state, given.delta, given.D)
    )
    A, B, C = (_leaf(t, device, torch.complex64) for t in (given.A, given.B, given.C))
    resets = None if given.resets is None else given.resets.to(device)
    sampled = lti.sample(A.detach(), B.detach(), C.detach(), delta.detach(), D=skip.detach())
    pool = torch.zeros(ROWS + 1, 64, 16, 2, device=device)

    def recurrent() -> None:
        y, state = lti.lti(
            u, A, B, C, delta, D=skip, initial_state=first, resets=resets, mode="recurrent",
            implementation="gpu",
        )  # fmt: skip
        _backward((y, state), (u, A, B, C, delta, skip, first))

    def chunked() -> None:
        y, _ = lti.lti(
            u, A, B, C, delta, D=skip, initial_state=first, mode="chunked", implementation="gpu"
        )
        _backward((y,), (u, A, B, C, delta, skip, first))

    def step() -> None:
        lti.sampled_step_(u[:, 0].detach(), sampled, pool, _slots(device), implementation="gpu")

    calls: dict[str, Call] = {"recurrent": recurrent, "step": step}
    return {**calls, "chunked": chunked} if dtype == torch.bfloat16 else calls


def _mamba3(device: str, dtype: torch.dtype, steps: int) -> dict[str, Call]:
    def step(width: int, states: int, frames: int = 1) -> None:
        case = mamba3_cases.Case(B=ROWS, T=frames, H=4, P=width, N=states, R=states // 4)
        given = mamba3_cases.inputs(case, dtype=dtype, device=device)
        pool = mamba3_cases.inputs(
            mamba3_cases.Case(B=ROWS + 1, T=1, H=4, P=width, N=states, R=states // 4), device=device
        )["initial_state"]
        del given["initial_state"]
        if frames == 1:
            for name in ("x", "delta", "A", "mix", "angle", "B", "C", "z"):
                given[name] = given[name][:, 0]
        mamba3.mamba3_step_(**given, pool=pool, slots=_slots(device), implementation="gpu")

    def both() -> None:
        case = mamba3_cases.Case(B=ROWS, T=steps, H=4, P=64, N=64, R=16)
        given = mamba3_cases.inputs(case, dtype=dtype, device=device)
        leaves = [given[name].requires_grad_() for name in ("x", "delta", "A", "angle", "B", "C")]
        y, state = mamba3.mamba3(**given, implementation="gpu")
        _backward((y, state.state), leaves)

    return {
        "forward and backward": both,
        "step, 64 x 128 states": partial(step, 64, 128),
        "step, 128 x 128 states": partial(step, 128, 128),
        f"step of {FRAMES} frames, 64 x 128 states": partial(step, 64, 128, FRAMES),
    }


def _norm(device: str, dtype: torch.dtype, steps: int) -> dict[str, Call]:
    found: dict[str, Call] = {}
    for gate in (None, "before", "after"):
        given = norm_cases.arguments(norm_cases.Case((ROWS, steps, 640), gate=gate))
        x, weight, z = (_leaf(t, device, dtype) for t in (given.x, given.weight, given.gate))
        residual = _leaf(given.residual, device, torch.float32)

        def run(
            x: Tensor = x, w: Tensor = weight, z: Tensor = z, r: Tensor = residual,
            gate: str | None = gate,
        ) -> None:  # fmt: skip
            results = norm.norm(
                x, w, residual=r, gate=None if gate is None else z,
                norm_before_gate=gate != "after", implementation="gpu",
            )  # fmt: skip
            _backward(results, (x, w, r))

        found["no gate" if gate is None else f"gate {gate} the norm"] = run
    return found


def _scan(device: str, dtype: torch.dtype, steps: int) -> dict[str, Call]:
    found: dict[str, Call] = {}
    for states in (16, 64):
        case = scan_cases.Case(B=ROWS, T=steps, D=64, N=states, time_contiguous=True)
        given = scan_cases.inputs(case, dtype=dtype, device=device)
        found[f"{states} states"] = partial(_scan_or_ssd, scan.scan, given)
        pool = torch.zeros(ROWS + 1, 64, states, device=device)
        found[f"{states} states, step"] = partial(
            scan.scan_step_, **_first_frame(given, ("reverse",)), pool=pool,
            slots=_slots(device), implementation="gpu",
        )  # fmt: skip
        given = scan_cases.inputs(
            scan_cases.Case(B=ROWS, T=FRAMES, D=64, N=states), dtype=dtype, device=device
        )
        del given["reverse"], given["initial_state"]
        found[f"{states} states, step of {FRAMES} frames"] = partial(
            scan.scan_step_, **given, pool=pool, slots=_slots(device), implementation="gpu"
        )
    return found


def _ssd(device: str, dtype: torch.dtype, steps: int) -> dict[str, Call]:
    found: dict[str, Call] = {}
    for width, states in ((64, 64), (64, 128), (128, 256)):
        case = ssd_cases.Case(B=ROWS, T=steps, H=2, P=width, N=states)
        given = ssd_cases.inputs(case, dtype=dtype, device=device)
        found[f"{width} x {states} states"] = partial(_scan_or_ssd, ssd.ssd, given)
        pool = torch.zeros(ROWS + 1, 2, width, states, device=device)
        found[f"{width} x {states} states, step"] = partial(
            ssd.ssd_step_, **_first_frame(given), pool=pool, slots=_slots(device),
            implementation="gpu",
        )  # fmt: skip
        case = ssd_cases.Case(B=ROWS, T=FRAMES, H=2, P=width, N=states)
        given = ssd_cases.inputs(case, dtype=dtype, device=device)
        del given["initial_state"]
        found[f"{width} x {states} states, step of {FRAMES} frames"] = partial(
            ssd.ssd_step_, **given, pool=pool, slots=_slots(device), implementation="gpu"
        )
    return found


def _scan_or_ssd(op: Callable[..., tuple[Tensor, Tensor]], given: dict[str, Any]) -> None:
    leaves = {
        name: x.detach().requires_grad_()
        for name, x in given.items()
        if isinstance(x, Tensor) and x.is_floating_point()
    }
    _backward(op(**{**given, **leaves}, implementation="gpu"), leaves.values())


def _first_frame(given: dict[str, Any], left_out: tuple[str, ...] = ()) -> dict[str, Any]:
    timed = ("u", "x", "delta", "z", "B", "C")
    return {
        name: x[:, 0] if name in timed else x
        for name, x in given.items()
        if name not in (*left_out, "initial_state")
    }


def _backward(results: Any, leaves: Any) -> None:
    results = tuple(results)
    torch.autograd.grad(results, tuple(leaves), tuple(torch.ones_like(y) for y in results))


def _slots(device: str) -> Tensor:
    return torch.arange(1, ROWS + 1, device=device)


def _leaf(tensor: Tensor | None, device: str, dtype: torch.dtype) -> Any:
    return None if tensor is None else tensor.to(device, dtype).detach().requires_grad_()


_MAKERS: Final = {
    "conv": _conv,
    "layer_step": _layer_step,
    "lti": _lti,
    "mamba3": _mamba3,
    "norm": _norm,
    "scan": _scan,
    "ssd": _ssd,
}
