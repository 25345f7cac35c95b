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
import json
import multiprocessing
import tarfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import soundfile
from numpy.typing import NDArray

from audiomamba.errors import AudioError
from audiomamba.training.corpus import SAMPLE_RATE, CorpusWriter

__all__ = ["CORPORA", "HELD_OUT_NOISE", "RecordingSet", "decode", "pack"]

HELD_OUT_NOISE = frozenset({"noise-sb5", "music-vibeace", "rir-sb4"})  # for measuring only

_FULL_SCALE = 32_768.0
_KINDS = {"noise": "noise", "music": "music", "rir": "room"}

Record: TypeAlias = dict[str, Any]
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


def decode(encoded: bytes, *, name: str = "audio") -> NDArray[np.float32]:
    """Read a whole audio file.

    Args:
        encoded: The file, in any format libsndfile reads.
        name: What an error calls it.

    Returns:
        Samples ``(S,)`` at 16 kHz, mono (the mean of the channels).

    Raises:
        AudioError: it cannot be read, or its rate is no whole fraction of 16 kHz.
    """
    try:
        frames, rate = soundfile.read(io.BytesIO(encoded), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"recordings: {name} cannot be read ({error.error_string})") from error
    samples: NDArray[np.float32] = frames.mean(axis=1)
    if SAMPLE_RATE % rate:
        raise AudioError(f"recordings: {name} is at {rate} Hz, wants a whole fraction of 16000")
    return samples if rate == SAMPLE_RATE else _upsample(samples, SAMPLE_RATE // rate)


def _upsample(samples: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Raise the rate by a whole factor: the spectrum stays, what lies above it is zero."""
    spectrum = np.fft.rfft(samples)
    if len(samples) % 2 == 0:
        spectrum[-1] *= 0.5  # the old Nyquist bin now has a mirror image of its own
    raised = np.fft.irfft(spectrum * factor, len(samples) * factor)
    return raised.astype(np.float32)


def _clips(encoded: bytes, records: list[Record]) -> list[Clip]:
    """Decode one member of a tar and cut its records out of it."""
    samples = decode(encoded, name=records[0]["path"])
    levels = np.clip(np.rint(samples * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1)
    pcm = levels.astype(np.int16)
    clips: list[Clip] = []
    for record in records:
        scale = SAMPLE_RATE // record.get("rate", SAMPLE_RATE) if "start" in record else 1
        start, end = record.get("start", 0) * scale, record.get("end", len(pcm)) * scale
        source: str = _KINDS.get(record.get("kind", "")) or record["source"]
        clips.append((pcm[start:end], record.get("text") or "", source, record.get("speaker")))
    return clips


def _wanted(record: Record, split: str | None) -> bool:
    if split is None:
        return Path(record["path"]).stem not in HELD_OUT_NOISE
    return record["split"] == split and bool(record["text"])


def _members(data: Path, tar_name: str, split: str | None) -> Iterator[tuple[bytes, list[Record]]]:
    """Members of a tar that hold wanted records, with those records."""
    by_path: dict[str, list[Record]] = {}
    with (data / f"{tar_name}.jsonl").open(encoding="utf-8") as lines:
        for record in map(json.loads, lines):
            if _wanted(record, split):
                by_path.setdefault(record["path"], []).append(record)
    with tarfile.open(data / f"{tar_name}.tar") as tar:
        for member in tar:
            file = tar.extractfile(member) if member.name in by_path else None
            if file is not None:
                yield file.read(), by_path[member.name]


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
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        for name in names:
            if (out / name / "meta.json").exists():
                raise AudioError(f"recordings: {out / name} is there already; remove it first")
            wanted = CORPORA[name]
            with CorpusWriter(out / name) as writer:
                for tar_name in wanted.tars:
                    members = list(_members(data, tar_name, wanted.split))
                    if not members:
                        continue
                    contents, records = zip(*members, strict=True)
                    for clips in pool.map(_clips, contents, records, chunksize=8):
                        for audio, text, source, speaker in clips:
                            writer.append(audio, text, source=source, speaker=speaker)
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
