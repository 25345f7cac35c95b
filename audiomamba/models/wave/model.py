"""An autoregressive model of raw waveforms: mu-law samples in, logits of the next sample out."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from audiomamba.audio.mulaw import CLASSES
from audiomamba.errors import ShapeError
from audiomamba.models.wave.config import WaveConfig
from audiomamba.models.wave.rates import Gains, Rate, RateState, spread
from audiomamba.nn import Norm, gather, map_state, scatter_

__all__ = ["NOBODY", "Wave", "WaveState"]

NOBODY = -1
"""In the place of a label or a speaker: none."""


class WaveState(NamedTuple):
    position: Tensor  # (B, 1) float32: samples since the start, modulo the period
    condition: Tensor  # (B, condition_size): what label and speaker make of the network
    net: RateState


class Conditioning(nn.Module):
    """From a label and a speaker to an offset of the samples' embedding and gains of the norms.

    Nothing asked for is the zero vector, and zeros change nothing: a stream without a condition is
    the network as it is.
    """

    def __init__(self, config: WaveConfig) -> None:
        super().__init__()
        width = config.condition_width
        self.label = nn.Embedding(max(1, config.label_rows), width)
        self.speaker = nn.Embedding(max(1, len(config.speakers)), width)
        self.out = nn.Linear(width, config.condition_size, bias=False)
        nn.init.normal_(self.out.weight, std=0.02)

    def forward(self, labels: Tensor, speakers: Tensor) -> Tensor:
        vector = self.label(labels.clamp(min=0)) * (labels >= 0)[..., None]
        speaker = self.speaker(speakers.clamp(min=0)) * (speakers >= 0)[:, None]
        vector = vector + (speaker if labels.dim() == 1 else speaker[:, None])
        return self.out(vector).float()  # type: ignore[no-any-return]


class Wave(nn.Module):
    """Embedding, multi-rate network, norm and a linear head over 256 classes; purely causal.

    Output t is about sample t + 1. Whole sequences, any chunking of them and single samples give
    the same numbers; streams of one batch may be at different phases of the pools.
    """

    def __init__(self, config: WaveConfig) -> None:
        super().__init__()
        self.config = config
        width = config.stages[0].width
        self.embedding = nn.Embedding(CLASSES, width)
        if config.is_conditional:
            self.conditioning = Conditioning(config)
        self.net = Rate(config)
        self.norm = Norm(width, config.norm_eps)
        self.head = nn.Linear(width, CLASSES)

    def init_state(
        self, batch: int, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
    ) -> WaveState:
        """The state before the first sample of ``batch`` streams, nothing asked for."""
        return WaveState(
            torch.zeros(batch, 1, device=device),
            torch.zeros(batch, self.config.condition_size, device=device),
            self.net.init_state(batch, device, dtype),
        )

    def condition(self, labels: Tensor, speakers: Tensor) -> Tensor:
        """Conditions ``(B, condition_size)`` of ids ``(B,)`` int64, ``NOBODY`` for none.

        ``labels`` are rows of the table of labels (``config.label_rows``). Of ``(B, N)``, one a
        period, the conditions are ``(B, N, condition_size)``.
        """
        if not self.config.is_conditional:
            return torch.zeros(*labels.shape, 0, device=labels.device)
        return self.conditioning(labels, speakers)  # type: ignore[no-any-return]

    def forward(
        self,
        codes: Tensor,
        state: WaveState | None = None,
        *,
        condition: Tensor | None = None,
        position: int | None = None,
    ) -> tuple[Tensor, WaveState]:
        """Logits ``(B, T, 256)`` of the samples after ``codes (B, T)``, int64, any T.

        Args:
            codes: Classes of samples.
            state: Before them; None at the start.
            condition: ``(B, condition_size)`` from now on; None keeps what the state has. Or ``(B,
                N, condition_size)``, one for each of the N periods that ``codes`` reach into: a
                condition changes where a period of the pools begins.
            position: Samples since the start, modulo the period, where the caller knows that all
                rows are there; None asks the state, which waits for the device.
        """
        if state is None:
            return self._run(codes, None, condition, 0)
        if position is not None:
            return self._run(codes, state, condition, position)
        places = self._places(state.position).tolist()
        if len(set(places)) <= 1:
            return self._run(codes, state, condition, places[0] if places else 0)
        return self._run_apart(codes, state, condition, places)

    def step_(
        self, codes: Tensor, pool: WaveState, slots: Tensor, *, whole: int | None = None
    ) -> Tensor:
        """``codes (M, T)`` to logits ``(M, T, 256)``; rows ``slots`` of ``pool`` advance in place.

        ``whole``: pools whose group ends with this sample in all rows, where the caller knows (of
        a position p counted from 1, as many leading pools as have their product divide p).
        """
        if codes.shape[1] != 1:
            logits, state = self.forward(codes, gather(pool, slots))
            scatter_(pool, slots, state)
            return logits
        position = self._places(pool.position[slots])
        condition = pool.condition[slots] if self.config.is_conditional else None
        x = self.embedding(codes)[:, 0]
        if condition is not None:
            x = x + condition[:, : x.shape[-1]]
        x, residual = self.net.step_(x, pool.net, slots, condition, position, whole)
        after = (position + 1) % self.config.period
        pool.position[slots] = after[:, None].to(pool.position.dtype)
        return self.head(self.norm(x, residual)[0])[:, None]  # type: ignore[no-any-return]

    def _places(self, position: Tensor) -> Tensor:
        """Whole positions ``(B,)``; in range whatever lies in the null slot."""
        return position[:, 0].long() % self.config.period

    def _run(
        self, codes: Tensor, state: WaveState | None, condition: Tensor | None, position: int
    ) -> tuple[Tensor, WaveState]:
        B, T = codes.shape
        offset, gains, last = self._conditioned(state, condition, position, B, T)
        x = self.embedding(codes)
        if offset is not None:
            x = x + offset
        x, residual, net = self.net(x, None if state is None else state.net, gains, position)
        after = torch.full((B, 1), float((position + T) % self.config.period), device=x.device)
        if last is None:
            last = torch.zeros(B, self.config.condition_size, device=x.device)
        return self.head(self.norm(x, residual)[0]), WaveState(after, last, net)

    def _conditioned(
        self, state: WaveState | None, condition: Tensor | None, position: int, B: int, T: int
    ) -> tuple[Tensor | None, Gains | None, Tensor | None]:
        """Offset of the embedding, gains of the blocks, and the condition that is left."""
        if condition is None and state is not None:
            condition = state.condition
        if condition is None or not self.config.is_conditional:
            return None, None, None
        if condition.dim() == 2:
            condition = condition[:, None]
        else:
            periods = -(-(position + T) // self.config.period)
            if condition.shape[1] != periods or not periods:
                raise ShapeError(
                    f"wave: condition of {T} samples from place {position} of a period of "
                    f"{self.config.period} must be of {periods} periods, got {condition.shape[1]}"
                )
        offset, *gains = condition.split(self.config.condition_widths, -1)
        return spread(offset, self.config.period, position, T), gains, condition[:, -1]

    def _run_apart(
        self, codes: Tensor, state: WaveState, condition: Tensor | None, places: list[int]
    ) -> tuple[Tensor, WaveState]:
        """Rows at different phases: those of a phase together."""
        order: list[int] = []
        logits: list[Tensor] = []
        states: list[WaveState] = []
        for place in sorted(set(places)):
            rows = [row for row, at in enumerate(places) if at == place]
            index = torch.tensor(rows, device=codes.device)
            own = None if condition is None else condition[index]
            if own is not None and own.dim() == 3:  # rows that are not as far reach fewer periods
                own = own[:, : -(-(place + codes.shape[1]) // self.config.period)]
            out, after = self._run(codes[index], gather(state, index), own, place)
            order += rows
            logits.append(out)
            states.append(after)
        back = torch.tensor(order, device=codes.device).argsort()
        joined: WaveState = map_state(lambda *parts: torch.cat(parts)[back], *states)
        return torch.cat(logits)[back], joined
