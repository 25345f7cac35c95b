"""Log-mel features of whole batches, for training: the same numbers as ``mel.StreamingMel``."""

from functools import lru_cache

import torch
from torch import Tensor

from audiomamba.audio.mel import MelConfig, mel_filterbank, window_function
from audiomamba.errors import ShapeError

__all__ = ["log_mel"]


@lru_cache(maxsize=8)
def _constants(config: MelConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    window = torch.from_numpy(window_function(config)).to(device)
    bank = torch.from_numpy(mel_filterbank(config).copy()).to(device)
    return window, bank.t().contiguous()


def log_mel(samples: Tensor, config: MelConfig) -> Tensor:
    """Features ``(B, 1 + (S - window) // hop, bins)`` of ``samples (B, S)`` float32.

    Raises:
        ShapeError: not two axes, or fewer samples than a window.
    """
    if samples.dim() != 2 or samples.shape[1] < config.window:
        raise ShapeError(
            f"log_mel: wants (B, S) with S >= {config.window}, got {tuple(samples.shape)}"
        )
    with torch.autocast(samples.device.type, enabled=False):
        window, bank = _constants(config, samples.device)
        frames = samples.float().unfold(1, config.window, config.hop) * window
        spectrum = torch.fft.rfft(frames, config.fft)
        power = spectrum.real.square() + spectrum.imag.square()
        return torch.matmul(power, bank).clamp_(min=config.floor).log_()
