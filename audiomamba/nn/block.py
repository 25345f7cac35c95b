"""One residual layer: a mixer and a feed-forward part, each behind an RMS norm."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiomamba.kernels.layer_step import LayerWeights, layer_step_, supports
from audiomamba.kernels.norm import norm
from audiomamba.nn.config import LayerConfig
from audiomamba.nn.feedforward import FeedForward, FeedForwardState
from audiomamba.nn.look_ahead import LookAhead
from audiomamba.nn.mamba3 import Mamba3Mixer
from audiomamba.nn.mixer import Mixer
from audiomamba.nn.ssd import SsdMixer
from audiomamba.nn.state import State

__all__ = ["Block", "BlockState", "Norm"]


class BlockState(NamedTuple):
    mixer: State  # MixerState or Mamba3State, as the dynamics are
    ffn: FeedForwardState
    ahead: Tensor | tuple[()]  # (B, 2 look_ahead, width); nothing where the layer is causal


class Norm(nn.Module):
    """RMS norm that first adds to the float32 residual stream (kernels.norm)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(
        self, x: Tensor, residual: Tensor | None, gain: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """``(norm(x + residual) in x's dtype, x + residual in float32)``.

        ``gain``, of a shape that broadcasts with x, scales the first by ``1 + gain``: a norm whose
        weight depends on what the stream is conditioned on.
        """
        y, residual = norm(x, self.weight, residual=residual, eps=self.eps)
        return (y if gain is None else y * (1 + gain).to(y.dtype)), residual


def _mixer(width: int, config: LayerConfig, eps: float) -> Mixer | SsdMixer | Mamba3Mixer:
    if config.dynamics == "ssd":
        return SsdMixer(width, config, eps=eps)
    if config.dynamics == "mamba3":
        return Mamba3Mixer(width, config, eps=eps)
    return Mixer(width, config)


class Block(nn.Module):
    """``r += x; x = mixer(norm(r)); r += x; x = ffn(norm(r))``.

    What a part adds travels beside the stream and is added by the next norm, in one pass over
    memory. Without a feed-forward part the block is exactly Mamba's. With ``look_ahead`` the stream
    is first delayed by so many frames, and each of them sees those that came in between.
    """

    def __init__(self, width: int, config: LayerConfig, *, dropout: float, eps: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.has_ahead = config.look_ahead > 0
        if self.has_ahead:
            self.ahead = LookAhead(width, config.look_ahead)
        self.norm = Norm(width, eps)
        self.mixer = _mixer(width, config, eps)
        self.has_ffn = config.ffn > 0
        if self.has_ffn:
            self.ffn_norm = Norm(width, eps)
            self.ffn = FeedForward(width, round(config.ffn * width), config.ffn_conv_taps)

    def init_state(
        self, batch: int, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
    ) -> BlockState:
        """The state before the first frame of ``batch`` streams."""
        ffn = self.ffn.init_state(batch, device=device, dtype=dtype) if self.has_ffn else ()
        ahead = self.ahead.init_state(batch, device=device) if self.has_ahead else ()
        return BlockState(self.mixer.init_state(batch, device=device, dtype=dtype), ffn, ahead)

    def forward(
        self,
        x: Tensor,
        residual: Tensor | None,
        state: BlockState | None = None,
        *,
        resets: Tensor | None = None,
        gain: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, BlockState]:
        """``x (B, T, width)`` and the stream it is to be added to; both after the block.

        ``gain (B, 1, width)`` conditions the norms.
        """
        ahead: Tensor | tuple[()] = ()
        if self.has_ahead:
            stream = x.float() if residual is None else residual + x
            past = None if state is None else state.ahead
            residual, ahead = self.ahead(stream, past, resets=resets)
            x = torch.zeros_like(x)  # it is in the stream already; what it keeps is its dtype
        y, residual = self.norm(x, residual, gain)
        x, mixer = self.mixer(y, None if state is None else state.mixer, resets=resets)
        x = F.dropout(x, self.dropout, self.training)
        ffn: FeedForwardState = ()
        if self.has_ffn:
            y, residual = self.ffn_norm(x, residual, gain)
            x, ffn = self.ffn(y, None if state is None else state.ffn, resets=resets)
            x = F.dropout(x, self.dropout, self.training)
        return x, residual, BlockState(mixer, ffn, ahead)

    def step_(
        self,
        x: Tensor,
        residual: Tensor | None,
        pool: BlockState,
        slots: Tensor,
        *,
        gain: Tensor | None = None,
        fused: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """One frame of every row, ``x (M, width)``; rows ``slots`` of ``pool`` advance in place.

        ``fused`` takes norm and mixer in three or four launches (``kernels.layer_step``) where that
        is possible, and where not, part by part like all else: see ``_fused``.
        """
        if self.has_ahead:
            stream = x.float() if residual is None else residual + x
            residual = self.ahead.step_(stream, pool.ahead, slots)  # type: ignore[arg-type]
            x = torch.zeros_like(x)
        weights = self._fused(x) if fused and gain is None else None
        if weights is None:
            y, residual = self.norm(x, residual, gain)
            x = self.mixer.step_(y, pool.mixer, slots)
        else:
            x, residual = layer_step_(
                x, residual, weights, pool.mixer, slots, eps=self.norm.eps, implementation="gpu"
            )
        if self.has_ffn:
            y, residual = self.ffn_norm(x, residual, gain)
            x = self.ffn.step_(y, pool.ffn, slots)
        return x, residual

    def _fused(self, x: Tensor) -> LayerWeights | None:
        """Weights for the step of norm and mixer at once, or None: it is for selective dynamics, a
        GPU, few rows, and weights as narrow as x, outside a compiled graph."""
        weights = (
            self.mixer.layer_weights(self.norm.weight) if isinstance(self.mixer, Mixer) else None
        )
        return weights if weights is not None and supports(x, weights) else None
