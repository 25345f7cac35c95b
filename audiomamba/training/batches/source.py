"""Training batches, each a pure function of the seed and its number."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audiomamba.audio.features import FeatureConfig
from audiomamba.audio.waveform import WaveformConfig
from audiomamba.errors import ConfigError
from audiomamba.training.augment import (
    Augmenter,
    Plan,
    disguise,
    hide,
    plan_bands,
    plan_colours,
    plan_stretches,
    plan_warps,
)
from audiomamba.training.batches.assembly import (
    SPEECH_LEVEL,
    Placed,
    frame_targets,
    gather_audio,
)
from audiomamba.training.batches.config import BatchConfig
from audiomamba.training.batches.packing import Rows, Shape, pack, shape_of
from audiomamba.training.batches.pool import SpeechPool

__all__ = ["Batch", "Batches", "Planned"]

_ROWS, _MASKS = 0, 1  # what a generator is for, beside the seed and the batch's number
_LEVEL_SPREAD_DB = 3.0  # between utterances joined in a row


@dataclass(frozen=True, slots=True)
class Batch:
    """Audio of one shape and what it says. Lengths stay on the host: CTC asks for them there."""

    samples: Tensor  # (B, S) float32, 16 kHz, device
    num_samples: Tensor  # (B,) int64, host; every row is audio to its end
    targets: Tensor  # (B, L) int64, device, 0 past a row's length
    target_lengths: Tensor  # (B,) int64, host
    phones: Tensor  # (B, T) int64, device, -1 where not known
    activity: Tensor  # (B, T) float32, device
    seconds: float  # of audio, silence included


class Planned(NamedTuple):
    """A batch before anything is done on the device."""

    shape: Shape
    rows: Rows
    placed: Placed
    targets: Tensor
    target_lengths: Tensor
    augmentation: Plan | None


class Batches:
    """Draws, assembles and augments batches.

    Args:
        pool: Audio and texts.
        config: Shapes, mixture, timing.
        augmenter: None leaves the rows as they are.
        seed: All batches follow from it.
        world: Processes that share the numbers; schedules count ``number // world``.

    Raises:
        ConfigError: a source weight names no source of the pool.
    """

    def __init__(
        self,
        pool: SpeechPool,
        config: BatchConfig,
        augmenter: Augmenter | None = None,
        *,
        seed: int = 0,
        world: int = 1,
    ) -> None:
        unknown = set(config.source_weights) - {group.name for group in pool.groups}
        if unknown:
            names = ", ".join(sorted({group.name for group in pool.groups}))
            raise ConfigError(f"batches.source_weights: no source {min(unknown)!r}; have {names}")
        self.pool, self.config, self._augmenter = pool, config, augmenter
        self.seed, self.world = seed, world
        self.shapes = [shape_of(seconds, config) for seconds in config.row_seconds]
        chances = np.array(config.row_weights, float)
        self._shape_chances = chances / chances.sum()

    def batch(self, number: int) -> Batch:
        """Batch ``number``, ready on the device."""
        planned = self.plan(number)
        return self.augment_(self.assemble(planned), planned)

    def augment_features(self, features: Tensor, config: FeatureConfig, number: int) -> Tensor:
        """Other voices and SpecAugment for batch ``number``, on its features.

        Of samples only stretches of time are hidden, as silence: bins are no bands there.

        Args:
            features: ``(B, F, bins)``; every row is audio to its end.
            config: What they are.
            number: Of the batch.
        """
        rng = np.random.default_rng([self.seed, number, _MASKS])
        strength = self.config.strength_at(number // self.world)
        B, F, bins = features.shape
        share = self.config.hidden_share
        if isinstance(config, WaveformConfig):
            stretches = torch.from_numpy(plan_stretches(rng, B, F, share, strength))
            return features.masked_fill(_upload(stretches, features.device)[..., None], 0.0)
        bands = torch.from_numpy(plan_bands(rng, B, bins, strength))
        stretches = torch.from_numpy(plan_stretches(rng, B, F, share, strength))
        if self._augmenter is not None:
            how = self._augmenter.config
            warps = torch.from_numpy(plan_warps(rng, B, config, how.warp * strength))
            colours = torch.from_numpy(plan_colours(rng, B, bins, how.colour_db * strength))
            features = disguise(
                features, _upload(warps, features.device), _upload(colours, features.device)
            )
        mean = features.mean((0, 1))
        return hide(
            features, _upload(stretches, features.device), _upload(bands, features.device), mean
        )

    def plan(self, number: int) -> Planned:
        """Draw batch ``number``, on the host alone."""
        rng = np.random.default_rng([self.seed, number, _ROWS])
        step = number // self.world
        shape = self.shapes[rng.choice(len(self.shapes), p=self._shape_chances)]
        rows = pack(self.pool, self.config, shape, self._weights(step), rng)
        targets, lengths = self._tokens(rows, shape)
        plan = None
        if self._augmenter is not None:
            plan = self._augmenter.plan(
                rng,
                shape.rows,
                shape.samples,
                self.config.strength_at(step),
                speech_level=SPEECH_LEVEL,
                noise_only=np.flatnonzero(rows.counts == 0),
            )
        placed = self._place(rows, rng)
        return Planned(shape, rows, placed, targets, lengths, plan)

    def assemble(self, planned: Planned) -> Batch:
        """Clean audio and targets, on the device."""
        device, shape = self.pool.samples.device, planned.shape
        placed = Placed(*(_upload(tensor, device) for tensor in planned.placed))
        phones, activity = frame_targets(
            self.pool.phones,
            self.pool.active,
            placed,
            shape.frames // 4,
            phone_delay_s=self.config.phone_delay_s,
            activity_delay_s=self.config.activity_delay_s,
        )
        return Batch(
            samples=gather_audio(self.pool.samples, placed, shape.samples),
            num_samples=torch.full((shape.rows,), shape.samples),
            targets=_upload(planned.targets, device),
            target_lengths=planned.target_lengths,
            phones=phones,
            activity=activity,
            seconds=shape.seconds,
        )

    def augment_(self, batch: Batch, planned: Planned) -> Batch:
        """Augment the batch's samples in place, where there is an augmenter."""
        if self._augmenter is not None and planned.augmentation is not None:
            plan = planned.augmentation.to(batch.samples.device)
            self._augmenter.apply_(batch.samples, plan, SPEECH_LEVEL)
        return batch

    def _weights(self, step: int) -> NDArray[np.float64]:
        """Share of the audio for each group.

        Real sources count by a power of their length, so that a large one does not drown the
        others; synthetic ones, which can be made at will, by their length.
        """
        groups = self.pool.groups
        real = np.array([group.real for group in groups])
        seconds = np.array([group.seconds for group in groups])
        own = np.array([self.config.source_weights.get(group.name, 1.0) for group in groups])
        weights = own * np.where(real, seconds**self.config.source_power, seconds)
        share = self.config.real_share_at(step)
        for kind, part in ((real, share), (~real, 1.0 - share)):
            total = weights[kind].sum()
            if total:
                weights[kind] *= part / total
        return weights

    def _tokens(self, rows: Rows, shape: Shape) -> tuple[Tensor, Tensor]:
        """Token ids of the rows ``(B, L)``, utterance after utterance, and their number."""
        used = rows.lengths > 0
        row, _ = np.nonzero(used)
        picks = rows.utterances[used]  # in the order of rows, then of time
        first, counts = self.pool.token_starts[picks], np.diff(self.pool.token_starts)[picks]
        begins = np.cumsum(counts) - counts
        within = np.arange(int(counts.sum())) - np.repeat(begins, counts)
        ids = self.pool.tokens[np.repeat(first, counts) + within]
        lengths = np.bincount(row, weights=counts, minlength=shape.rows).astype(np.int64)
        targets = np.zeros((shape.rows, shape.tokens), np.int64)
        targets[np.arange(shape.tokens) < lengths[:, None]] = ids
        return torch.from_numpy(targets), torch.from_numpy(lengths)

    def _place(self, rows: Rows, rng: np.random.Generator) -> Placed:
        pool, picks, used = self.pool, rows.utterances, rows.lengths > 0
        spread = 10 ** (rng.normal(0.0, _LEVEL_SPREAD_DB, picks.shape) / 20)
        spread[:, 0] = 1.0
        gains = SPEECH_LEVEL / pool.levels[picks] * spread
        columns = (
            rows.blocks,
            pool.starts[picks],
            np.where(used, pool.lengths[picks], 0),
            rows.speeds,
            np.where(used, gains, 0.0).astype(np.float32),
            pool.frame_starts[picks],
            np.where(used, pool.frame_counts[picks], 0),
        )
        return Placed(*map(torch.from_numpy, columns))


def _upload(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy to the device without waiting for it."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
