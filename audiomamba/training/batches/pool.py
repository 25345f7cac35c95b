"""All audio and targets of a training run, where they are used.

The samples of all corpora lie in one int16 tensor on the device. Beside it, one byte a frame of
25 ms: which phone, and whether somebody speaks. What the planner needs to know of an utterance (how
long, which tokens, which group) stays on the host as numpy arrays.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audiomamba.errors import AudioError
from audiomamba.training.corpus import FRAME_SAMPLES, SAMPLE_RATE, Corpus

__all__ = ["UNKNOWN_PHONE", "Group", "Part", "SpeechPool"]

UNKNOWN_PHONE = 255  # in `phones`: a frame of an utterance whose phones are not known

_MARGIN = 512  # zeros at both ends of the samples, so that interpolation may read past an utterance
_COPY_SAMPLES = 1 << 26  # samples copied at a time
_BRIDGED_FRAMES = 8  # a gap this short (0.2 s) inside speech counts as speech
_FLOOR = 1e-4  # level of an utterance that is nothing but zeros
_QUIET = 0.1  # a frame below this share of its utterance's loud frames is silence


class Part(NamedTuple):
    """A corpus and what it is to the mixture."""

    corpus: Corpus
    real: bool  # recorded people, not synthetic speech


@dataclass(frozen=True, slots=True)
class Group:
    """Utterances of one source, by length, so that what fits is a range."""

    name: str
    real: bool
    members: NDArray[np.int64]  # (U,) positions in the pool, shortest first
    lengths: NDArray[np.int64]  # (U,) samples

    @property
    def seconds(self) -> float:
        return float(self.lengths.sum()) / SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class SpeechPool:
    """Audio on the device and an index on the host.

    Attributes:
        samples: ``(S,)`` int16 on the device, with a margin of zeros at both ends.
        phones: ``(P,)`` uint8 on the device, one a 25 ms frame; ``UNKNOWN_PHONE`` where not known.
        active: ``(P,)`` uint8 on the device, 1 where somebody speaks.
        starts: ``(U,)`` int64, where an utterance begins in ``samples``.
        lengths: ``(U,)`` int64, samples.
        frame_starts: ``(U,)`` int64, where its frames begin in ``phones``.
        frame_counts: ``(U,)`` int64.
        levels: ``(U,)`` float32, root mean square, of a full scale of 1.
        tokens: ``(K,)`` int32, token ids of all texts.
        token_starts: ``(U + 1,)`` int64.
        groups: The sources.
    """

    samples: Tensor
    phones: Tensor
    active: Tensor
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    frame_starts: NDArray[np.int64]
    frame_counts: NDArray[np.int64]
    levels: NDArray[np.float32]
    tokens: NDArray[np.int32]
    token_starts: NDArray[np.int64]
    groups: list[Group]

    @classmethod
    def load(
        cls,
        parts: Sequence[Part],
        encode: Callable[[str], list[int]],
        *,
        device: torch.device | str = "cpu",
    ) -> Self:
        """Bring corpora onto the device; utterances without tokens are left out of the groups.

        Args:
            parts: At least one corpus with an utterance in it.
            encode: Normalised text to token ids.
            device: Where the samples shall lie.

        Raises:
            AudioError: no utterance has tokens.
        """
        total = sum(len(part.corpus.samples) for part in parts)
        samples = torch.zeros(total + 2 * _MARGIN, dtype=torch.int16, device=device)
        starts, levels, at = [], [], _MARGIN
        for corpus, _ in parts:
            _copy(corpus.samples, samples[at : at + len(corpus.samples)])
            levels.append(_levels(samples[at : at + len(corpus.samples)], corpus.audio_offsets))
            starts.append(at + corpus.audio_offsets[:-1])
            at += len(corpus.samples)
        lengths = np.concatenate([np.diff(part.corpus.audio_offsets) for part in parts])
        labels = [_frame_labels(part.corpus) for part in parts]
        frame_counts = -(-lengths // FRAME_SAMPLES)
        texts = [encode(c.text(i)) for c, _ in parts for i in range(len(c))]
        counts = np.fromiter(map(len, texts), np.int64, len(texts))
        if not counts.any():
            raise AudioError("batches: no utterance of the corpora has a text")
        tokens = np.fromiter((t for ids in texts for t in ids), np.int32, int(counts.sum()))
        return cls(
            samples=samples,
            phones=torch.from_numpy(np.concatenate([p for p, _ in labels])).to(device),
            active=torch.from_numpy(np.concatenate([a for _, a in labels])).to(device),
            starts=np.concatenate(starts),
            lengths=lengths,
            frame_starts=np.cumsum(frame_counts) - frame_counts,
            frame_counts=frame_counts,
            levels=np.concatenate(levels),
            tokens=tokens,
            token_starts=np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]),
            groups=_groups(parts, lengths, counts > 0),
        )

    @property
    def seconds(self) -> float:
        """Seconds of audio."""
        return float(self.lengths.sum()) / SAMPLE_RATE


def _copy(source: NDArray[np.int16], target: Tensor) -> None:
    """Copy mapped samples block by block, so that no second copy of them stands in memory."""
    for lo in range(0, len(source), _COPY_SAMPLES):
        block = np.array(source[lo : lo + _COPY_SAMPLES])
        target[lo : lo + len(block)].copy_(torch.from_numpy(block))


def _levels(samples: Tensor, offsets: NDArray[np.int64]) -> NDArray[np.float32]:
    """Root mean square of each utterance, from running sums of its squares."""
    bounds = torch.from_numpy(offsets).to(samples.device)
    energy = torch.zeros(len(offsets), dtype=torch.float64, device=samples.device)
    total = torch.zeros((), dtype=torch.float64, device=samples.device)
    for lo in range(0, len(samples), _COPY_SAMPLES):
        block = samples[lo : lo + _COPY_SAMPLES].double().div_(32_768).square_().cumsum(0)
        first = int(np.searchsorted(offsets, lo + 1, side="left"))
        last = int(np.searchsorted(offsets, lo + len(block), side="right"))
        energy[first:last] = total + block[bounds[first:last] - lo - 1]
        total = total + block[-1]
    mean = energy.diff() / bounds.diff().clamp(min=1)
    return mean.sqrt().clamp(min=_FLOOR).float().cpu().numpy()


def _frame_labels(corpus: Corpus) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Phone and activity of every 25 ms frame of a corpus, ``(P,)`` uint8 both."""
    counts = -(-np.diff(corpus.audio_offsets) // FRAME_SAMPLES)
    starts = np.cumsum(counts) - counts
    phones = np.full(int(counts.sum()), UNKNOWN_PHONE, np.uint8)
    active = np.zeros(len(phones), np.uint8)
    known = np.diff(corpus.phone_offsets) > 0
    _label_from_phones(corpus, known, starts, counts, phones, active)
    for i in np.flatnonzero(~known):
        span = slice(starts[i], starts[i] + counts[i])
        active[span] = _loud_frames(corpus.audio(int(i)), int(counts[i]))
    return phones, active


def _label_from_phones(
    corpus: Corpus,
    known: NDArray[np.bool_],
    starts: NDArray[np.int64],
    counts: NDArray[np.int64],
    phones: NDArray[np.uint8],
    active: NDArray[np.uint8],
) -> None:
    """Write the labels of utterances whose phones are known, all at once."""
    if not known.any():
        return
    lasting = np.asarray(corpus.phone_frames, np.int64)
    ids = np.asarray(corpus.phone_ids)
    offsets = corpus.phone_offsets
    owner = np.repeat(np.arange(len(counts)), np.diff(offsets))  # utterance of each phone
    edge = np.zeros(len(ids), bool)
    edge[offsets[:-1][known]] = True
    edge[offsets[1:][known] - 1] = True
    speech = (ids != 0) | ((lasting <= _BRIDGED_FRAMES) & ~edge)
    ends = np.cumsum(lasting)
    before = np.concatenate([np.zeros(1, np.int64), ends])[offsets[:-1]]  # frames before utterance
    within = np.arange(int(ends[-1])) - np.repeat(before[owner], lasting)
    fits = within < np.repeat(counts[owner], lasting)
    at = (np.repeat(starts[owner], lasting) + within)[fits]
    for i in np.flatnonzero(known):  # what the phones do not reach is silence
        phones[starts[i] : starts[i] + counts[i]] = 0
    phones[at] = np.repeat(ids, lasting)[fits]
    active[at] = np.repeat(speech, lasting)[fits]


def _loud_frames(audio: NDArray[np.int16], count: int) -> NDArray[np.bool_]:
    """Frames of 25 ms not far below the loud ones of their utterance, short gaps bridged."""
    padded = np.zeros(count * FRAME_SAMPLES, np.float32)
    padded[: len(audio)] = audio
    level = np.sqrt(np.square(padded.reshape(count, FRAME_SAMPLES)).mean(axis=1))
    loud: NDArray[np.bool_] = level > _QUIET * np.quantile(level, 0.9)
    at = np.flatnonzero(loud)
    for left, right in zip(at[:-1], at[1:], strict=True):
        if right - left <= _BRIDGED_FRAMES + 1:
            loud[left:right] = True
    return loud


def _groups(
    parts: Sequence[Part], lengths: NDArray[np.int64], usable: NDArray[np.bool_]
) -> list[Group]:
    groups, first = [], 0
    for corpus, real in parts:
        for number, name in enumerate(corpus.source_names):
            members = first + np.flatnonzero(corpus.sources == number)
            members = members[usable[members]]
            members = members[np.argsort(lengths[members], kind="stable")]
            if len(members):
                groups.append(Group(name, real, members, lengths[members]))
        first += len(corpus)
    return groups
