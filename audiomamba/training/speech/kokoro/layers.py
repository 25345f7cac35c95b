"""Convolutions over packed rows, and the two residual blocks that everything is built of.

Tensors are ``(T, C)``, which to the convolution library is a channels-last image of height 1: the
layout its tensor-core kernels take without transposing. Channels are padded to a multiple of 16 for
the same reason; padded channels are zero throughout.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiomamba.training.speech.kokoro.segments import Affine, Segments, activate, statistics

__all__ = ["AdaIN", "AdaResBlock", "Conv", "ConvUp", "SnakeBlock", "pad_channels"]

LEAK = 0.2
STYLE = 128


def _up16(channels: int) -> int:
    return (channels + 15) // 16 * 16


def pad_channels(x: Tensor) -> Tensor:
    """Zero channels up to a multiple of 16."""
    return F.pad(x, (0, _up16(x.shape[1]) - x.shape[1]))


def _image(x: Tensor) -> Tensor:
    return x[None, None].permute(0, 3, 1, 2)  # (1, C, 1, T), channels last


def _rows(image: Tensor) -> Tensor:
    return image.permute(0, 2, 3, 1)[0, 0].contiguous()


class Conv(nn.Module):
    """1-D convolution of packed rows, ``(T, C_in)`` to ``(T / stride, C_out)``.

    Its bias is returned by ``bias`` and not added where a norm or a sum follows that takes it over.
    """

    def __init__(
        self, c_in: int, c_out: int, taps: int, *, stride: int = 1, dilation: int = 1, pad: int = -1
    ) -> None:
        super().__init__()
        self.stride, self.dilation = stride, dilation
        self.pad = (taps * dilation - dilation) // 2 if pad < 0 else pad
        self.weight = nn.Parameter(torch.zeros(_up16(c_out), _up16(c_in), 1, taps))
        self.bias = nn.Parameter(torch.zeros(_up16(c_out)))

    def forward(self, x: Tensor, *, add_bias: bool = False) -> Tensor:
        y = F.conv2d(
            _image(x),
            self.weight,
            None,
            stride=(1, self.stride),
            padding=(0, self.pad),
            dilation=(1, self.dilation),
        )
        return _rows(y) + self.bias.to(y.dtype) if add_bias else _rows(y)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        _fit(state, prefix + "weight", self.weight)
        state.setdefault(prefix + "bias", torch.zeros_like(self.bias))
        _fit(state, prefix + "bias", self.bias)
        super()._load_from_state_dict(state, prefix, *rest)


class ConvUp(nn.Module):
    """Transposed convolution, ``(T, C_in)`` to ``(stride T, C_out)``."""

    def __init__(self, c_in: int, c_out: int, taps: int, stride: int, pad: int) -> None:
        super().__init__()
        self.stride, self.pad = stride, pad
        self.weight = nn.Parameter(torch.zeros(c_in, c_out, 1, taps))
        self.bias = nn.Parameter(torch.zeros(c_out))

    def forward(self, x: Tensor) -> Tensor:
        y = F.conv_transpose2d(
            _image(x), self.weight, None, stride=(1, self.stride), padding=(0, self.pad)
        )
        return _rows(y)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        _fit(state, prefix + "weight", self.weight)
        super()._load_from_state_dict(state, prefix, *rest)


def _fit(state: dict[str, Any], name: str, like: Tensor) -> None:
    """Pad a stored tensor with zeros, and give a 1-D kernel its height of 1."""
    value: Tensor = state[name]
    if value.dim() == 3:
        value = value[:, :, None]
    fitted = value.new_zeros(like.shape)
    fitted[tuple(slice(n) for n in value.shape)] = value
    state[name] = fitted


class AdaIN(nn.Module):
    """The style's gain and bias for one instance norm, ``(S, 2 C)`` float32."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Linear(STYLE, 2 * _up16(channels))

    def forward(self, style: Tensor) -> Tensor:
        h: Tensor = self.fc(style)
        return h

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        padded = self.fc.out_features // 2
        for name in ("fc.weight", "fc.bias"):
            halves = state[prefix + name].chunk(2, 0)
            fitted = [half.new_zeros(padded, *half.shape[1:]) for half in halves]
            for new, half in zip(fitted, halves, strict=True):
                new[: len(half)] = half
            state[prefix + name] = torch.cat(fitted)
        super()._load_from_state_dict(state, prefix, *rest)


class _PoolUp(nn.Module):
    """A transposed convolution of three taps for each channel by itself, doubling the rate."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(_up16(channels), 1, 3))
        self.bias = nn.Parameter(torch.zeros(_up16(channels)))

    def forward(self, x: Tensor) -> Tensor:
        before, at, after = self.weight[:, 0].to(x.dtype).unbind(1)
        follower = F.pad(x[1:], (0, 0, 0, 1))
        pair = torch.stack([x * at, x * after + follower * before], 1) + self.bias.to(x.dtype)
        return pair.reshape(-1, x.shape[1])

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        stored: Tensor = state[prefix + "weight"]
        state[prefix + "weight"] = F.pad(stored, (0, 0, 0, 0, 0, len(self.weight) - len(stored)))
        _fit(state, prefix + "bias", self.bias)
        super()._load_from_state_dict(state, prefix, *rest)


class AdaResBlock(nn.Module):
    """Residual block of the pitch and energy curves and of the decoder; ``up`` doubles the rate."""

    def __init__(self, c_in: int, c_out: int, *, up: bool = False) -> None:
        super().__init__()
        self.conv1, self.conv2 = Conv(c_in, c_out, 3), Conv(c_out, c_out, 3)
        self.norm1, self.norm2 = AdaIN(c_in), AdaIN(c_out)
        self.conv1x1 = Conv(c_in, c_out, 1) if c_in != c_out else None
        self.pool = _PoolUp(c_in) if up else None

    def forward(self, x: Tensor, style: Tensor, segments: Segments, rate: int) -> Tensor:
        """``(rate * total, C_in)`` to ``(rate' * total, C_out)``; the gaps hold anything."""
        _, affine = statistics(x, self.norm1(style), segments, rate)
        y = activate(x, affine, segments, rate, slope=LEAK)
        if self.pool is not None:
            rate *= 2
            x = x.repeat_interleave(2, 0)
            y = activate(self.pool(y), None, segments, rate, slope=1.0)
        if self.conv1x1 is not None:
            x = self.conv1x1(x)
        y = self.conv1(y)  # the norm that follows would take its bias away again
        _, affine = statistics(y, self.norm2(style), segments, rate)
        y = self.conv2(activate(y, affine, segments, rate, slope=LEAK), add_bias=True)
        half: Tensor = (x + y) * math.sqrt(0.5)
        return half


class SnakeBlock(nn.Module):
    """Three pairs of convolutions at dilations 1, 3, 5 with periodic activations."""

    def __init__(self, channels: int, taps: int) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(Conv(channels, channels, taps, dilation=d) for d in (1, 3, 5))
        self.convs2 = nn.ModuleList(Conv(channels, channels, taps) for _ in range(3))
        self.adain1 = nn.ModuleList(AdaIN(channels) for _ in range(3))
        self.adain2 = nn.ModuleList(AdaIN(channels) for _ in range(3))
        for name in ("alpha1", "alpha2"):
            alphas = nn.ParameterList(nn.Parameter(torch.ones(1, channels, 1)) for _ in range(3))
            self.register_module(name, alphas)

    def forward(
        self, x: Tensor, style: Tensor, segments: Segments, rate: int, extra: int
    ) -> Tensor:
        """``(rate * total, C)`` to the same; the gaps hold anything."""
        y: Any = None
        bias: Tensor | None = None
        alpha1: Any = self.alpha1
        alpha2: Any = self.alpha2
        for i in range(3):
            x, affine = statistics(
                x, self.adain1[i](style), segments, rate, extra=extra, plus=y, bias=bias
            )
            y = self._activate(x, affine, alpha1[i], segments, rate, extra)
            y = self.convs1[i](y)
            _, affine = statistics(y, self.adain2[i](style), segments, rate, extra=extra)
            y = self._activate(y, affine, alpha2[i], segments, rate, extra)
            conv = self.convs2[i]
            assert isinstance(conv, Conv), "a list of Conv"
            y, bias = conv(y), conv.bias.float()
        assert bias is not None, "three pairs have run"
        return x.add_(y).add_(bias.to(x.dtype))

    @staticmethod
    def _activate(
        x: Tensor, affine: Affine, alpha: Tensor, segments: Segments, rate: int, extra: int
    ) -> Tensor:
        flat = alpha.reshape(-1).float()
        return activate(x, affine, segments, rate, extra=extra, alpha=flat)
