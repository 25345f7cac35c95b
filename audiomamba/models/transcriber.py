"""The streaming transcriber: features to probabilities of word pieces, frame by frame."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiomamba.models.pyramid import Pyramid, PyramidState
from audiomamba.models.subsample import Subsampler, SubsamplerState
from audiomamba.models.transcriber_config import TranscriberConfig
from audiomamba.nn import Norm, Stack, StackState, gather, scatter_

__all__ = ["Transcriber", "TranscriberConfig", "TranscriberOutput", "TranscriberState"]


class TranscriberOutput(NamedTuple):
    """Logits a frame of 40 ms; those of the training heads are None where there is no such head."""

    logits: Tensor  # (B, T, vocabulary)
    inter_logits: Tensor | None  # (B, T, vocabulary)
    phone_logits: Tensor | None  # (B, T, phones)
    activity: Tensor | None  # (B, T)
    ends: Tensor | None = None  # (B, T, ends)


class TranscriberState(NamedTuple):
    subsample: SubsamplerState | PyramidState
    stack: StackState


class TapHead(nn.Module):
    """Norm and linear map of the residual stream inside the stack."""

    def __init__(self, width: int, classes: int, eps: float) -> None:
        super().__init__()
        self.norm = Norm(width, eps)
        self.out = nn.Linear(width, classes)

    def forward(self, residual: Tensor) -> Tensor:
        y, _ = self.norm(residual, None)
        return self.out(y)  # type: ignore[no-any-return]


class Transcriber(nn.Module):
    """Subsampling, a stack of LTI and selective layers, and CTC heads.

    What is subsampled are log-mel features, or with ``front_end="waveform"`` the samples.

    Complex LTI layers with local convolutions come first, selective ones once the signal is
    compressed. Latency is a choice: layers with ``look_ahead`` make the stream late and see what
    came in between; without them the network is causal and writes as early as CTC lets it, which is
    about where a word ends.
    """

    mel_mean: Tensor
    mel_scale: Tensor
    subsample: Subsampler | Pyramid

    def __init__(self, config: TranscriberConfig) -> None:
        super().__init__()
        self.config = config
        width, eps = config.stack.width, config.stack.norm_eps
        if config.front_end == "waveform":
            self.subsample = Pyramid(config.pyramid, config.mel, width, eps)
        else:
            first, second = config.subsample_channels
            self.register_buffer("mel_mean", torch.zeros(config.mel.bins))
            self.register_buffer("mel_scale", torch.ones(config.mel.bins))
            self.subsample = Subsampler(config.mel.bins, width, (first, second))
        self.stack = Stack(config.stack)
        self.out = nn.Linear(width, config.vocabulary)
        if config.inter_layer:
            self.inter = TapHead(width, config.vocabulary, eps)
        if config.phone_layer:
            self.phone = TapHead(width, config.phones, eps)
        if config.activity:
            self.active = nn.Linear(width, 1)
        if config.ends:
            self.ends = nn.Linear(width, len(config.ends))

    def set_feature_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Fix the normalisation of log-mel: mean and deviation a bin, ``(bins,)`` each."""
        self.mel_mean.copy_(mean)
        self.mel_scale.copy_(1.0 / std)

    def init_state(
        self, batch: int, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
    ) -> TranscriberState:
        """The state before the first frame of ``batch`` streams."""
        return TranscriberState(
            self.subsample.init_state(batch, device=device, dtype=dtype),
            self.stack.init_state(batch, device=device, dtype=dtype),
        )

    def forward(
        self, features: Tensor, state: TranscriberState | None = None
    ) -> tuple[TranscriberOutput, TranscriberState]:
        """All heads over ``features (B, 4 T, bins)``, as the front end makes them."""
        x, subsampled = self._subsample(features, None if state is None else state.subsample)
        c = self.config
        taps = sorted({layer for layer in (c.inter_layer, c.phone_layer) if layer})
        y, tapped, stack = self.stack.forward_with_taps(
            x, None if state is None else state.stack, taps=taps
        )
        stream = dict(zip(taps, tapped, strict=True))
        out = TranscriberOutput(
            self.out(y),
            self.inter(stream[c.inter_layer]) if c.inter_layer else None,
            self.phone(stream[c.phone_layer]) if c.phone_layer else None,
            self.active(y)[..., 0] if c.activity else None,
            self.ends(y) if c.ends else None,
        )
        return out, TranscriberState(subsampled, stack)

    def transcribe(
        self, features: Tensor, state: TranscriberState
    ) -> tuple[Tensor, TranscriberState]:
        """The logits of pieces and of ends, ``(B, T, outputs)``: what recognition needs."""
        y, state = self.encode(features, state)
        return self._outputs(y), state

    def log_probs(self, logits: Tensor) -> Tensor:
        """Logarithms of the probabilities that ``logits (..., outputs)`` mean, in float32.

        Those of the pieces are of one choice; each of ``ends`` is one of its own, yes or no.
        """
        logits = logits.float()
        if not self.config.ends:
            return F.log_softmax(logits, -1)
        pieces, ends = logits.split([self.config.vocabulary, len(self.config.ends)], -1)
        return torch.cat([F.log_softmax(pieces, -1), F.logsigmoid(ends)], -1)

    def encode(
        self, features: Tensor, state: TranscriberState | None = None
    ) -> tuple[Tensor, TranscriberState]:
        """What the last heads read, ``(B, T, width)``: their input, for heads trained apart."""
        x, subsampled = self._subsample(features, None if state is None else state.subsample)
        y, stack = self.stack(x, None if state is None else state.stack)
        return y, TranscriberState(subsampled, stack)

    def step_(self, features: Tensor, pool: TranscriberState, slots: Tensor) -> Tensor:
        """Logits ``(M, T, outputs)`` of ``features (M, 4 T, bins)``; rows ``slots`` advance."""
        x, subsampled = self._subsample(features, gather(pool.subsample, slots))
        scatter_(pool.subsample, slots, subsampled)
        return self._outputs(self.stack.step_(x, pool.stack, slots))

    def _outputs(self, y: Tensor) -> Tensor:
        pieces: Tensor = self.out(y)
        return torch.cat([pieces, self.ends(y)], -1) if self.config.ends else pieces

    def _subsample(
        self, features: Tensor, state: SubsamplerState | PyramidState | None
    ) -> tuple[Tensor, SubsamplerState | PyramidState]:
        if self.config.front_end == "mel":
            features = (features - self.mel_mean) * self.mel_scale
        out: tuple[Tensor, SubsamplerState | PyramidState] = self.subsample(features, state)
        return out
