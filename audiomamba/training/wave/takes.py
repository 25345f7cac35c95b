"""Recordings with what is said and by whom, as classes of samples at the model's rate.

A manifest is what training/manifests.py reads, with ``label`` in the place of ``text`` where there
is one, and ``index`` for the number of a take. Records of the split ``dev`` and the first takes of
each are held out; where neither is said, each so-manyth record is. A record of ``joined`` words,
all equally long, is a recording of each.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audiomamba.audio.mulaw import compand
from audiomamba.audio.resample import resample
from audiomamba.models.wave.model import NOBODY
from audiomamba.training.corpus import SAMPLE_RATE, Corpus
from audiomamba.training.manifests import Record, files, read
from audiomamba.training.recordings import utterances
from audiomamba.training.wave.config import WaveDataConfig

__all__ = [
    "Sound", "Take", "Word", "numbers", "read_corpus", "read_manifest", "read_sounds", "take_of",
    "trimmed",
]  # fmt: skip

_MOST_GAIN = 30.0  # silence is not raised to a peak
_BREATH_S = 0.03  # of silence that is left at either end

Samples = NDArray[np.float32]


class Word(NamedTuple):
    """A word in a recording."""

    label: str
    begin: int  # samples
    end: int  # may be past the end of a recording that was cut off
    parts: tuple[float, ...] = ()  # shares of it after which the next part begins; none: equal


@dataclass(frozen=True, slots=True)
class Take:
    """One recording."""

    codes: NDArray[np.uint8]  # (n,)
    label: str | None
    speaker: str | None
    held_out: bool
    known_speaker: bool = True  # whether recordings of the speaker are trained on
    weight: float = 1.0  # how often it is trained on, beside others
    words: tuple[Word, ...] = ()  # in order; none: it is its label from end to end

    @property
    def spoken(self) -> tuple[Word, ...]:
        """The words that are said in it."""
        if self.words or self.label is None:
            return self.words
        return (Word(self.label, 0, len(self.codes)),)


@dataclass(frozen=True, slots=True)
class Sound:
    """One recording before it is put into classes."""

    samples: Samples  # (n,) at the model's rate
    label: str | None
    speaker: str | None
    held_out: bool
    known_speaker: bool


def take_of(sound: Sound, data: WaveDataConfig) -> Take:
    """A recording as a model hears it."""
    codes = _codes(sound.samples, data)
    return Take(codes, sound.label, sound.speaker, sound.held_out, sound.known_speaker)


def read_manifest(manifest: Path, data: WaveDataConfig, sample_rate: int) -> list[Take]:
    """The recordings of a manifest.

    Raises:
        AudioError: the manifest or a recording is missing or cannot be read.
    """
    return [take_of(sound, data) for sound in read_sounds(manifest, data, sample_rate)]


def read_sounds(manifest: Path, data: WaveDataConfig, sample_rate: int) -> list[Sound]:
    """The same before they are put into classes, at their own loudness.

    Raises:
        AudioError: the manifest or a recording is missing or cannot be read.
    """
    by_path: dict[str, list[Record]] = {}
    words = (word for record in read(manifest) for word in _words(record))
    for number, record in enumerate(words):
        if not data.labels or _label(record) in data.labels:
            by_path.setdefault(record["path"], []).append({**record, "number": number})
    return [
        sound
        for name, encoded in files(manifest, by_path)
        for sound in _cut(encoded, by_path[name], data, sample_rate)
    ]


def read_corpus(folder: Path, data: WaveDataConfig, sample_rate: int) -> list[Take]:
    """The utterances of a corpus (training/corpus.py); what was said is the label."""
    corpus = Corpus(folder)
    takes: list[Take] = []
    for number, utterance in enumerate(corpus):
        label = utterance.text or None
        if data.labels and label not in data.labels:
            continue
        sound: Samples = utterance.audio.astype(np.float32) / np.float32(32_768)
        samples = resample(sound, SAMPLE_RATE, sample_rate)
        held_out = number % data.held_out_every == 0
        samples = trimmed(samples, data.trim_db, sample_rate)
        codes, weight = _codes(samples, data), data.corpora_weight
        takes.append(Take(codes, label, utterance.speaker, held_out, weight=weight))
    return takes


def numbers(names: Sequence[str | None], known: Sequence[str]) -> Tensor:
    """Ids ``(n,)`` int64 of names in ``known``, ``NOBODY`` where there is none."""
    index = {name: number for number, name in enumerate(known)}
    ids = [NOBODY if name is None else index.get(name, NOBODY) for name in names]
    return torch.tensor(ids, dtype=torch.int64)


def _cut(
    encoded: bytes, records: list[Record], data: WaveDataConfig, sample_rate: int
) -> Iterator[Sound]:
    for record, own in utterances(encoded, records, sample_rate=sample_rate):
        word, words = record.get("word", 0), record.get("words", 1)
        samples = own[len(own) * word // words : len(own) * (word + 1) // words]
        samples = trimmed(samples, data.trim_db, sample_rate)
        dev = record.get("split") == "dev"
        if "index" in record:
            held_out = dev or record["index"] < data.held_out_takes
        else:
            nth = record["number"] % data.held_out_every == 0
            held_out = dev or ("split" not in record and nth)
        yield Sound(samples, _label(record), record.get("speaker"), held_out, not dev)


def _words(record: Record) -> Iterator[Record]:
    """A record a word where it is of several that were joined; else the record."""
    words = str(record.get("text") or "").split()
    if "label" in record or not record.get("joined", 1) == len(words) > 1:
        yield record
        return
    for number, word in enumerate(words):
        yield {**record, "text": word, "word": number, "words": len(words)}


def _label(record: Record) -> str | None:
    label = record.get("label") or record.get("text")
    return None if label is None else str(label)


def trimmed(
    samples: Samples, db: float, sample_rate: int, *, after_db: float | None = None
) -> Samples:
    """Without the silence at both ends, but for a breath.

    Args:
        samples: ``(n,)``.
        db: What is so far below the peak is silence; 0: nothing is cut.
        sample_rate: Hz.
        after_db: The same for the end, where it is another.
    """
    if not db or not len(samples):
        return samples
    level = np.abs(samples)
    first, last = (
        np.flatnonzero(level >= level.max() * 10 ** (-own / 20))
        for own in (db, db if after_db is None else after_db)
    )
    breath = round(_BREATH_S * sample_rate)
    return samples[max(0, first[0] - breath) : last[-1] + 1 + breath]


def _codes(samples: Samples, data: WaveDataConfig) -> NDArray[np.uint8]:
    top = float(np.abs(samples).max(initial=0.0))
    if data.peak and top > 0:
        samples = samples * np.float32(min(data.peak / top, _MOST_GAIN))
    return compand(samples)
