"""Rows cut out of recordings, on the device from the first step to the last.

All recordings lie one behind the other in one tensor of classes; a batch is one gather. A row goes
on in its recording over ``carry`` steps, so that the state can be handed on (truncated
backpropagation through time). What is not recording is silence, of which the part right after the
recording counts (``tail_weight``): a model that is to fall silent must have learnt it.

With one label state a label is told for a whole row. With more the rows of the table of labels
change where words do (marks.py), and labels are dropped of strings alone: what ends in silence is
one word that was asked for, and nothing asked for goes on without end.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from audiomamba.audio.mulaw import CLASSES, SILENCE, expand
from audiomamba.errors import ConfigError
from audiomamba.models.wave.model import NOBODY
from audiomamba.training.wave.config import WaveDataConfig
from audiomamba.training.wave.marks import Marks
from audiomamba.training.wave.splices import spliced
from audiomamba.training.wave.takes import Take, numbers

__all__ = ["Crops", "WaveBatch", "compand_on_device"]

_FROM_START = 0.1  # share of the rows of long recordings that begin where the recording does
_TAPS = 16  # of the interpolation that changes speed
_MU = CLASSES - 1


class WaveBatch(NamedTuple):
    """What one step trains on; ``fresh`` where its rows begin anew."""

    inputs: Tensor  # (B, T) int64: the sample before each target
    targets: Tensor  # (B, T) int64
    counted: Tensor  # (B, T) float32: how much the target counts, 0 to 1
    labels: Tensor  # (B,) int64, NOBODY where not told; with more label states (B, N), one a period
    speakers: Tensor  # (B,) int64
    fresh: bool
    seconds: float

    def tensors(self) -> list[Tensor]:
        """All of it that may lie on the device."""
        return list(self[:5])


def compand_on_device(samples: Tensor) -> Tensor:
    """:func:`audiomamba.audio.mulaw.compand` of a tensor, int64."""
    x = samples.clamp(-1, 1)
    y = x.sign() * torch.log1p(_MU * x.abs()) / math.log1p(_MU)
    return torch.floor((y + 1) * (_MU / 2) + 0.5).long()


class Crops:
    """Batches by number, the same for the same number.

    Args:
        takes: Recordings; those held out are left out.
        data: How rows are cut.
        labels: The model's, in its order.
        speakers: The model's, in its order.
        sample_rate: Hz.
        label_states: Of the model.
        period: Of the model.
        device: Where the recordings lie and batches are made.
        seed: Of all that is drawn.

    Raises:
        ConfigError: there is no recording to train on.
    """

    def __init__(
        self,
        takes: Sequence[Take],
        data: WaveDataConfig,
        *,
        labels: Sequence[str],
        speakers: Sequence[str],
        sample_rate: int,
        label_states: int = 1,
        period: int = 1,
        device: torch.device,
        seed: int = 0,
    ) -> None:
        own = [take for take in takes if not take.held_out and len(take.codes)]
        if not own:
            raise ConfigError(
                "data: no recording to train on; give data.manifests, corpora or made"
            )
        self._data, self._rate, self._device, self._seed = data, sample_rate, device, seed
        self._codes = torch.cat([torch.from_numpy(take.codes) for take in own]).to(device)
        sizes = torch.tensor([len(take.codes) for take in own])
        self._sizes, self._starts = sizes, sizes.cumsum(0) - sizes
        self._labels = numbers([take.label for take in own], labels)
        self._period = period
        self._marks: Marks | None = None
        self._droppable = torch.ones(len(own), dtype=torch.bool)
        if label_states > 1:
            self._marks = Marks(
                own, labels=labels, states=label_states, period=period, device=device
            )
            self._droppable = torch.tensor([take.label is None for take in own])
        self._speakers = numbers([take.speaker for take in own], speakers)
        self._levels = torch.from_numpy(expand(np.arange(CLASSES, dtype=np.uint8))).to(device)
        # As often as it holds whole rows, so that long recordings are heard evenly.
        self._weights = (sizes / (data.length * data.carry)).clamp(min=1.0)
        self._weights *= torch.tensor([take.weight for take in own])

    def batch(self, number: int) -> WaveBatch:
        """Batch ``number``, from 0."""
        data, B = self._data, self._data.batch
        sequence, part = divmod(number, data.carry)
        draw = torch.Generator().manual_seed(self._seed * 1_000_003 + sequence)
        rows = torch.multinomial(self._weights, B, replacement=True, generator=draw)
        chance = torch.rand(B, 6, generator=draw)
        span, sizes = data.length * data.carry, self._sizes[rows]
        # Half of the rows begin at once, as what is generated does.
        lead = (2 * chance[:, 0] - 1).clamp(min=0) * data.lead_s * self._rate
        inside = chance[:, 0] * (sizes - span)
        within = (sizes > span) & (chance[:, 5] >= _FROM_START)
        begin = torch.where(within, inside, -lead).long() + part * data.length
        speed = 1 + data.speed * (2 * chance[:, 1] - 1)
        gain = 10 ** (data.gain_db * (2 * chance[:, 2] - 1) / 20)
        dropped = (chance[:, 3] < data.drop_label) & self._droppable[rows]
        labels = torch.where(dropped, NOBODY, self._labels[rows])
        speakers = torch.where(chance[:, 4] < data.drop_speaker, NOBODY, self._speakers[rows])
        batch = self._gather(rows, begin, speed, gain, labels, speakers, part == 0, draw)
        if self._marks is None:
            return batch
        rows, begin, speed, dropped = (
            t.to(self._device, non_blocking=True) for t in (rows, begin, speed, dropped)
        )
        marked = self._marks.rows(rows, begin, speed, data.length // self._period)
        return batch._replace(labels=torch.where(dropped[:, None], NOBODY, marked))

    def _gather(
        self,
        rows: Tensor,
        begin: Tensor,
        speed: Tensor,
        gain: Tensor,
        labels: Tensor,
        speakers: Tensor,
        fresh: bool,
        draw: torch.Generator,
    ) -> WaveBatch:
        data = self._data
        starts, sizes, begin, speed, gain, labels, speakers = (
            t.to(self._device, non_blocking=True)
            for t in (self._starts[rows], self._sizes[rows], begin, speed, gain, labels, speakers)
        )
        steps = torch.arange(-1, data.length, device=self._device)
        if data.speed or data.gain_db:
            # float64: of a long recording float32 would miss the sample.
            at = (begin[:, None] + steps).double() * speed[:, None]
            sound = gain[:, None] * self._sound(starts, sizes, at)
            place = at
        else:
            place = begin[:, None] + steps
            sound = self._levels[self._classes(starts, sizes, place)]
        itself = torch.ones((), device=self._device)
        if data.splice and fresh:
            sound, itself = spliced(sound, data.splice, self._rate, draw)
            itself = itself[:, 1:]
        codes = compand_on_device(sound)
        end = sizes + round(data.tail_s * self._rate)
        own = place[:, 1:]
        weight = torch.where(own < sizes[:, None], 1.0, data.tail_weight)
        counted = weight * itself * ((own >= 0) & (own < end[:, None]))
        seconds = data.batch * data.length / self._rate
        return WaveBatch(codes[:, :-1], codes[:, 1:], counted, labels, speakers, fresh, seconds)

    def _classes(self, starts: Tensor, sizes: Tensor, place: Tensor) -> Tensor:
        """Classes at ``place (B, n)`` of the recordings, silence outside of them."""
        shape = (-1, *[1] * (place.dim() - 1))
        starts, sizes = starts.view(shape), sizes.view(shape)
        index = starts + torch.minimum(place.clamp(min=0), sizes - 1)
        inside = (place >= 0) & (place < sizes)
        return torch.where(inside, self._codes[index].long(), SILENCE)

    def _sound(self, starts: Tensor, sizes: Tensor, at: Tensor) -> Tensor:
        """Samples at broken places ``at (B, n)``, by a windowed sinc."""
        whole = at.floor()
        taps = torch.arange(1 - _TAPS // 2, _TAPS // 2 + 1, device=at.device)
        distance = (at - whole).float()[..., None] - taps
        window = torch.cos(distance * (math.pi / (_TAPS + 2))) ** 2
        weights = torch.sinc(distance) * window
        place = whole.long()[..., None] + taps
        return (self._levels[self._classes(starts, sizes, place)] * weights).sum(-1)
