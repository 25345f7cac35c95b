"""The excitation and the two short Fourier transforms around the generator, on packed samples.

24 kHz; a frame of 25 ms is 600 samples, the pitch has two values a frame, a spectrum is taken every
5 samples over 20. Everything here is float32, the running phase float64.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiomamba.training.speech.kokoro.segments import Segments

__all__ = ["Source", "analyse", "resample_16k", "synthesise"]

RATE = 24_000  # Hz
FRAME = 600  # samples
HARMONICS = 9
BINS, HOP, WINDOW = 11, 5, 20
VOICED_HZ = 10.0


class Source(nn.Module):
    """A mixture of sines at the pitch's harmonics, with noise; noise alone where unvoiced."""

    def __init__(self) -> None:
        super().__init__()
        self.l_linear = nn.Linear(HARMONICS, 1)

    def forward(self, f0: Tensor, segments: Segments, *, noise: bool) -> Tensor:
        """Pitch in Hz, ``(2 total,)``, zero in the gaps; to samples ``(600 total,)``."""
        harmonic = torch.arange(1, HARMONICS + 1, device=f0.device)[:, None]
        step = (f0 * harmonic / RATE) % 1.0  # turns a sample, (9, 2 total)
        phase = torch.cumsum(step.double(), 1) * (FRAME // 2)
        starts = segments.starts.long() * 2
        # Each utterance begins at phase 0, and holds its first phase for half a pitch frame.
        before = torch.zeros_like(f0, dtype=torch.long)
        before[starts - 1] = starts
        before = before.cummax(0).values
        origin = torch.cat([phase.new_zeros(HARMONICS, 1), phase], 1).gather(
            1, before.expand(HARMONICS, -1)
        )
        phase = phase - origin
        phase[:, starts - 1] = phase[:, starts]
        weight = (torch.arange(FRAME // 2, device=f0.device) + 0.5) / (FRAME // 2)
        voiced = (f0 > VOICED_HZ).float().repeat_interleave(FRAME // 2)
        rise = (phase[:, 1:] - phase[:, :-1]).float()
        base = (phase[:, :-1] % 1.0).float()
        mix = self.l_linear.weight[0]
        wave = torch.zeros_like(voiced)
        inner = wave[FRAME // 4 : -FRAME // 4].view(-1, FRAME // 2)
        for k in range(HARMONICS):
            turns = torch.addcmul(base[k, :, None], rise[k, :, None], weight)
            inner.addcmul_(torch.sin_(turns.mul_(2 * math.pi)), mix[k] * 0.1)
        wave *= voiced
        if noise:
            # Nine independent noises, mixed: one noise of the weights' norm.
            level = (0.003 * voiced + (1 - voiced) * (0.1 / 3)) * torch.linalg.vector_norm(mix)
            wave.addcmul_(torch.randn_like(wave), level)
        return torch.tanh(wave + self.l_linear.bias)


def _mirror(wave: Tensor, segments: Segments) -> Tensor:
    """Reflect ten samples at both ends of every utterance into the gaps, in place."""
    k = torch.arange(1, WINDOW // 2 + 1, device=wave.device)
    start = segments.starts.long()[:, None] * FRAME
    last = start + segments.frames.long()[:, None] * FRAME - 1
    wave[start - k] = wave[start + k]
    wave[last + k] = wave[last - k]
    return wave


def analyse(wave: Tensor, window: Tensor, segments: Segments) -> Tensor:
    """Magnitudes and angles of a spectrum every 5 samples, ``(120 total, 22)`` float32."""
    half = WINDOW // 2
    padded = F.pad(_mirror(wave, segments), (half, half - HOP))
    spectrum = torch.fft.rfft(padded.unfold(0, WINDOW, HOP) * window)
    return torch.cat([spectrum.abs(), spectrum.angle()], 1)


def synthesise(x: Tensor, window: Tensor) -> Tensor:
    """Log magnitudes and phases ``(120 total, >= 22)``, zero-sum in the gaps, to samples.

    Overlap-add with the inner constant of the squared windows, 1.5: only an utterance's outermost
    ten samples, where fewer windows overlap, come out softer.
    """
    x = x.float()
    spectrum = torch.polar(torch.exp(x[:, :BINS].clamp(max=10)), torch.sin(x[:, BINS : 2 * BINS]))
    frames = (torch.fft.irfft(spectrum, WINDOW) * (window / 1.5)).view(-1, WINDOW // HOP, HOP)
    blocks = F.pad(frames[:, 0], (0, 0, 0, 3))
    for k in range(1, WINDOW // HOP):
        blocks[k : k + len(frames)] += frames[:, k]
    return blocks.reshape(-1)[WINDOW // 2 : WINDOW // 2 + len(frames) * HOP]


def _resampler(taps: int, device: torch.device) -> Tensor:
    """Two phases of a windowed sinc at 7.4 kHz, ``(2, 1, 2 taps + 3)``, for 24 to 16 kHz."""
    position = torch.arange(-taps, taps + 3, dtype=torch.float64, device=device)
    at = torch.stack([position, position - 1.5])  # output k lies at input 1.5 k
    cutoff = 2 * 7_400 / RATE
    kaiser = torch.where(
        at.abs() <= taps,
        torch.special.i0(8.0 * torch.sqrt((1 - (at / taps) ** 2).clamp(min=0)))
        / torch.special.i0(torch.tensor(8.0, dtype=torch.float64)).item(),
        0.0,
    )
    return (cutoff * torch.sinc(cutoff * at) * kaiser).float()[:, None]


def resample_16k(wave: Tensor, taps: int = 48) -> Tensor:
    """24 kHz samples ``(S,)`` to int16 at 16 kHz, ``(2 S / 3,)``; S is a multiple of 3."""
    kernel = _resampler(taps, wave.device)
    phases = F.conv1d(F.pad(wave, (taps, taps))[None, None], kernel, stride=3)[0]  # (2, S / 3)
    samples = phases.t().reshape(-1)[: len(wave) // 3 * 2]
    return (samples * 32_767).round_().clamp_(-32_768, 32_767).to(torch.int16)
