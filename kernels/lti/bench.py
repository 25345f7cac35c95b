"""Time the LTI system: ``python -m audiomamba.kernels.lti.bench [--json]``.

Beside the published method in plain PyTorch: the kernel as a Vandermonde product, the convolution
by FFT (Gu et al., "On the Parameterization and Initialization of Diagonal State Space Models",
2022, listing 1), which gives no state to go on from; in the first case on a GPU also under
``torch.compile``. Elsewhere also beside the reference. On a GPU inputs are bfloat16, on a CPU
float32.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from audiomamba.kernels import timing
from audiomamba.kernels.lti import lti, lti_step_
from audiomamba.kernels.lti.cases import Arguments, Case, arguments

__all__ = ["cases", "published"]

GPU_CASES = (
    Case(64, 400, 640, 16, state=False),
    Case(8, 2048, 1536, 32, state=False),
    Case(8, 8192, 1536, 32, state=False),
)
CPU_CASES = (
    Case(4, 400, 256, 16, state=False),
    Case(1, 2048, 256, 32, state=False),
    Case(1, 16, 384, 16, state=False),
)
STEP_ROWS = (1, 8)
LONGEST_LOOP = 64  # the reference walks time in Python
FORWARD_BYTES, BOTH_BYTES = 4, 10  # a bfloat16 sample, as the convolution's


def cases(device: str) -> Iterator[timing.Case]:
    """All cases of a device: forward, both directions, and a frame of a stream."""
    gpu = device == "cuda"
    for case in GPU_CASES if gpu else CPU_CASES:
        u, system, dy = _given(arguments(case), device)
        runs = _contenders(case, gpu)
        values = case.B * case.T * case.D
        shape = f"{case.B}, {case.T}, {case.D}, N {2 * case.N}"
        bound = 2e-2 if gpu else 1e-4
        forward = {name: partial(run, u, **system) for name, run in runs.items()}
        yield timing.Case(shape, "forward", forward, values, FORWARD_BYTES * values, bound)
        both = {name: partial(_both, run, u, system, dy) for name, run in runs.items()}
        yield timing.Case(shape, "both", both, values, BOTH_BYTES * values, bound)
    for rows in (1, 64, 1024) if gpu else STEP_ROWS:
        yield _step(Case(rows, 1, 640, 16, state=False), device)


def published(u: Tensor, A: Tensor, B: Tensor, C: Tensor, delta: Tensor, D: Tensor) -> Tensor:
    """Zero-order hold, kernel by a Vandermonde product, convolution by FFT; ``(B, T, D)``."""
    T = u.shape[1]
    exponent = A * delta[:, None]  # (D, N/2)
    weight = C * B * (torch.exp(exponent) - 1) / A
    powers = torch.exp(exponent[..., None] * torch.arange(T, device=u.device))  # (D, N/2, T)
    kernel = 2 * torch.einsum("dn,dnt->dt", weight, powers).real
    x = u.float().transpose(1, 2)
    y = torch.fft.irfft(torch.fft.rfft(x, 2 * T) * torch.fft.rfft(kernel, 2 * T), 2 * T)[..., :T]
    out: Tensor = (y + D[:, None] * x).transpose(1, 2).to(u.dtype)
    return out


def _given(given: Arguments, device: str) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    assert given.D is not None, "the cases have a skip"
    system = {
        "A": given.A.to(device, torch.complex64),
        "B": given.B.to(device, torch.complex64),
        "C": given.C.to(device, torch.complex64),
        "delta": given.delta.to(device, torch.float32),
        "D": given.D.to(device, torch.float32),
    }
    return given.u.to(device, dtype), system, given.dy.to(device, dtype)


def _contenders(case: Case, gpu: bool) -> dict[str, Callable[..., Tensor]]:
    runs: dict[str, Callable[..., Tensor]] = {"ours": _ours, "torch": published}
    if case is GPU_CASES[0]:  # each takes the compiler some seconds
        runs["compiled"] = torch.compile(published, dynamic=False)
    if not gpu and case.T <= LONGEST_LOOP:
        runs["reference"] = partial(_ours, implementation="reference")
    return runs


def _ours(u: Tensor, **options: Any) -> Tensor:
    return lti(u, **options)[0]


def _both(run: Callable[..., Tensor], u: Tensor, system: dict[str, Tensor], dy: Tensor) -> Tensor:
    leaves = [u, *system.values()]
    leaves = [t.detach().requires_grad_() for t in leaves]
    y = run(leaves[0], **dict(zip(system, leaves[1:], strict=True)))
    return torch.autograd.grad(y, leaves, dy)[0]


def _step(case: Case, device: str) -> timing.Case:
    """One frame of some streams, beside the same in plain PyTorch."""
    u, system, _ = _given(arguments(case), device)
    slots = torch.randperm(case.B, generator=torch.Generator().manual_seed(0)).to(device) + 1
    pools = [torch.zeros(case.B + 1, case.D, case.N, 2, device=device) for _ in range(2)]

    def ours() -> Tensor:
        A, B, C, delta, D = system.values()
        return lti_step_(u[:, 0], A, B, C, delta, pools[0], slots, D=D)

    def plain() -> Tensor:
        exponent = system["A"] * system["delta"][:, None]
        decay, drive = torch.exp(exponent), system["B"] * (torch.exp(exponent) - 1) / system["A"]
        state = torch.view_as_complex(pools[1][slots])
        state = decay * state + drive * u[:, 0, :, None].float()
        pools[1][slots] = torch.view_as_real(state)
        y = 2 * (system["C"] * state).sum(-1).real + system["D"] * u[:, 0]
        return y.to(u.dtype)

    shape = f"{case.B}, 1, {case.D}, N {2 * case.N}"
    state_bytes = 2 * case.B * case.D * case.N * 2 * 4
    bound = 2e-2 if device == "cuda" else 1e-4
    return timing.Case(
        shape, "step", {"ours": ours, "torch": plain}, case.B * case.D, state_bytes, bound
    )


if __name__ == "__main__":
    timing.main("lti", cases)
