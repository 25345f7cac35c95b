"""Decode the real recordings into corpora.

A recording set is a tar of Ogg Opus or FLAC files beside a manifest, ``NAME.jsonl``, with a record
an utterance. Five corpora come out::

    train    train.tar and train-more.tar        digits      digits.tar, split train
    dev      dev.tar                             digits-dev  digits.tar, split dev
    noise    noise.tar; a source is ``noise``, ``music`` or ``room`` (an impulse response)

Records without a transcript are left out, and so are the noises kept for measuring.

``python -m audiomamba.training.recordings --data DATA --out OUT``
"""

import argparse
import io
import itertools
import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import soundfile
from numpy.typing import NDArray

from audiomamba.audio.files import read as read_audio
from audiomamba.errors import AudioError
from audiomamba.training.corpus import SAMPLE_RATE, CorpusWriter
from audiomamba.training.manifests import Record, files, read

__all__ = [
    "CORPORA",
    "HELD_OUT_NOISE",
    "RecordingSet",
    "append",
    "decoders",
    "pack",
    "to_int16",
    "utterances",
]

HELD_OUT_NOISE = frozenset({"noise-sb5", "music-vibeace", "rir-sb4"})  # for measuring only

_FULL_SCALE = 32_768.0
_HELD = 512  # files in memory at once
_KINDS = {"noise": "noise", "music": "music", "rir": "room"}

Clip: TypeAlias = tuple[NDArray[np.int16], str, str, str | None]  # audio, text, source, speaker


@dataclass(frozen=True, slots=True)
class RecordingSet:
    """Which records of which tars make a corpus."""

    tars: tuple[str, ...]  # names without their ending
    split: str | None  # None: the records carry no split


CORPORA = {
    "train": RecordingSet(("train", "train-more"), "train"),
    "digits": RecordingSet(("digits",), "train"),
    "dev": RecordingSet(("dev",), "dev"),
    "digits-dev": RecordingSet(("digits",), "dev"),
    "noise": RecordingSet(("noise",), None),
}


def utterances(
    encoded: bytes, records: Sequence[Record], *, sample_rate: int = SAMPLE_RATE
) -> Iterator[tuple[Record, NDArray[np.float32]]]:
    """Decode a file and cut the records of a manifest out of it, mono, at ``sample_rate``.

    ``start`` and ``end`` are samples of the file, ``offset`` and ``duration`` seconds.

    Raises:
        AudioError: the file cannot be read as audio.
    """
    file = io.BytesIO(encoded)
    file.name = records[0]["path"]
    samples = read_audio(file, sample_rate=sample_rate)
    rate = soundfile.info(io.BytesIO(encoded)).samplerate
    for record in records:
        if "offset" in record:
            first = float(record["offset"])
            end = first + float(record["duration"]) if "duration" in record else None
        else:
            first = record.get("start", 0) / rate
            end = record["end"] / rate if "end" in record else None
        last = len(samples) if end is None else round(end * sample_rate)
        yield record, samples[round(first * sample_rate) : last]


def to_int16(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    """Samples of a full scale of 1 as a corpus keeps them; what is beyond is clipped."""
    scaled = np.clip(np.rint(samples * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1)
    levels: NDArray[np.int16] = scaled.astype(np.int16)
    return levels


def append(
    writer: CorpusWriter,
    given: Iterable[tuple[bytes, list[Record]]],
    pool: Executor,
    *,
    shortest: int = 0,
) -> int:
    """Add files, each with its records, to a corpus: decoded by ``pool``, in their order.

    A bounded number of files is held at a time. Returns how many recordings were left out, for
    having fewer than ``shortest`` samples.
    """
    left_out, files_left = 0, iter(given)
    while batch := list(itertools.islice(files_left, _HELD)):
        contents, records = zip(*batch, strict=True)
        for clips in pool.map(_clips, contents, records, chunksize=8):
            for audio, text, source, speaker in clips:
                if len(audio) < shortest:
                    left_out += 1
                    continue
                writer.append(audio, text, source=source, speaker=speaker)
        writer.flush()
    return left_out


def decoders(processes: int | None) -> ProcessPoolExecutor:
    """Processes for :func:`append`; None: one a core."""
    return ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"))


def _clips(encoded: bytes, records: list[Record]) -> list[Clip]:
    """Decode a file and cut its records out of it."""
    clips: list[Clip] = []
    for record, samples in utterances(encoded, records):
        source: str = _KINDS.get(record.get("kind", "")) or record["source"]
        text = record.get("text") or ""
        clips.append((to_int16(samples), text, source, record.get("speaker")))
    return clips


def _wanted(record: Record, split: str | None) -> bool:
    if split is None:
        return Path(record["path"]).stem not in HELD_OUT_NOISE
    return record["split"] == split and bool(record["text"])


def _members(data: Path, name: str, split: str | None) -> Iterator[tuple[bytes, list[Record]]]:
    """Files of a manifest that hold wanted records, with those records."""
    manifest, by_path = data / f"{name}.jsonl", dict[str, list[Record]]()
    for record in read(manifest):
        if _wanted(record, split):
            by_path.setdefault(record["path"], []).append(record)
    for path, encoded in files(manifest, by_path):
        yield encoded, by_path[path]


def pack(
    data: Path, out: Path, *, names: Iterable[str] = CORPORA, processes: int | None = None
) -> dict[str, tuple[int, float]]:
    """Decode recording sets into corpora, in parallel processes; the order is the tars' own.

    Args:
        data: Folder with the tars and manifests.
        out: Folder for the corpora, one folder each. A corpus that is there already is refused.
        names: Which of ``CORPORA`` to make.
        processes: How many decode; None: one a core.

    Returns:
        Utterances and seconds of each corpus.

    Raises:
        AudioError: a file cannot be read, or a corpus is there already.
    """
    made: dict[str, tuple[int, float]] = {}
    with decoders(processes) as pool:
        for name in names:
            if (out / name / "meta.json").exists():
                raise AudioError(f"recordings: {out / name} is there already; remove it first")
            wanted = CORPORA[name]
            with CorpusWriter(out / name) as writer:
                for tar_name in wanted.tars:
                    append(writer, _members(data, tar_name, wanted.split), pool)
                made[name] = len(writer), writer.seconds
    return made


def main() -> None:
    """Pack the recordings and print what each corpus holds."""
    parser = argparse.ArgumentParser(description="Decode the real recordings into corpora.")
    parser.add_argument("--data", type=Path, required=True, help="folder of tars and manifests")
    parser.add_argument("--out", type=Path, required=True, help="folder for the corpora")
    parser.add_argument("--only", nargs="+", choices=list(CORPORA), default=list(CORPORA))
    parser.add_argument("--processes", type=int, default=None)
    options = parser.parse_args()
    made = pack(options.data, options.out, names=options.only, processes=options.processes)
    for name, (count, seconds) in made.items():
        print(f"{name:12s} {count:6d} utterances {seconds / 60:8.1f} min")


if __name__ == "__main__":
    main()
