"""Labelled recordings to measure on, read from a tar and its manifest, and grouped for reports.

Groups: ``clear`` (native and clearly read), ``words`` (joined single words), ``digits``, and
``accented/adults`` and ``accented/children`` (Mandarin speakers of English).
"""

import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from audiomamba.errors import AudioError
from audiomamba.training.recordings import decode

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


def group_of(record: dict[str, Any]) -> str:
    """The group of a manifest's record."""
    if record["source"] == _ACCENTED:
        return "accented/children" if record.get("age", 99) < _ADULT_AGE else "accented/adults"
    return {"words": "words", "word": "words", "digit": "digits"}.get(record["kind"], "clear")


def read_clips(manifest: Path, *, split: str = _SPLIT) -> Iterator[Clip]:
    """Utterances of a split with a human transcript; the tar lies beside the manifest.

    Raises:
        AudioError: the manifest or the tar is missing, or a file in it cannot be read.
    """
    wanted: dict[str, list[dict[str, Any]]] = {}
    try:
        with manifest.open(encoding="utf-8") as lines:
            for record in map(json.loads, lines):
                human = record.get("text") and record.get("text_origin", "human") == "human"
                if human and record["split"] == split:
                    wanted.setdefault(record["path"], []).append(record)
        with tarfile.open(manifest.with_suffix(".tar")) as tar:
            for member in tar:
                file = tar.extractfile(member) if member.name in wanted else None
                if file is not None:
                    yield from _cut(file.read(), wanted[member.name])
    except (OSError, KeyError, json.JSONDecodeError) as error:
        raise AudioError(
            f"{manifest}: cannot be read as a manifest with its tar: {error}"
        ) from None


def _cut(encoded: bytes, records: list[dict[str, Any]]) -> Iterator[Clip]:
    name = records[0]["path"]
    samples = decode(encoded, name=name)
    # Positions count samples at the file's own rate.
    scale = 16_000 // soundfile.info(io.BytesIO(encoded)).samplerate
    for record in records:
        span = slice(record.get("start", 0) * scale, record.get("end", len(samples)) * scale)
        label = name if "start" not in record else f"{name}@{record['start']}"
        yield Clip(label, group_of(record), record["text"], samples[span])
