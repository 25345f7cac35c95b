"""From clean rows to rows as a microphone in the world gives them.

In this order: a room, noise, other talkers, a channel (tilt and band), level, clipping, mu-law,
lost packets. All chance is drawn beforehand, on the host, into a plan; which rows a step works on
is part of it, so a step costs only the share of rows it changes, and nothing waits for the device.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audiomamba.training.augment.filters import channel_response, convolve, plan_channels, spectra

__all__ = ["AugmentConfig", "Augmenter", "Plan"]

PACKET = 320  # samples, 20 ms
_TALKERS = 3
_MU = 255.0
_QUIETEST = 1e-4  # level below which a row counts as silent


@dataclass(kw_only=True, slots=True)
class AugmentConfig:
    """Shares of rows and ranges, at full strength. Noise ratios are to the speech of a row."""

    room: float = 0.5
    noise: float = 0.6
    noise_snr_low_db: float = 0.0
    noise_snr_high_db: float = 25.0
    babble: float = 0.2
    babble_snr_low_db: float = 5.0
    babble_snr_high_db: float = 20.0
    channel: float = 0.35
    level_low_db: float = -40.0  # of speech, against full scale
    level_high_db: float = -12.0
    clip: float = 0.1
    mulaw: float = 0.1
    loss: float = 0.05
    warp: float = 0.15  # formants move by up to this share
    colour_db: float = 3.0  # deviation of a smooth random filter


class Plan(NamedTuple):
    """All chance of a batch's augmentation. ``*_rows``: int64, the rows a step works on."""

    room_rows: Tensor
    rooms: Tensor  # int64, of the bank
    noise_rows: Tensor
    noise_at: Tensor  # int64, sample of the bank
    noise_gain: Tensor  # float32: level of the noise over that of the speech
    babble_rows: Tensor
    talkers: Tensor  # (N, 3) int64, rows
    babble_gain: Tensor
    channel_rows: Tensor
    channels: Tensor  # (N, 3) float32: filters.plan_channels
    gain: Tensor  # (B,) float32
    ceiling: Tensor  # (B,) float32, where a row clips
    mulaw_rows: Tensor
    loss_rows: Tensor
    kept: Tensor  # (N, packets) float32, 0 or 1

    def to(self, device: torch.device | str) -> "Plan":
        """Copy to the device without waiting for it."""
        return Plan(*(_upload(tensor, torch.device(device)) for tensor in self))


class Augmenter:
    """Room and noise banks on the device, and the steps.

    Args:
        rooms: ``(R, taps)``, row 0 without a room.
        noise: ``(S,)`` at level 1.
        config: Shares and ranges.
        device: Where the rows are.
    """

    def __init__(
        self,
        rooms: NDArray[np.float32],
        noise: NDArray[np.float32],
        config: AugmentConfig | None = None,
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        self.config = config or AugmentConfig()
        self._rooms = torch.from_numpy(spectra(rooms)).to(device)
        self._noise = torch.from_numpy(noise).to(device)

    def plan(
        self,
        rng: np.random.Generator,
        rows: int,
        samples: int,
        strength: float,
        *,
        speech_level: float,
        noise_only: NDArray[np.int64] | None = None,
    ) -> Plan:
        """Draw a plan, on the host.

        Args:
            rng: Where all chance comes from.
            rows: ``B``.
            samples: ``S``.
            strength: 0 changes nothing but the level, 1 all that the configuration says.
            speech_level: Root mean square of speech in the rows before augmentation.
            noise_only: Rows without speech; these get noise whatever the strength.
        """
        c, chosen = self.config, _Chooser(rng, rows, strength)
        room_rows = chosen(c.room)
        noise_rows = chosen(c.noise)
        if noise_only is not None:
            noise_rows = np.union1d(noise_rows, noise_only)
        babble_rows = chosen(c.babble)
        channel_rows = chosen(c.channel)
        mulaw_rows, loss_rows, clip_rows = chosen(c.mulaw), chosen(c.loss), chosen(c.clip)
        middle = (c.level_low_db + c.level_high_db) / 2
        spread = (c.level_high_db - c.level_low_db) / 2 * (0.4 + 0.6 * strength)
        level = 10 ** ((middle + rng.uniform(-spread, spread, rows)) / 20)
        ceiling = np.ones(rows)
        ceiling[clip_rows] = np.minimum(1.0, level[clip_rows] * rng.uniform(1.5, 4, len(clip_rows)))
        shift = rng.integers(1, max(rows, 2), (len(babble_rows), _TALKERS))
        packets = -(-samples // PACKET)
        lost = rng.random((len(loss_rows), packets)) < rng.uniform(0.01, 0.05, (len(loss_rows), 1))
        for _ in range(2):  # 20 ms become up to 60
            longer = rng.random(lost.shape) < 0.4
            lost[:, 1:] |= lost[:, :-1] & longer[:, 1:]
        return Plan(
            room_rows=torch.from_numpy(room_rows),
            rooms=torch.from_numpy(rng.integers(0, len(self._rooms), len(room_rows))),
            noise_rows=torch.from_numpy(noise_rows),
            noise_at=torch.from_numpy(rng.integers(0, len(self._noise), len(noise_rows))),
            noise_gain=_ratio(rng, len(noise_rows), c.noise_snr_low_db, c.noise_snr_high_db),
            babble_rows=torch.from_numpy(babble_rows),
            talkers=torch.from_numpy((babble_rows[:, None] + shift) % rows),
            babble_gain=_ratio(rng, len(babble_rows), c.babble_snr_low_db, c.babble_snr_high_db),
            channel_rows=torch.from_numpy(channel_rows),
            channels=torch.from_numpy(plan_channels(rng, len(channel_rows), strength)),
            gain=torch.from_numpy((level / speech_level).astype(np.float32)),
            ceiling=torch.from_numpy(ceiling.astype(np.float32)),
            mulaw_rows=torch.from_numpy(mulaw_rows),
            loss_rows=torch.from_numpy(loss_rows),
            kept=torch.from_numpy((~lost).astype(np.float32)),
        )

    def apply_(self, samples: Tensor, plan: Plan, speech_level: float) -> Tensor:
        """Augment rows in place.

        Args:
            samples: ``(B, S)`` float32, changed.
            plan: On the same device.
            speech_level: As for the plan.

        Returns:
            ``samples``.
        """
        S = samples.shape[1]
        if len(plan.babble_rows):  # taken before the rooms, which would make them one voice
            babble = samples[plan.talkers].sum(1)
            babble.mul_((plan.babble_gain * speech_level / _level(babble))[:, None])
        if len(plan.room_rows):
            dry = samples[plan.room_rows]
            samples[plan.room_rows] = convolve(dry, self._rooms[plan.rooms])
        if len(plan.babble_rows):
            samples[plan.babble_rows] += babble
        if len(plan.noise_rows):
            place = torch.arange(S, device=samples.device, dtype=torch.int32)
            index = (plan.noise_at.int()[:, None] + place).remainder_(len(self._noise))
            noise = self._noise[index]
            noise.mul_((plan.noise_gain * speech_level / _level(noise))[:, None])
            samples[plan.noise_rows] += noise
        if len(plan.channel_rows):
            response = channel_response(plan.channels)
            samples[plan.channel_rows] = convolve(samples[plan.channel_rows], response)
        samples.mul_(plan.gain[:, None])
        samples.clamp_(-plan.ceiling[:, None], plan.ceiling[:, None])
        if len(plan.mulaw_rows):
            samples[plan.mulaw_rows] = _mulaw(samples[plan.mulaw_rows])
        if len(plan.loss_rows):
            kept = plan.kept.repeat_interleave(PACKET, 1, output_size=plan.kept.shape[1] * PACKET)
            samples[plan.loss_rows] *= kept[:, :S]
        return samples


@dataclass(frozen=True, slots=True)
class _Chooser:
    rng: np.random.Generator
    rows: int
    strength: float

    def __call__(self, share: float) -> NDArray[np.int64]:
        """Rows a step works on, in order.

        Their number does not vary between batches of a shape, so that the plans of the Fourier
        transforms, which belong to a number of rows, are found again.
        """
        count = round(share * self.strength * self.rows)
        return np.sort(self.rng.permutation(self.rows)[:count])


def _ratio(rng: np.random.Generator, count: int, low_db: float, high_db: float) -> Tensor:
    return torch.from_numpy((10 ** (-rng.uniform(low_db, high_db, count) / 20)).astype(np.float32))


def _level(rows: Tensor) -> Tensor:
    """Root mean square of rows ``(B, S)``, never below a floor."""
    norm: Tensor = torch.linalg.vector_norm(rows, dim=1)
    return norm.div(rows.shape[1] ** 0.5).clamp(min=_QUIETEST)


def _mulaw(samples: Tensor) -> Tensor:
    """What 8-bit mu-law leaves of samples in -1..1."""
    scale = float(np.log1p(_MU))
    code = samples.abs().mul_(_MU).log1p_().mul_(127 / scale).round_()
    return code.mul_(scale / 127).expm1_().div_(_MU).copysign(samples)


def _upload(tensor: Tensor, device: torch.device) -> Tensor:
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
