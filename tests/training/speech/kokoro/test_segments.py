"""Packed instance norms: the definition, and the kernels that must agree with it."""

import pytest
import torch
from torch import Tensor

from audiomamba.errors import ShapeError
from audiomamba.kernels.testing import poisoned
from audiomamba.training.speech.kokoro import fused
from audiomamba.training.speech.kokoro.segments import (
    GAP,
    Segments,
    activate,
    pack_segments,
    statistics,
)

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
FRAMES = [3, 7, 1]
TOTAL = sum(FRAMES) + GAP * (len(FRAMES) + 1) + 4


def inputs(rate: int, channels: int) -> tuple[Segments, Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(rate)
    x = torch.randn(TOTAL * rate, channels) * 2 + 5
    style = torch.randn(len(FRAMES), 2 * channels)
    plus, bias = torch.randn_like(x), torch.randn(channels)
    segments = pack_segments(FRAMES, TOTAL, DEVICE)
    return segments, x.to(DEVICE), style.to(DEVICE), plus.to(DEVICE), bias.to(DEVICE)


@pytest.mark.parametrize("extra", [0, 1])
def test_an_utterance_is_normalised_as_if_alone(extra: int) -> None:
    segments, x, style, _, _ = inputs(5, 8)
    _, affine = statistics(x, style, segments, 5, extra=extra)
    y = activate(x, affine, segments, 5, extra=extra, slope=1.0)
    for i, count in enumerate(FRAMES):
        begin = int(segments.starts[i]) * 5
        own = x[begin : begin + count * 5 + extra]
        gain, bias = style[i].chunk(2)
        alone = torch.nn.functional.instance_norm(own.t()[None])[0].t() * (1 + gain) + bias
        torch.testing.assert_close(
            y[begin : begin + count * 5 + extra], alone, rtol=1e-3, atol=1e-3
        )


def test_gaps_are_zero_whatever_was_in_them() -> None:
    segments, x, _, _, _ = inputs(20, 8)
    outside = segments.rows_owner(20) == len(FRAMES)
    x[outside] = torch.nan
    y = activate(x, None, segments, 20, slope=0.1)
    end = (TOTAL - 4) * 20
    assert not y[:end][outside[:end]].any()
    assert torch.isfinite(y[:end]).all()


@pytest.mark.parametrize(("rate", "extra", "channels"), [(1, 0, 37), (120, 1, 16), (20, 0, 136)])
@pytest.mark.parametrize("residual", [False, True])
def test_the_kernels_agree_with_the_definition(
    rate: int, extra: int, channels: int, residual: bool
) -> None:
    segments, x, style, plus, bias = inputs(rate, channels)
    host = pack_segments(FRAMES, TOTAL, torch.device("cpu"))
    more = (plus, bias) if residual else (None, None)
    wanted, affine = statistics(
        x.cpu(), style.cpu(), host, rate, extra=extra,
        plus=plus.cpu() if residual else None, bias=bias.cpu() if residual else None,
    )  # fmt: skip
    with poisoned():
        got, found = fused.statistics(
            x, style, segments, rate, extra=extra, plus=more[0], bias=more[1]
        )
    own = host.rows_owner(rate, extra) < len(FRAMES)
    torch.testing.assert_close(got.cpu()[own], wanted[own])
    torch.testing.assert_close(found.scale.cpu(), affine.scale, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.shift.cpu(), affine.shift, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("snake", [False, True])
@pytest.mark.parametrize("norm", [False, True])
def test_the_activation_kernel_agrees_with_the_definition(snake: bool, norm: bool) -> None:
    segments, x, style, _, _ = inputs(20, 24)
    host = pack_segments(FRAMES, TOTAL, torch.device("cpu"))
    alpha = torch.rand(24) * 2 + 0.3 if snake else None
    affine = statistics(x, style, segments, 20)[1] if norm else None
    theirs = None if affine is None else type(affine)(affine.scale.cpu(), affine.shift.cpu())
    wanted = activate(x.cpu(), theirs, host, 20, slope=0.2, alpha=alpha, factor=0.5)
    with poisoned():
        got = fused.activate(
            x, affine, segments, 20, extra=0, slope=0.2, factor=0.5,
            alpha=None if alpha is None else alpha.to(DEVICE),
        )  # fmt: skip
    end = (TOTAL - 4) * 20
    torch.testing.assert_close(got.cpu()[:end], wanted[:end], rtol=1e-4, atol=2e-5)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match="do not fit"):
        pack_segments([5], 8, DEVICE)
    segments = pack_segments([5], 9, DEVICE)
    with pytest.raises(ShapeError, match="18 rows"):
        statistics(torch.zeros(9, 4, device=DEVICE), torch.zeros(1, 8, device=DEVICE), segments, 2)
