"""Rows of audio and frame targets, gathered on the device.

Everything is index arithmetic: which utterance a block of 80 samples belongs to is found once a
block, and each sample then reads four neighbours of the pool at its own place between them.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from audiomamba.training.batches.packing import BLOCK
from audiomamba.training.batches.pool import UNKNOWN_PHONE
from audiomamba.training.corpus import FRAME_SAMPLES, SAMPLE_RATE

__all__ = ["IGNORE", "SPEECH_LEVEL", "Placed", "frame_targets", "gather_audio"]

IGNORE = -1  # phone target where the phone is not known
SPEECH_LEVEL = 0.05  # root mean square that every utterance is brought to
ENCODER_FRAME = 640  # samples, 40 ms
_ENCODER_CENTRE = 200  # the last window that an encoder frame sees has its centre here


class Placed(NamedTuple):
    """Utterances placed in rows, on the device, ``(B, K)`` each; unused ones have length 0."""

    blocks: Tensor  # int64, block where it starts, rising along K
    starts: Tensor  # int64, first sample in the pool
    lengths: Tensor  # int64, samples in the pool
    speeds: Tensor  # float64, samples of the pool to one of the row
    gains: Tensor  # float32
    frame_starts: Tensor  # int64, first 25 ms frame in the pool
    frame_counts: Tensor  # int64


def gather_audio(pool: Tensor, placed: Placed, samples: int) -> Tensor:
    """Rows of audio, by cubic interpolation between the pool's samples.

    Args:
        pool: ``(P,)`` int16, with a margin at both ends.
        placed: What goes where.
        samples: ``S``, a multiple of ``BLOCK``.

    Returns:
        ``(B, S)`` float32, silence between the utterances.

    Source: Keys, "Cubic convolution interpolation for digital image processing", 1981 (a = -1/2).
    """
    blocks = torch.arange(samples // BLOCK, device=pool.device)
    owner, inside = _owners(placed.blocks, blocks.expand(len(placed.blocks), -1))
    speed = placed.speeds.gather(1, owner)  # (B, S / BLOCK)
    at = (blocks - placed.blocks.gather(1, owner)) * BLOCK * speed
    whole = at.floor()
    steps = torch.arange(BLOCK, device=pool.device, dtype=torch.float32)
    rate = speed.float()[..., None]
    place = (at - whole).float()[..., None] + rate * steps  # (B, S / BLOCK, BLOCK)
    left = placed.lengths.gather(1, owner) - whole.long()  # samples of it from here on
    inside &= left > 0  # past an utterance, and past the pool, nothing is read
    gain = torch.where(inside, placed.gains.gather(1, owner) / 32_768, 0)
    first = torch.where(inside, placed.starts.gather(1, owner) + whole.long(), 1)
    near = place.floor()
    t = place - near
    near = near.long()
    gain = gain[..., None] * (near < left[..., None])
    index = near.add_(first[..., None] - 1)
    before, here = pool[index].float(), pool[index.add_(1)].float()
    after, later = pool[index.add_(1)].float(), pool[index.add_(1)].float()
    # here + t/2 (after - before + t (2 before - 5 here + 4 after - later
    #   + t (3 (here - after) + later - before)))
    cubic = (here - after).mul_(3).add_(later).sub_(before).mul_(t)
    cubic.add_(before, alpha=2).sub_(here, alpha=5).add_(after, alpha=4).sub_(later).mul_(t)
    cubic.add_(after).sub_(before).mul_(t).mul_(0.5).add_(here)
    return cubic.mul_(gain).view(-1, samples)


def frame_targets(
    phones: Tensor,
    active: Tensor,
    placed: Placed,
    frames: int,
    *,
    phone_delay_s: float,
    activity_delay_s: float,
) -> tuple[Tensor, Tensor]:
    """Phones and speech activity for each encoder frame of 40 ms.

    Frame ``i`` answers for the time ``40 ms * i + 12.5 ms - delay``, through the utterance's place
    in the row and its speed.

    Args:
        phones: ``(P,)`` uint8 of the pool, a frame of 25 ms each.
        active: ``(P,)`` uint8.
        placed: What goes where.
        frames: ``T``.
        phone_delay_s: How late a phone is named.
        activity_delay_s: How late speech is noticed.

    Returns:
        Phones ``(B, T)`` int64, 0 in silence and ``IGNORE`` where not known; activity ``(B, T)``
        float32, 0 or 1.
    """
    phone_at, speaking = _frames_at(placed, frames, phone_delay_s)
    ids = torch.where(speaking, phones[phone_at].long(), 0)
    ids = torch.where(ids == UNKNOWN_PHONE, IGNORE, ids)
    active_at, speaking = _frames_at(placed, frames, activity_delay_s)
    return ids, torch.where(speaking, active[active_at].float(), 0.0)


def _frames_at(placed: Placed, frames: int, delay_s: float) -> tuple[Tensor, Tensor]:
    """The pool's frame that each encoder frame answers for, and whether there is one."""
    B = len(placed.blocks)
    time = torch.arange(frames, device=placed.blocks.device) * ENCODER_FRAME + _ENCODER_CENTRE
    time = (time - round(delay_s * SAMPLE_RATE)).expand(B, -1)  # samples of the row
    owner, inside = _owners(placed.blocks * BLOCK, time)
    since = time - placed.blocks.gather(1, owner) * BLOCK
    frame = (since * placed.speeds.gather(1, owner) / FRAME_SAMPLES).floor().long()
    inside &= frame < placed.frame_counts.gather(1, owner)
    return torch.where(inside, placed.frame_starts.gather(1, owner) + frame, 0), inside


def _owners(starts: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """The last of ``starts`` ``(B, K)`` at or before each time, and whether there is one."""
    owner = torch.searchsorted(starts, times.contiguous(), right=True) - 1
    return owner.clamp(min=0), owner >= 0
