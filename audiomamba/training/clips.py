"""Labelled recordings to measure on, read as manifests.py says, and grouped for reports.

A record's ``group``, or by its kind and source: ``clear`` (native and clearly read), ``words``
(joined single words), ``digits``, and ``accented/adults`` and ``accented/children`` (Mandarin
speakers of English).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audiomamba.training.corpus import Corpus
from audiomamba.training.manifests import Record, files, read
from audiomamba.training.recordings import utterances

__all__ = ["Clip", "group_of", "read_clips"]

_ACCENTED = "jimbozhang/speechocean762"
_ADULT_AGE = 14  # years; younger speakers are reported apart
_SPLIT = "dev"


@dataclass(frozen=True, slots=True)
class Clip:
    """One utterance with what was said in it, written down by a person."""

    name: str
    group: str
    text: str
    samples: NDArray[np.float32]  # (S,) at 16 kHz


def group_of(record: Record) -> str:
    """The group of a manifest's record; ``all`` where nothing is said of it."""
    if "group" in record:
        return str(record["group"])
    if record.get("source") == _ACCENTED:
        return "accented/children" if record.get("age", 99) < _ADULT_AGE else "accented/adults"
    kinds = {"words": "words", "word": "words", "digit": "digits", "sentence": "clear"}
    return kinds.get(record.get("kind", ""), "all")


def read_clips(manifest: Path, *, split: str = _SPLIT) -> Iterator[Clip]:
    """Utterances of a split with a human transcript, of a manifest as manifests.py reads it.

    A record without a ``split`` belongs to all. A folder is a corpus (corpus.py): all of it is
    read, and its sources are the groups.

    Raises:
        AudioError: the manifest, the corpus or a recording is missing or cannot be read.
    """
    if manifest.is_dir():
        for number, utterance in enumerate(Corpus(manifest)):
            samples: NDArray[np.float32] = utterance.audio.astype(np.float32)
            samples /= 32_768
            yield Clip(str(number), utterance.source, utterance.text, samples)
        return
    wanted: dict[str, list[Record]] = {}
    for record in read(manifest):
        human = record.get("text") and record.get("text_origin", "human") == "human"
        if human and record.get("split", split) == split:
            wanted.setdefault(record["path"], []).append(record)
    for name, encoded in files(manifest, wanted):
        for record, samples in utterances(encoded, wanted[name]):
            place = record.get("start", record.get("offset"))
            label = name if place is None else f"{name}@{place}"
            yield Clip(label, group_of(record), record["text"], samples)
