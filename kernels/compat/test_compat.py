"""The published functions agree with plain versions of themselves, on the shapes that their own
packages test: layouts, dtypes, tolerances and options are those of mamba-ssm and causal-conv1d."""

import math
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from audiomamba.errors import BackendError, ShapeError
from audiomamba.kernels import compat
from audiomamba.kernels.compat.mamba_inner import inner
from audiomamba.kernels.testing import assert_near

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="gpu: no GPU here"),
        ],
    ),
]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
TOLERANCE = {torch.float32: (3e-4, 1e-3), torch.float16: (3e-3, 5e-3), torch.bfloat16: (1e-2, 5e-2)}
STEP_TOLERANCE = {**TOLERANCE, torch.float16: (5e-3, 3e-2), torch.bfloat16: (1e-2, 1e-1)}
by_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    torch.manual_seed(0)
    return str(request.param)


def close(got: Tensor, want: Tensor, tolerance: tuple[float, float], name: str = "out") -> None:
    rtol, atol = tolerance
    assert got.dtype == want.dtype, name
    worst = float((got.detach().float() - want.detach().float()).abs().max())
    assert torch.allclose(got.float(), want.float(), rtol=rtol, atol=atol), (
        f"{name}: off {worst:.2e}"
    )


def leaves(given: dict[str, Any]) -> dict[str, Any]:
    return {
        k: v.detach().clone().requires_grad_()
        if isinstance(v, Tensor) and (v.is_floating_point() or v.is_complex())
        else v
        for k, v in given.items()
    }


def compare(
    ours: Any, theirs: Any, given: dict[str, Any], tolerance: tuple[float, float], **only_ours: Any
) -> None:
    """Outputs, and gradients of a random weighting of all of them, of two functions."""
    found = []
    for function, extra in ((ours, only_ours), (theirs, {})):
        args = leaves(given)
        results = function(**args, **extra)
        results = results if isinstance(results, tuple) else (results,)
        draw = torch.Generator().manual_seed(1)
        loss = sum(
            (r.float() * torch.randn(r.shape, generator=draw).to(r.device)).sum()
            for r in results
            if not r.is_complex()
        )
        names = [k for k, v in args.items() if isinstance(v, Tensor) and v.requires_grad]
        gradients = torch.autograd.grad(loss, [args[k] for k in names])
        found.append((results, dict(zip(names, gradients, strict=True))))
    for i, (a, b) in enumerate(zip(found[0][0], found[1][0], strict=True)):
        if a.is_complex():
            a, b = torch.view_as_real(a), torch.view_as_real(b)
        close(a, b, tolerance, f"result {i}")
    for name, gradient in found[0][1].items():
        want = found[1][1][name]
        if gradient.is_complex():
            gradient, want = torch.view_as_real(gradient), torch.view_as_real(want)
        size = float(want.abs().max())
        close(gradient, want, (tolerance[0] * 5, tolerance[1] * max(10.0, size)), name)


def scan_inputs(
    device: str, dtype: torch.dtype, wtype: torch.dtype, groups_B: int | None, groups_C: int | None
) -> dict[str, Any]:
    """Arguments as mamba-ssm's test draws them; groups are None where constant, 0 where 3-D."""
    rows, dim, states, steps = 2, 4, 8, 37
    length = 2 * steps if wtype == torch.complex64 else steps

    def weights(groups: int | None) -> Tensor:
        if groups is None:
            return torch.randn(dim, states, device=device, dtype=wtype)
        shape = (rows, groups, states, length) if groups else (rows, states, length)
        return torch.randn(shape, device=device, dtype=dtype)

    return {
        "u": torch.randn(rows, dim, steps, device=device, dtype=dtype),
        "delta": 0.5 * torch.rand(rows, dim, steps, device=device, dtype=dtype),
        "A": -0.5 * torch.rand(dim, states, device=device, dtype=wtype),
        "B": weights(groups_B),
        "C": weights(groups_C),
        "D": torch.randn(dim, device=device),
        "z": torch.randn(rows, dim, steps, device=device, dtype=dtype),
        "delta_bias": 0.5 * torch.rand(dim, device=device),
        "delta_softplus": True,
        "return_last_state": True,
    }


SCAN_TOLERANCE = {
    torch.float32: (6e-4, 2e-3),
    torch.float16: (3e-3, 5e-3),
    torch.bfloat16: (3e-2, 5e-2),
}


@by_dtype
@pytest.mark.parametrize("B", [None, 0, 2])
@pytest.mark.parametrize("C", [None, 0, 2])
def test_selective_scan_in_all_layouts_of_B_and_C(
    device: str, dtype: torch.dtype, B: int | None, C: int | None
) -> None:
    if 2 in (B, C) and 0 in (B, C):
        B = C = 4  # the two have one number of groups where both vary
    given = scan_inputs(device, dtype, torch.float32, B, C)
    compare(compat.selective_scan_fn, compat.selective_scan_ref, given, SCAN_TOLERANCE[dtype])


@pytest.mark.parametrize("left_out", ["D", "z", "delta_bias", "delta_softplus"])
def test_selective_scan_without_an_option(device: str, left_out: str) -> None:
    given = scan_inputs(device, torch.float32, torch.float32, 0, 0)
    given[left_out] = False if left_out == "delta_softplus" else None
    compare(compat.selective_scan_fn, compat.selective_scan_ref, given, (6e-4, 2e-3))


@pytest.mark.parametrize("B", [None, 0, 2])
def test_a_complex_selective_scan_is_the_real_one_of_twice_the_states(
    device: str, B: int | None
) -> None:
    given = scan_inputs(device, torch.float32, torch.complex64, B, B)
    compare(compat.selective_scan_fn, compat.selective_scan_ref, given, (6e-4, 2e-3))
    # With a real A, twice the real part of C B is twice what real weights give.
    real = scan_inputs(device, torch.float32, torch.float32, B, B)
    paired = dict(real, A=real["A"].to(torch.complex64), D=None, z=None, return_last_state=False)
    plain = dict(paired, A=real["A"])
    for name in ("B", "C"):
        x = real[name]
        pairs = torch.stack((x, torch.zeros_like(x)), -1)
        paired[name] = x.to(torch.complex64) if B is None else pairs.flatten(-2)
    got = compat.selective_scan_fn(**paired)
    want = compat.selective_scan_fn(**plain)
    assert isinstance(got, Tensor) and isinstance(want, Tensor)
    assert_near(got, 2 * want, 1e-5)


def step_inputs(
    device: str, dtype: torch.dtype, heads: int, tied: bool, groups: int, rows: int
) -> dict[str, Any]:
    dim, width, states = 24, 8, 16
    per_row: tuple[int, ...] = (heads, width) if heads else (dim,)
    draw: tuple[int, ...] = (heads,) if tied else per_row

    def widened(x: Tensor) -> Tensor:
        return x[..., None].expand(*x.shape, width) if tied else x

    A = -torch.rand(*draw, device=device) - 1.0
    given: dict[str, Any] = {
        "state": torch.randn(rows, *per_row, states, device=device, dtype=dtype),
        "x": torch.randn(2, *per_row, device=device, dtype=dtype),
        "dt": widened(torch.randn(2, *draw, device=device, dtype=dtype)),
        "A": widened(A)[..., None].expand(*per_row, states)
        if tied
        else -torch.rand(*per_row, states, device=device) - 1.0,
        "B": torch.randn(2, groups, states, device=device),
        "C": torch.randn(2, groups, states, device=device),
        "D": widened(torch.randn(*draw, device=device)),
        "z": torch.randn(2, *per_row, device=device, dtype=dtype),
        "dt_bias": widened(torch.rand(*draw, device=device) - 4.0),
        "dt_softplus": True,
    }
    if not heads:
        given["B"], given["C"] = given["B"][:, 0], given["C"][:, 0]
    return given


@by_dtype
@pytest.mark.parametrize("z", [False, True])
@pytest.mark.parametrize(
    ("heads", "tied", "groups"),
    [(0, False, 1), (4, False, 1), (4, False, 2), (4, True, 1), (4, True, 4)],
)
@pytest.mark.parametrize("indexed", [False, True])
def test_selective_state_update(
    device: str, dtype: torch.dtype, z: bool, heads: int, tied: bool, groups: int, indexed: bool
) -> None:
    given = step_inputs(device, dtype, heads, tied, groups, rows=7 if indexed else 2)
    if not z:
        given["z"] = None
    state, rows = given["state"], torch.tensor([0, 1], device=device)
    extra: dict[str, Any] = {}
    if indexed:
        rows = torch.tensor([5, 2], dtype=torch.int32, device=device)
        extra["state_batch_indices"] = rows
    others = [row for row in range(len(state)) if row not in rows.tolist()]
    before = state.clone()
    reference = before[rows.long()]
    want = compat.selective_state_update_ref(**{**given, "state": reference})
    out = compat.selective_state_update(**given, **extra)
    close(out, want, STEP_TOLERANCE[dtype])
    close(state[rows.long()], reference, STEP_TOLERANCE[dtype], "state")
    assert torch.equal(state[others], before[others])


def test_selective_state_update_reaches_a_state_of_odd_strides(device: str) -> None:
    given = step_inputs(device, torch.float32, 4, False, 2, rows=2)
    given["state"] = given["state"].transpose(1, 2).contiguous().transpose(1, 2)
    reference = given["state"].clone()
    want = compat.selective_state_update_ref(**{**given, "state": reference})
    close(compat.selective_state_update(**given), want, (3e-4, 1e-3))
    close(given["state"], reference, (3e-4, 1e-3), "state")


def chunk_inputs(device: str, dtype: torch.dtype, groups: int, rows: int = 2) -> dict[str, Any]:
    heads, width, states, steps = 4, 6, 8, 75
    return {
        "x": torch.randn(rows, steps, heads, width, device=device, dtype=dtype),
        "dt": torch.randn(rows, steps, heads, device=device) - 4,
        "A": -torch.rand(heads, device=device) * 4,
        "B": torch.randn(rows, steps, groups, states, device=device, dtype=dtype),
        "C": torch.randn(rows, steps, groups, states, device=device, dtype=dtype),
        "chunk_size": 32,
        "D": torch.randn(heads, width, device=device),
        "z": torch.randn(rows, steps, heads, width, device=device, dtype=dtype),
        "dt_bias": torch.rand(heads, device=device),
        "dt_softplus": True,
    }


@by_dtype
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_mamba_chunk_scan_combined(device: str, dtype: torch.dtype, groups: int) -> None:
    given = chunk_inputs(device, dtype, groups)
    given["initial_states"] = torch.randn(2, 4, 6, 8, device=device)
    given["return_final_states"] = True
    given["dt_limit"] = (0.02, 0.2)
    tolerance = (1e-2, 3e-3) if dtype == torch.float32 else (2e-2, 5e-2)
    compare(
        compat.mamba_chunk_scan_combined, compat.mamba_chunk_scan_combined_ref, given, tolerance
    )


def test_mamba_chunk_scan_combined_keeps_packed_sequences_apart(device: str) -> None:
    given = chunk_inputs(device, torch.float32, 2, rows=1)
    ends = [0, 20, 21, 75]
    lengths = torch.tensor([b - a for a, b in zip(ends, ends[1:], strict=False)])
    seq_idx = torch.repeat_interleave(torch.arange(3), lengths)[None].int().to(device)
    cu_seqlens = torch.tensor(ends, device=device)
    out, last, states = compat.mamba_chunk_scan_combined(  # type: ignore[misc]
        **given,
        seq_idx=seq_idx,
        cu_seqlens=cu_seqlens,
        return_final_states=True,
        return_varlen_states=True,
    )
    again, last_again = compat.mamba_chunk_scan_combined(  # type: ignore[misc]
        **given, seq_idx=seq_idx, return_final_states=True
    )
    close(again, out, (1e-5, 1e-5))
    close(last_again, last, (1e-5, 1e-5), "last state")
    for i, (start, end) in enumerate(zip(ends, ends[1:], strict=False)):
        timed = ("x", "dt", "B", "C", "z")
        alone = {k: v[:, start:end] if k in timed else v for k, v in given.items()}
        want, state = compat.mamba_chunk_scan_combined_ref(  # type: ignore[misc]
            **alone, return_final_states=True
        )
        close(out[:, start:end], want, (1e-4, 1e-4))
        close(states[i : i + 1], state, (1e-4, 1e-4), "state")


def test_varlen_states_want_the_ends_of_the_sequences() -> None:
    with pytest.raises(ShapeError, match="wants cu_seqlens"):
        compat.mamba_chunk_scan_combined(
            **chunk_inputs("cpu", torch.float32, 1, rows=1), return_varlen_states=True
        )


def conv_inputs(
    device: str, dtype: torch.dtype, width: int, steps: int, channel_last: bool
) -> dict[str, Any]:
    rows, dim = 2, 24
    if channel_last:
        x = torch.randn(rows, steps, dim + 8, device=device, dtype=dtype)[:, :, 4 : dim + 4].mT
    else:
        x = torch.randn(rows, dim + 8, steps, device=device, dtype=dtype)[:, 4 : dim + 4]
    return {
        "x": x,
        "weight": torch.randn(dim, width, device=device),
        "bias": torch.randn(dim, device=device),
    }


@by_dtype
@pytest.mark.parametrize("width", [2, 3, 4])
@pytest.mark.parametrize("steps", [1, 2, 8, 129])
@pytest.mark.parametrize("channel_last", [False, True])
def test_causal_conv1d(
    device: str, dtype: torch.dtype, width: int, steps: int, channel_last: bool
) -> None:
    given = conv_inputs(device, dtype, width, steps, channel_last)
    plain = dict(given, bias=None)
    compare(compat.causal_conv1d_fn, compat.causal_conv1d_ref, plain, TOLERANCE[dtype])
    given["activation"] = "swish"
    given["initial_states"] = torch.randn(2, width - 1, 24, device=device, dtype=dtype).mT
    given["return_final_states"] = True
    compare(compat.causal_conv1d_fn, compat.causal_conv1d_ref, given, TOLERANCE[dtype])


def test_causal_conv1d_writes_the_final_states_where_told(device: str) -> None:
    given = conv_inputs(device, torch.float32, 4, 9, True)
    into = torch.empty(2, 3, 24, device=device).mT
    _, last = compat.causal_conv1d_fn(**given, return_final_states=True, final_states_out=into)
    assert last is into
    assert torch.equal(into, given["x"][..., -3:])


@by_dtype
def test_causal_conv1d_keeps_packed_sequences_apart(device: str, dtype: torch.dtype) -> None:
    given = conv_inputs(device, dtype, 4, 40, True)
    ends = ((0, 1, 13, 40), (0, 20, 39, 40))
    seq_idx = torch.zeros(2, 40, dtype=torch.int32, device=device)
    for row, starts in enumerate(ends):
        for start in starts[1:-1]:
            seq_idx[row, start:] += 1

    def apart(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        rows = []
        for row, cut in enumerate(ends):
            parts = [
                compat.causal_conv1d_ref(x[row : row + 1, :, a:b], weight, bias, activation="silu")
                for a, b in zip(cut, cut[1:], strict=False)
            ]
            rows.append(torch.cat(parts, 2))  # type: ignore[arg-type]
        return torch.cat(rows)

    compare(
        compat.causal_conv1d_fn, apart, given, TOLERANCE[dtype], seq_idx=seq_idx, activation="silu"
    )


@by_dtype
@pytest.mark.parametrize("width", [2, 3, 4])
@pytest.mark.parametrize("room", [0, 1, 5])
@pytest.mark.parametrize("steps", [None, 1, 4, 9])
@pytest.mark.parametrize("circular", [False, True])
@pytest.mark.parametrize("indexed", [False, True])
def test_causal_conv1d_update(
    device: str,
    dtype: torch.dtype,
    width: int,
    room: int,
    steps: int | None,
    circular: bool,
    indexed: bool,
) -> None:
    dim, rows = 24, 6 if indexed else 2
    state = torch.randn(rows, dim, width - 1 + room, device=device, dtype=dtype)
    shape = (2, dim) if steps is None else (2, dim, steps)
    x = torch.randn(shape, device=device, dtype=dtype)
    weight, bias = torch.randn(dim, width, device=device), torch.randn(dim, device=device)
    past = torch.tensor([3, 70], dtype=torch.int32, device=device) if circular else None
    which = torch.tensor([4, 1], dtype=torch.int32, device=device) if indexed else None
    picked = which.long() if which is not None else torch.arange(2, device=device)
    reference = state[picked]
    want = compat.causal_conv1d_update_ref(x, reference, weight, bias, "silu", past)
    out = compat.causal_conv1d_update(x, state, weight, bias, "silu", past, which)
    close(out, want, TOLERANCE[dtype])
    assert torch.equal(state[picked], reference)


@pytest.mark.parametrize("steps", [None, 1, 4])
@pytest.mark.parametrize("padded", [(0, 2), (0, 1, 2, 3)], ids=["some", "all"])
def test_causal_conv1d_update_leaves_out_rows_that_pad_the_batch(
    device: str, steps: int | None, padded: tuple[int, ...]
) -> None:
    state = torch.randn(6, 8, 3, device=device)
    x = torch.randn((4, 8) if steps is None else (4, 8, steps), device=device)
    weight = torch.randn(8, 4, device=device)
    rows = torch.tensor([5, 1, 0, 3], dtype=torch.int32, device=device)
    rows[list(padded)] = -1
    named = rows >= 0
    want_state = state.clone()
    want = torch.zeros_like(x)
    if named.any():
        alone = state[rows[named].long()]
        want[named] = compat.causal_conv1d_update_ref(x[named], alone, weight)
        want_state[rows[named].long()] = alone
    out = compat.causal_conv1d_update(x, state, weight, conv_state_indices=rows)
    close(out, want, (1e-5, 1e-5))
    assert (out[~named] == 0).all()
    assert torch.equal(state, want_state)


@pytest.mark.parametrize("heads", [0, 4])
def test_selective_state_update_leaves_out_rows_that_pad_the_batch(device: str, heads: int) -> None:
    given = step_inputs(device, torch.float32, heads, heads > 0, 1, rows=5)
    before = given["state"].clone()
    rows = torch.tensor([-1, 3], dtype=torch.int32, device=device)
    out = compat.selective_state_update(**given, state_batch_indices=rows)
    reference = before[[0, 3]]
    want = compat.selective_state_update_ref(**{**given, "state": reference})
    assert (out[0] == 0).all()
    close(out[1], want[1], (3e-4, 1e-3))
    close(given["state"][3], reference[1], (3e-4, 1e-3), "state")
    assert torch.equal(given["state"][[0, 1, 2, 4]], before[[0, 1, 2, 4]])


def test_causal_conv1d_gives_zero_where_there_is_no_sequence(device: str) -> None:
    given = conv_inputs(device, torch.float32, 4, 12, True)
    seq_idx = torch.tensor([[0] * 5 + [1] * 4 + [-1] * 3, [2] * 12], dtype=torch.int32)
    out = compat.causal_conv1d_fn(**given, seq_idx=seq_idx.to(device))
    assert isinstance(out, Tensor)
    assert (out[0, :, 9:] == 0).all()
    alone = {**given, "x": given["x"][:1, :, 5:9]}
    want = compat.causal_conv1d_ref(**alone)
    assert isinstance(want, Tensor)
    close(out[:1, :, 5:9], want, (1e-5, 1e-5))


@pytest.mark.parametrize("state_len", [1, 3, 20])
def test_causal_conv1d_varlen_states(device: str, state_len: int) -> None:
    x = torch.randn(17, 6, device=device)
    ends = torch.tensor([0, 1, 9, 9, 17], device=device)
    out = compat.causal_conv1d_varlen_states(x, ends, state_len)
    assert out.shape == (4, 6, state_len)
    assert torch.equal(out, compat.causal_conv1d_varlen_states_ref(x, ends, state_len))
    assert torch.equal(out[1, :, -1], x[8]) and (out[2] == 0).all()


@pytest.mark.parametrize("given_B", [False, True])
@pytest.mark.parametrize("given_C", [False, True])
@pytest.mark.parametrize("wtype", [torch.float32, torch.complex64], ids=str)
def test_mamba_inner(device: str, given_B: bool, given_C: bool, wtype: torch.dtype) -> None:
    dim, states, rank, steps = 12, 4, 3, 10
    pairs = 2 if wtype.is_complex else 1
    made = (2 - given_B - given_C) * states * pairs

    def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(shape, device=device, dtype=dtype)

    given: dict[str, Any] = {
        "xz": draw(2, 2 * dim, steps),
        "conv1d_weight": draw(dim, 1, 3),
        "conv1d_bias": draw(dim),
        "x_proj_weight": draw(rank + made, dim) * 0.3,
        "delta_proj_weight": draw(dim, rank),
        "out_proj_weight": draw(6, dim),
        "out_proj_bias": draw(6),
        "A": -0.5 * torch.rand(dim, states, device=device).to(wtype),
        "D": draw(dim),
        "delta_bias": 0.5 * torch.rand(dim, device=device),
    }
    if given_B:
        given["B"] = draw(dim, states, dtype=wtype)
    else:
        given["B_proj_bias"] = draw(states * pairs)
    if given_C:
        given["C"] = draw(dim, states, dtype=wtype)
    loops = (compat.causal_conv1d_ref, compat.selective_scan_ref)
    compare(compat.mamba_inner_fn, partial(inner, *loops), given, (6e-4, 2e-3))
    compare(compat.mamba_inner_fn, compat.mamba_inner_ref, given, (1e-5, 1e-5))


def test_mamba_inner_norms_what_it_projects(device: str) -> None:
    dim, states = 8, 4
    given: dict[str, Any] = {
        "xz": torch.randn(1, 2 * dim, 5, device=device),
        "conv1d_weight": torch.randn(dim, 1, 2, device=device),
        "conv1d_bias": None,
        "x_proj_weight": torch.randn(2 + 2 * states, dim, device=device),
        "delta_proj_weight": torch.randn(dim, 2, device=device),
        "out_proj_weight": torch.eye(dim, device=device),
        "out_proj_bias": None,
        "A": -torch.rand(dim, states, device=device),
    }
    ones = torch.ones(states, device=device)
    given |= {"b_rms_weight": ones, "c_rms_weight": ones}
    given["dt_rms_weight"] = torch.ones(dim, device=device)
    once = compat.mamba_inner_fn(**given)
    given["x_proj_weight"] = 100 * given["x_proj_weight"]  # which the norms take back
    close(compat.mamba_inner_fn(**given), once, (1e-3, 1e-3))


@pytest.mark.parametrize("is_rms_norm", [False, True])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("gate", [None, "before", "after"])
@pytest.mark.parametrize("group", [None, 8])
def test_layernorm_gated(
    device: str, is_rms_norm: bool, has_bias: bool, gate: str | None, group: int | None
) -> None:
    given: dict[str, Any] = {
        "x": 2 + torch.randn(3, 5, 24, device=device),
        "weight": torch.randn(24, device=device),
        "bias": torch.randn(24, device=device) if has_bias else None,
        "z": torch.randn(3, 5, 24, device=device) if gate else None,
        "eps": 1e-5,
        "group_size": group,
        "norm_before_gate": gate != "after",
    }

    def layer_norm(x: Tensor, weight: Tensor, bias: Tensor | None, z: Tensor | None) -> Tensor:
        factor = 1 if z is None else torch.nn.functional.silu(z)
        y = x * factor if gate == "after" else x
        size = group or 24
        y = torch.nn.functional.layer_norm(y.unflatten(-1, (-1, size)), (size,), eps=1e-5)
        y = y.flatten(-2) * weight
        y = y if bias is None else y + bias
        return y * factor if gate == "before" else y

    if is_rms_norm:
        compare(compat.rmsnorm_fn, compat.rms_norm_ref, given, (1e-5, 1e-5))
    named = {name: given[name] for name in ("x", "weight", "bias", "z")}
    rest = {name: given[name] for name in given if name not in named}
    if not is_rms_norm:
        compare(partial(compat.layernorm_fn, **rest), layer_norm, named, (1e-4, 1e-4))


def test_a_circular_state_goes_on_like_a_shifted_one(device: str) -> None:
    weight = torch.randn(8, 4, device=device)
    x = torch.randn(2, 8, 30, device=device)
    state = torch.zeros(2, 8, 5, device=device)
    taken, parts = 0, []
    for count in (1, 4, 2, 7, 16):
        past = torch.full((2,), taken, dtype=torch.int32, device=device)
        now = x[..., taken : taken + count]
        parts.append(compat.causal_conv1d_update(now, state, weight, cache_seqlens=past))
        taken += count
    want = compat.causal_conv1d_ref(x, weight)
    assert isinstance(want, Tensor)
    close(torch.cat(parts, -1), want, (1e-5, 1e-5))


def test_wrong_calls_are_refused_in_words() -> None:
    x, weight = torch.randn(1, 4, 8), torch.randn(4, 4)
    with pytest.raises(ShapeError, match="silu or swish, got 'relu'"):
        compat.causal_conv1d_fn(x, weight, activation="relu")
    with pytest.raises(ShapeError, match="room for 3, got 2"):
        compat.causal_conv1d_update(x[..., 0], torch.zeros(1, 4, 2), weight)
    given = scan_inputs("cpu", torch.float32, torch.float32, 0, 0)
    with pytest.raises(ShapeError, match=r"u wants \(B, D, L\)"):
        compat.selective_scan_fn(**{**given, "u": given["u"][0]})
    with pytest.raises(ShapeError, match="B and C want"):
        compat.selective_scan_fn(**{**given, "B": given["B"][0, 0]})
    step = step_inputs("cpu", torch.float32, 4, False, 1, 2)
    with pytest.raises(ShapeError, match="wants x"):
        compat.selective_state_update(**{**step, "state": step["state"][0]})


@pytest.fixture
def installed() -> Iterator[None]:
    compat.install()
    yield
    for name in [n for n in sys.modules if n.split(".")[0] in ("mamba_ssm", "causal_conv1d")]:
        del sys.modules[name]


@pytest.mark.usefixtures("installed")
def test_installed_functions_are_found_under_the_published_names() -> None:
    compat.install()  # twice is once
    import causal_conv1d  # type: ignore[import-not-found]
    from mamba_ssm.ops.selective_scan_interface import (  # type: ignore[import-not-found]
        selective_scan_fn,
    )
    from mamba_ssm.ops.triton.ssd_combined import (  # type: ignore[import-not-found]
        mamba_chunk_scan_combined,
    )

    assert causal_conv1d.causal_conv1d_fn is compat.causal_conv1d_fn
    assert selective_scan_fn is compat.selective_scan_fn
    assert mamba_chunk_scan_combined is compat.mamba_chunk_scan_combined


def test_a_package_that_is_there_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mamba_ssm", math)
    with pytest.raises(BackendError, match="mamba_ssm itself is installed"):
        compat.install()


@pytest.mark.usefixtures("installed")
def test_what_published_tests_put_on_a_gpu_lands_on_the_cpu() -> None:
    from audiomamba.kernels.compat.published_tests import OnTheCpu

    with OnTheCpu():
        x = torch.zeros(2, device="cuda")
        moved = x.to(torch.device("cuda")), x.to(device="cuda:0")
    assert {x.device.type, *(y.device.type for y in moved)} == {"cpu"}
