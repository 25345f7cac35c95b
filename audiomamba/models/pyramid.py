"""From samples to frames of the encoder: filters, their logarithm, and slower and slower rates.

The first convolution begins as a bank of gammatone filters and is learned from there. Each filter
is a pair in quadrature, so that its amplitude is there at any moment, without rectifying and
smoothing; its logarithm is what makes the network indifferent to level. Each rate then has a stack
of layers with the dynamics that its configuration names, and a strided convolution to the next.

Everything keeps the past alone, and no value decides what is computed: a stream may be cut between
any two frames of the encoder, and training replays it as a graph.

Source: Patterson et al., "An efficient auditory filterbank based on the gammatone function", 1987;
Glasberg and Moore, "Derivation of auditory filter shapes from notched-noise data", 1990.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from audiomamba.audio.mel import MelConfig
from audiomamba.errors import ShapeError
from audiomamba.models.transcriber_config import FACTOR, PyramidConfig
from audiomamba.nn import Stack, StackConfig, StackState

__all__ = ["Filters", "Pyramid", "PyramidState", "Shrink", "gammatone"]

ORDER = 4  # of the gammatone
REST = 3.0  # what is taken off the logarithms at the start: about their mean over speech


class PyramidState(NamedTuple):
    samples: Tensor  # (B, taps - stride): the last samples
    stacks: tuple[StackState, ...]  # of each rate
    groups: tuple[Tensor, ...]  # (B, stride * width) of each rate: the last frames it handed on


def gammatone(
    filters: int, taps: int, sample_rate: int, low_hz: float, high_hz: float
) -> tuple[Tensor, Tensor]:
    """Filters evenly spaced on the ear's scale, and what makes their gain 1 at their centre.

    Returns:
        ``(2, filters, taps)``, in phase and in quadrature, the newest sample's tap last and the
        largest tap about 1; ``(filters,)`` factors.
    """

    def erbs(hz: float) -> float:
        return 21.4 * math.log10(1 + 0.00437 * hz)

    places = torch.linspace(erbs(low_hz), erbs(high_hz), filters, dtype=torch.float64)
    centres = (10 ** (places / 21.4) - 1) / 0.00437
    widths = 1.019 * 24.7 * (0.00437 * centres + 1)  # Hz
    ago = torch.arange(taps - 1, -1, -1, dtype=torch.float64) / sample_rate  # s
    turns = 2 * math.pi * ago
    envelopes = ago ** (ORDER - 1) * torch.exp(-turns * widths[:, None])
    envelopes /= envelopes.amax(1, keepdim=True).clamp(min=1e-300)
    phases = turns * centres[:, None]
    pair = torch.stack([torch.cos(phases), torch.sin(phases)]) * envelopes
    gain = 2 / envelopes.sum(1).clamp(min=1e-300)  # half of a tone lies at negative frequencies
    return pair.float(), gain.float()


class _LogAmplitude(torch.autograd.Function):
    """``log(1 + c² + s²) / 2`` of pairs ``(B, 2, filters, T)``.

    Its gradient is the pair over ``1 + c² + s²``: three passes over memory, where autograd's own
    way through squares and sums takes twice as many, at the fastest rate there is.
    """

    @staticmethod
    def forward(ctx: Any, pairs: Tensor) -> Tensor:
        power = pairs[:, 0].square().addcmul_(pairs[:, 1], pairs[:, 1])
        ctx.save_for_backward(pairs, power)
        return torch.log1p(power).mul_(0.5)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        pairs, power = ctx.saved_tensors
        gradient: Tensor = pairs * (dy / (1 + power))[:, None]
        return gradient


class Filters(nn.Module):
    """Samples to logarithms of filters' amplitudes, ``filters`` a frame of ``stride`` samples."""

    gain: Tensor

    def __init__(self, config: PyramidConfig, sample_rate: int) -> None:
        super().__init__()
        filters, self.stride = config.stages[0].width, config.stages[0].stride
        pair, gain = gammatone(filters, config.taps, sample_rate, config.low_hz, config.high_hz)
        # Taps of about 1 with a fixed gain: an optimiser's step is as large for all parameters.
        self.taps = nn.Parameter(pair)
        self.register_buffer("gain", gain / config.floor)
        self.rest = nn.Parameter(torch.full((filters,), REST))

    def forward(self, samples: Tensor) -> Tensor:
        """``samples (B, taps - stride + S)``, the past first, to ``(B, S / stride, filters)``."""
        # Rounded to bf16, loud low tones would drown what is quiet and high.
        with torch.autocast(samples.device.type, enabled=False):
            # As many channels as the stride: libraries have no fast kernel for a single one.
            kernel = (self.taps.float() * self.gain[:, None]).flatten(0, 1)
            kernel = kernel.unflatten(1, (-1, self.stride)).transpose(1, 2)
            pairs = F.conv1d(samples.unflatten(1, (-1, self.stride)).transpose(1, 2), kernel)
            logs: Tensor = _LogAmplitude.apply(pairs.unflatten(1, (2, -1)))  # 0 in silence
            return logs.transpose(1, 2) - self.rest


class Shrink(nn.Module):
    """A strided causal convolution: a group of frames and the group before it become one frame.

    It begins as each channel's mean over the group, plus what is drawn at random.
    """

    def __init__(self, width: int, stride: int, out: int) -> None:
        super().__init__()
        self.size = stride * width
        self.group = nn.Linear(self.size, out)
        self.before = nn.Linear(self.size, out, bias=False)
        with torch.no_grad():
            own = self.group.weight.view(out, stride, width).diagonal(dim1=0, dim2=2)
            own.add_(1 / stride)

    def forward(self, x: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
        """``x (B, n * stride, width)``, n >= 1, and the group before it, ``(B, size)``."""
        groups = x.reshape(len(x), -1, self.size)
        earlier = torch.cat([self.before(last.to(x.dtype))[:, None], self.before(groups)], 1)
        return self.group(groups) + earlier[:, :-1], groups[:, -1].float()


class Pyramid(nn.Module):
    """Frames of samples ``(B, 4 T, hop)`` to encoder frames ``(B, T, width)``."""

    def __init__(self, config: PyramidConfig, mel: MelConfig, width: int, eps: float) -> None:
        super().__init__()
        self.hop, self.width = mel.hop, width
        self.past = config.taps - config.stages[0].stride
        self.filters = Filters(config, mel.sample_rate)
        self.stacks = nn.ModuleList(
            Stack(
                StackConfig(
                    width=stage.width, layers=stage.layers, dropout=config.dropout, norm_eps=eps
                )
            )
            for stage in config.stages
        )
        widths = [*(stage.width for stage in config.stages), width]
        strides = [stage.stride for stage in config.stages[1:]]
        strides.append(FACTOR * mel.hop // config.stride)
        self.sizes = [stride * narrow for stride, narrow in zip(strides, widths, strict=False)]
        self.shrinks = nn.ModuleList(
            Shrink(narrow, stride, wide)
            for narrow, stride, wide in zip(widths, strides, widths[1:], strict=False)
        )

    def init_state(
        self, batch: int, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
    ) -> PyramidState:
        """The state before the first frame of ``batch`` streams."""
        return PyramidState(
            torch.zeros(batch, self.past, device=device, dtype=torch.float32),
            tuple(
                stack.init_state(batch, device=device, dtype=dtype)  # type: ignore[operator]
                for stack in self.stacks
            ),
            tuple(
                torch.zeros(batch, size, device=device, dtype=torch.float32) for size in self.sizes
            ),
        )

    def forward(
        self, features: Tensor, state: PyramidState | None = None
    ) -> tuple[Tensor, PyramidState]:
        """``features (B, 4 T, hop)``: samples in -1..1; any T >= 0.

        Raises:
            ShapeError: the frames are no multiple of 4, or not of so many samples.
        """
        B, frames, hop = features.shape
        if frames % FACTOR or hop != self.hop:
            raise ShapeError(
                f"pyramid: wants (B, n * {FACTOR}, {self.hop}), got {tuple(features.shape)}"
            )
        if frames == 0:
            empty = features.new_zeros(B, 0, self.width)
            return empty, state or self.init_state(B, device=features.device)
        start = state is None
        if state is None:
            state = self.init_state(B, device=features.device)
        samples = torch.cat([state.samples, features.float().flatten(1)], 1)
        x = self.filters(samples)
        stacks: list[StackState] = []
        groups: list[Tensor] = []
        for i, (stack, shrink) in enumerate(zip(self.stacks, self.shrinks, strict=True)):
            x, after = stack(x, None if start else state.stacks[i])
            x, last = shrink(x, state.groups[i])
            stacks.append(after)
            groups.append(last)
        tail = samples[:, samples.shape[1] - self.past :]
        return x, PyramidState(tail, tuple(stacks), tuple(groups))
