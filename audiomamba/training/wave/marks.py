"""Where words lie in recordings, and so which row of the table of labels a period asks for.

A word is as many parts as the model has states, equal ones or as alignment.py found them; before
and after it silence is asked for, as ``WaveConfig.silence_row``. A recording of one word is that
word from end to end, as its silence is trimmed off; a string keeps where its words were put. Of
what has no words nothing is told.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from audiomamba.models.wave.durations import equal_shares
from audiomamba.models.wave.model import NOBODY
from audiomamba.training.wave.takes import Take, numbers

__all__ = ["Marks", "other_rows"]


class Marks:
    """The words of some recordings, on the device where rows are cut out of them.

    Args:
        takes: Recordings, one behind the other.
        labels: The model's, in its order.
        states: Parts of a word.
        period: Samples over which what is asked for does not change.
        device: Where rows are made.
    """

    def __init__(
        self,
        takes: Sequence[Take],
        *,
        labels: Sequence[str],
        states: int,
        period: int,
        device: torch.device,
    ) -> None:
        self._states, self._period = states, period
        sizes = torch.tensor([len(take.codes) for take in takes])
        starts = sizes.cumsum(0) - sizes
        words = [
            (start + word.begin, start + word.end, word)
            for start, take in zip(starts.tolist(), takes, strict=True)
            for word in take.spoken
        ]
        self._starts, self._sizes = starts.double().to(device), sizes.to(device)
        # float64: of hours of sound float32 would miss the sample.
        begins, ends = (
            torch.tensor([word[side] for word in words], dtype=torch.float64) for side in (0, 1)
        )
        self._begins, self._ends = begins.to(device), ends.to(device)
        self._labels = numbers([word.label for _, _, word in words], labels).to(device)
        shares = [word.parts or equal_shares(states) for _, _, word in words]
        self._parts = torch.tensor(shares, dtype=torch.float64).reshape(len(words), states - 1)
        self._parts = self._parts.to(device)
        silence, known = len(labels) * states, set(labels)
        told = [any(word.label in known for word in take.spoken) for take in takes]
        self._otherwise = torch.tensor([silence if one else NOBODY for one in told]).to(device)

    def rows(self, takes: Tensor, begin: Tensor, speed: Tensor, periods: int) -> Tensor:
        """Rows of the table of labels, ``(B, periods)`` int64; ``NOBODY`` where nothing is known.

        Args:
            takes: Numbers of recordings, ``(B,)``.
            begin: Sample of the recording at which the row begins, ``(B,)``; may be outside of it.
            speed: Samples of the recording to one of the row, ``(B,)``; ``begin`` is scaled too.
            periods: How many.
        """
        middle = self._period * torch.arange(periods, device=takes.device) + (self._period - 1) / 2
        place = (begin[:, None] + middle.double()) * speed[:, None]
        if not len(self._begins):
            return torch.full_like(place, NOBODY, dtype=torch.int64)
        starts, sizes = self._starts[takes][:, None], self._sizes[takes][:, None]
        at = starts + place
        word = (torch.searchsorted(self._begins, at, right=True) - 1).clamp(min=0)
        first, end, label = self._begins[word], self._ends[word], self._labels[word]
        inside = (place >= 0) & (place < sizes) & (first >= starts) & (at >= first) & (at < end)
        share = (at - first) / (end - first)
        part = (share[..., None] >= self._parts[word]).sum(-1)
        otherwise = self._otherwise[takes][:, None]
        return torch.where(inside & (label >= 0), label * self._states + part, otherwise)


def other_rows(rows: Tensor, labels: int, states: int) -> Tensor:
    """The same parts of the next label's words; silence and ``NOBODY`` stay.

    Args:
        rows: Of the table of labels, any shape.
        labels: How many there are.
        states: Parts of a word.
    """
    other = (rows // states + 1) % labels * states + rows % states
    return torch.where((rows < 0) | (rows >= labels * states), rows, other)
