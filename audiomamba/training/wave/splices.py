"""Rows that begin as something else than what is asked for, and come back to it.

A model that goes on with its own samples sooner or later has behind it what no recording has: a
beginning that is too quiet, a sound of another word. Trained on recordings alone it goes on with
that whatever it is asked for, for in them what was heard is always right (exposure bias: Bengio et
al., "Scheduled Sampling", 2015). So some rows begin as another row, or as themselves at another
loudness, and go over to what they are within milliseconds. Only from there on do they count: what
is learnt is the way back, not the error.
"""

import torch
from torch import Tensor

__all__ = ["spliced"]

_QUIETEST_DB = -40.0  # of what a row begins as
_SHORTEST_S, _LONGEST_S = 0.005, 0.06  # of the way back
_DRAWS = 6  # numbers a row


def spliced(
    sound: Tensor, share: float, sample_rate: int, draw: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Rows that begin otherwise, and where they count.

    Args:
        sound: ``(B, T)`` float32, on any device.
        share: Of the rows that begin otherwise.
        sample_rate: Hz.
        draw: On the CPU, for all that is drawn.

    Returns:
        The rows, ``(B, T)``, and 1 where a row is itself or on its way there, 0 before, ``(B, T)``.
    """
    rows, samples = sound.shape
    chance = torch.rand(rows, _DRAWS, generator=draw)
    hit = chance[:, 0] < share
    from_here = torch.where(hit, chance[:, 1] * samples, 0.0)
    length = sample_rate * (_SHORTEST_S + (_LONGEST_S - _SHORTEST_S) * chance[:, 2])
    own_db = torch.where(hit, _QUIETEST_DB * chance[:, 3], 0.0)
    other = torch.where(hit & (chance[:, 4] < 0.5), 10 ** (_QUIETEST_DB * chance[:, 5] / 20), 0.0)
    from_here, length, own_db, other = (
        t[:, None].to(sound.device, non_blocking=True) for t in (from_here, length, own_db, other)
    )
    at = torch.arange(samples, device=sound.device)
    before = (1 - (at - from_here) / length).clamp(0, 1)
    own = 10 ** (own_db * before / 20)
    mixed = own * sound + other * before * sound.roll(1, 0)
    return mixed.clamp(-1, 1), (at >= from_here).float()
