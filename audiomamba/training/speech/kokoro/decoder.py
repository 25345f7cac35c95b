"""From aligned phones, pitch and energy to the waveform, on packed rows (see ``segments``).

40 frames a second become 80, 800 and 4,800 rows of features, whose inverse Fourier transform is the
24 kHz wave. Nearly all of the model's time is spent at the last two rates.
"""

import torch
from torch import Tensor, nn

from audiomamba.training.speech.kokoro.layers import (
    AdaResBlock,
    Conv,
    ConvUp,
    SnakeBlock,
    pad_channels,
)
from audiomamba.training.speech.kokoro.segments import Segments, activate
from audiomamba.training.speech.kokoro.source import Source, analyse, synthesise

__all__ = ["Decoder"]


class Generator(nn.Module):
    """Excitation and features to samples."""

    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.m_source = Source()
        self.ups = nn.ModuleList([ConvUp(512, 256, 20, 10, 5), ConvUp(256, 128, 12, 6, 3)])
        self.noise_convs = nn.ModuleList(
            [Conv(22, 256, 12, stride=6, pad=3), Conv(22, 128, 1)],
        )
        self.noise_res = nn.ModuleList([SnakeBlock(256, 7), SnakeBlock(128, 11)])
        self.resblocks = nn.ModuleList(SnakeBlock(c, k) for c in (256, 128) for k in (3, 7, 11))
        self.conv_post = Conv(128, 22, 7)
        self.register_buffer("window", torch.hann_window(20, periodic=True), persistent=False)

    def forward(
        self, x: Tensor, style: Tensor, segments: Segments, f0: Tensor, *, noise: bool
    ) -> Tensor:
        """``(2 total, 512)`` to samples ``(600 total,)`` float32."""
        wave = self.m_source(f0, segments, noise=noise)
        harmonics = analyse(wave, self.window, segments).to(x.dtype)
        harmonics = pad_channels(harmonics)
        harmonics = activate(harmonics, None, segments, 120, extra=1, slope=1.0)
        rate, extra, slope, factor = 2, 0, 0.1, 1.0
        for i, times in enumerate((10, 6)):
            up = self.ups[i]
            assert isinstance(up, ConvUp), "a list of ConvUp"
            x = up(activate(x, None, segments, rate, extra=extra, slope=slope, factor=factor))
            rate *= times
            if i == 1:
                # The spectra are centred on their samples: one more than there are hops.
                x = x.roll(1, 0)
                starts = segments.starts.long() * rate
                x[starts] = x[starts + 2]
                extra = 1
            source = self.noise_convs[i](harmonics, add_bias=True)
            source = self.noise_res[i](source, style, segments, rate, extra)
            x = x.add_(source).add_(up.bias.to(x.dtype))
            blocks = self.resblocks[3 * i : 3 * i + 3]
            first, second, third = (block(x, style, segments, rate, extra) for block in blocks)
            x, factor = first.add_(second).add_(third), 1 / 3
        x = activate(x, None, segments, rate, extra=extra, slope=0.01, factor=factor)
        return synthesise(self._post(x, segments), self.window)

    def _post(self, x: Tensor, segments: Segments) -> Tensor:
        """Log magnitudes and phases, float32; silence in the gaps."""
        y = self.conv_post(x).float() + self.conv_post.bias.float()
        outside = segments.rows_owner(120, 1)[:, None] == len(segments.starts)
        return torch.where(outside, -30.0, y)


class Decoder(nn.Module):
    """Features at 40 and 80 Hz, then the generator."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = AdaResBlock(514, 1024)
        self.decode = nn.ModuleList(
            [AdaResBlock(1090, 1024) for _ in range(3)] + [AdaResBlock(1090, 512, up=True)]
        )
        self.F0_conv, self.N_conv = nn.Conv1d(1, 1, 3, 2, 1), nn.Conv1d(1, 1, 3, 2, 1)
        self.asr_res = nn.Sequential(Conv(512, 64, 1))
        self.generator = Generator()

    def forward(
        self,
        phones: Tensor,
        f0: Tensor,
        energy: Tensor,
        style: Tensor,
        segments: Segments,
        *,
        noise: bool = True,
    ) -> Tensor:
        """Speak a packed batch.

        Args:
            phones: Aligned phone features, ``(total, 512)``.
            f0: Pitch, ``(2 total,)`` Hz, zero in the gaps.
            energy: ``(2 total,)``, zero in the gaps.
            style: Timbre half of the voice, ``(S, 128)`` float32.
            segments: Layout of the batch.
            noise: False makes the source deterministic.

        Returns:
            ``(600 total,)`` float32 at 24 kHz, zero in the gaps.
        """
        dtype = self.encode.conv1.weight.dtype
        phones = phones.to(dtype)
        curves = [
            conv(curve[None, None])[0].t().to(dtype)
            for conv, curve in ((self.F0_conv, f0), (self.N_conv, energy))
        ]
        x = pad_channels(torch.cat([phones, *curves], 1))
        x = self.encode(x, style, segments, 1)
        context = self.asr_res[0](phones, add_bias=True)
        for block in self.decode:
            x = block(pad_channels(torch.cat([x, context, *curves], 1)), style, segments, 1)
        samples: Tensor = self.generator(x, style, segments, f0, noise=noise)
        return samples
