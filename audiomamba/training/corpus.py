"""The corpus on disk: audio, text and phone durations of many utterances, append-only.

A corpus is a folder. Utterances lie back to back, in the order in which they were written::

    meta.json       {"format": 1, "sample_rate": 16000, "sources": [names], "speakers": [names]}
    audio.i16       samples, little-endian int16, mono, 16 kHz
    text.utf8       spoken text, without separators
    phone_ids.u8    phone ids; 0 is a gap (silence, space, punctuation)
    phone_frames.u16  how long each of those phones lasts, in frames of 25 ms (400 samples)
    index.rows      a row an utterance: where its parts end in the four files, source, speaker

The row is written last, after what it points at, so the folder is valid at any moment: whatever a
crash left behind the last whole row is ignored by the reader and cut off by the next writer. The
reader maps the files; neither side's memory grows with the audio.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from audiomamba.errors import AudioError

__all__ = ["FRAME_SAMPLES", "SAMPLE_RATE", "Corpus", "CorpusWriter", "Utterance"]

SAMPLE_RATE = 16_000  # Hz
FRAME_SAMPLES = 400  # samples to a phone-duration frame (25 ms)

_FORMAT = 1
_ROW = np.dtype(
    [
        ("audio_end", "<i8"),  # samples
        ("text_end", "<i8"),  # bytes
        ("phone_end", "<i8"),  # phones
        ("source", "<i4"),  # position in meta.json's sources
        ("speaker", "<i4"),  # position in meta.json's speakers; -1: not known
    ]
)
# file, column of its end in a row, bytes an item
_PARTS = (
    ("audio.i16", "audio_end", 2),
    ("text.utf8", "text_end", 1),
    ("phone_ids.u8", "phone_end", 1),
    ("phone_frames.u16", "phone_end", 2),
)
_INDEX, _META = "index.rows", "meta.json"


class Utterance(NamedTuple):
    """One utterance of a corpus."""

    audio: NDArray[np.int16]  # (S,) at 16 kHz, a view of the mapped file
    text: str
    phone_ids: NDArray[np.uint8]  # (P,); empty where not known
    phone_frames: NDArray[np.uint16]  # (P,) of 25 ms
    source: str
    speaker: str | None


@dataclass(frozen=True, slots=True)
class _Names:
    sources: list[str]
    speakers: list[str]

    @classmethod
    def read(cls, folder: Path) -> Self:
        path = folder / _META
        if not path.exists():
            raise AudioError(f"corpus: {folder} has no {_META}")
        meta = json.loads(path.read_text(encoding="utf-8"))
        if meta.get("format") != _FORMAT or meta.get("sample_rate") != SAMPLE_RATE:
            raise AudioError(
                f"corpus: {folder} wants format {_FORMAT} at {SAMPLE_RATE} Hz, "
                f"got {meta.get('format')} at {meta.get('sample_rate')} Hz"
            )
        return cls(list(meta["sources"]), list(meta["speakers"]))

    def write(self, folder: Path) -> None:
        meta = {
            "format": _FORMAT,
            "sample_rate": SAMPLE_RATE,
            "sources": self.sources,
            "speakers": self.speakers,
        }
        fresh = folder / f"{_META}.new"
        fresh.write_text(json.dumps(meta, indent=1), encoding="utf-8")
        os.replace(fresh, folder / _META)


def _valid_rows(folder: Path, names: _Names) -> NDArray[Any]:
    """Rows whose parts are wholly on disk; all of them unless a write was interrupted."""
    path = folder / _INDEX
    count = path.stat().st_size // _ROW.itemsize if path.exists() else 0
    rows = np.fromfile(path, dtype=_ROW, count=count) if count else np.empty(0, _ROW)
    for name, column, width in _PARTS:
        part = folder / name
        size = part.stat().st_size // width if part.exists() else 0
        rows = rows[: int(np.searchsorted(rows[column], size, side="right"))]
    known = (rows["source"] < len(names.sources)) & (rows["speaker"] < len(names.speakers))
    return rows if known.all() else rows[: int(np.argmin(known))]


class CorpusWriter:
    """Appends utterances to a corpus; makes the folder if there is none.

    Use it as a context manager, or call ``close``. What was appended since the last ``flush`` is
    lost in a crash, nothing before it is.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        if not (self._folder / _META).exists():
            _Names([], []).write(self._folder)
        self._names = _Names.read(self._folder)
        rows = _valid_rows(self._folder, self._names)
        self._count = len(rows)
        self._ends = {c: int(rows[c][-1]) if len(rows) else 0 for _, c, _ in _PARTS}
        self._files: dict[str, BinaryIO] = {
            name: self._open(name, self._ends[column] * width) for name, column, width in _PARTS
        }
        self._index = self._open(_INDEX, self._count * _ROW.itemsize)
        self._pending: list[tuple[int, int, int, int, int]] = []
        self._renamed = False

    def _open(self, name: str, size: int) -> BinaryIO:
        path = self._folder / name
        path.touch()
        os.truncate(path, size)
        return path.open("ab")

    def __len__(self) -> int:
        return self._count + len(self._pending)

    @property
    def seconds(self) -> float:
        """Seconds of audio in the corpus, what is not flushed included."""
        return self._ends["audio_end"] / SAMPLE_RATE

    def append(
        self,
        audio: NDArray[np.int16],
        text: str,
        *,
        source: str,
        speaker: str | None = None,
        phone_ids: Sequence[int] | NDArray[np.integer] = (),
        phone_frames: Sequence[int] | NDArray[np.integer] = (),
    ) -> None:
        """Add one utterance.

        Args:
            audio: Samples ``(S,)`` int16, mono, 16 kHz.
            text: What is said in it.
            source: Where it comes from, for example ``kokoro`` or ``librispeech``.
            speaker: Who speaks; None where that is not known or never comes twice.
            phone_ids: ``(P,)`` in 0..255; 0 is a gap.
            phone_frames: ``(P,)`` frames of 25 ms, in the order of ``phone_ids``.

        Raises:
            AudioError: not int16 mono, or as many phones as lengths were not given.
        """
        if audio.dtype != np.int16 or audio.ndim != 1:
            raise AudioError(f"corpus: wants int16 (S,), got {audio.dtype} {audio.shape}")
        if len(phone_ids) != len(phone_frames):
            raise AudioError(f"corpus: {len(phone_ids)} phones have {len(phone_frames)} lengths")
        encoded = text.encode()
        self._files["audio.i16"].write(np.ascontiguousarray(audio, "<i2").data)
        self._files["text.utf8"].write(encoded)
        self._files["phone_ids.u8"].write(np.asarray(phone_ids, np.uint8).tobytes())
        self._files["phone_frames.u16"].write(np.asarray(phone_frames, "<u2").tobytes())
        self._ends["audio_end"] += len(audio)
        self._ends["text_end"] += len(encoded)
        self._ends["phone_end"] += len(phone_ids)
        number = -1 if speaker is None else self._number(self._names.speakers, speaker)
        self._pending.append(
            (
                self._ends["audio_end"],
                self._ends["text_end"],
                self._ends["phone_end"],
                self._number(self._names.sources, source),
                number,
            )
        )

    def _number(self, names: list[str], name: str) -> int:
        if name not in names:
            names.append(name)
            self._renamed = True
        return names.index(name)

    def flush(self) -> None:
        """Hand all that was appended to the operating system, rows last."""
        for file in self._files.values():
            file.flush()
        if self._renamed:
            self._names.write(self._folder)
            self._renamed = False
        self._index.write(np.array(self._pending, _ROW).tobytes())
        self._index.flush()
        self._count += len(self._pending)
        self._pending.clear()

    def close(self) -> None:
        """Flush and close the files."""
        self.flush()
        for file in (*self._files.values(), self._index):
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Corpus:
    """Reads a corpus; the files are mapped, so opening costs the index alone.

    A corpus that is still being written is read up to its last flush at the time of opening.

    Attributes:
        samples: All audio, ``(S,)`` int16.
        audio_offsets: ``(U + 1,)`` int64; utterance i is ``samples[offsets[i]:offsets[i + 1]]``.
        phone_ids, phone_frames: All phones, ``(P,)`` uint8 and uint16.
        phone_offsets: ``(U + 1,)`` int64, as for the audio; equal neighbours: phones not known.
        sources, speakers: ``(U,)`` int32, positions in ``source_names``, ``speaker_names``;
            speaker -1 is not known.

    Raises:
        AudioError: the folder holds no corpus, or one of another format.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        names = _Names.read(self.folder)
        rows = _valid_rows(self.folder, names)
        self.source_names, self.speaker_names = names.sources, names.speakers
        self.audio_offsets = _offsets(rows["audio_end"])
        self.phone_offsets = _offsets(rows["phone_end"])
        self._text_offsets = _offsets(rows["text_end"])
        self.sources: NDArray[np.int32] = rows["source"].astype(np.int32)
        self.speakers: NDArray[np.int32] = rows["speaker"].astype(np.int32)
        self.samples: NDArray[np.int16] = self._map("audio.i16", "<i2", self.audio_offsets)
        self._text: NDArray[np.uint8] = self._map("text.utf8", "u1", self._text_offsets)
        self.phone_ids: NDArray[np.uint8] = self._map("phone_ids.u8", "u1", self.phone_offsets)
        self.phone_frames: NDArray[np.uint16] = self._map(
            "phone_frames.u16", "<u2", self.phone_offsets
        )

    def _map(self, name: str, dtype: str, offsets: NDArray[np.int64]) -> NDArray[Any]:
        count = int(offsets[-1])
        if not count:  # an empty file cannot be mapped
            return np.empty(0, dtype)
        return np.memmap(self.folder / name, dtype=dtype, mode="r", shape=(count,))

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def seconds(self) -> float:
        """Seconds of audio."""
        return int(self.audio_offsets[-1]) / SAMPLE_RATE

    def audio(self, i: int) -> NDArray[np.int16]:
        """Samples of utterance ``i``, ``(S,)`` int16, read-only."""
        return self.samples[self.audio_offsets[i] : self.audio_offsets[i + 1]]

    def text(self, i: int) -> str:
        """What is said in utterance ``i``."""
        return self._text[self._text_offsets[i] : self._text_offsets[i + 1]].tobytes().decode()

    def phones(self, i: int) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
        """Phone ids and their lengths in 25 ms frames, ``(P,)`` both; empty where not known."""
        span = slice(self.phone_offsets[i], self.phone_offsets[i + 1])
        return self.phone_ids[span], self.phone_frames[span]

    def __getitem__(self, i: int) -> Utterance:
        if not 0 <= i < len(self):
            raise IndexError(f"corpus: utterance {i} of {len(self)}")
        speaker = int(self.speakers[i])
        return Utterance(
            self.audio(i),
            self.text(i),
            *self.phones(i),
            self.source_names[int(self.sources[i])],
            None if speaker < 0 else self.speaker_names[speaker],
        )

    def __iter__(self) -> Iterator[Utterance]:
        return (self[i] for i in range(len(self)))


def _offsets(ends: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), ends.astype(np.int64)])
