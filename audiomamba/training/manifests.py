"""Lists of recordings with what is said in them, in the forms people have them in.

- Lines of JSON (``.jsonl``, ``.json``), one recording each: ``path`` and ``text``, and where they
  apply ``speaker``, ``source``, ``split``, ``start`` and ``end`` (samples of the file). NeMo's
  ``audio_filepath``, ``offset`` and ``duration`` (seconds) are understood too.
- A table with a header (``.tsv``, ``.csv``): ``path`` and ``sentence``, ``text`` or ``transcript``,
  as Common Voice has it (``client_id`` is the speaker).

Files lie in a tar of the manifest's name beside it, or are named from the manifest's folder or its
``clips``. Texts may have capitals, digits and punctuation: they are spelt as they are spoken.
"""

import csv
import json
import re
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from audiomamba.errors import AudioError
from audiomamba.text.normalize import normalize

__all__ = ["Record", "files", "read"]

Record = dict[str, Any]

_TABLES = {".tsv": "\t", ".csv": ","}
_ALIASES = {
    "audio_filepath": "path",
    "file": "path",
    "sentence": "text",
    "transcript": "text",
    "client_id": "speaker",
}
_SPELT = re.compile(r"[a-z' ]*")


def read(manifest: Path) -> Iterator[Record]:
    """The records of a manifest, with the names and the spelling that are used here.

    Raises:
        AudioError: it cannot be read; a record has no path.
    """
    try:
        with manifest.open(encoding="utf-8", newline="") as lines:
            if manifest.suffix in _TABLES:
                rows: Iterable[Record] = csv.DictReader(lines, delimiter=_TABLES[manifest.suffix])
            else:
                rows = (dict(json.loads(line)) for line in lines if line.strip())
            for row in rows:
                yield _record(row)
    except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
        raise AudioError(f"{manifest}: cannot be read as a manifest: {error!r}") from None


def _record(row: Record) -> Record:
    record = {_ALIASES.get(name, name): value for name, value in row.items()}
    if not record["path"]:
        raise KeyError("path")
    text = record.get("text")
    if text and not _SPELT.fullmatch(text):
        record["text"] = normalize(text)
    return record


def files(manifest: Path, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """The files of a manifest and their contents; of a tar in its own order.

    Raises:
        AudioError: one of them is missing, or cannot be read.
    """
    wanted = dict.fromkeys(names)
    tar = manifest.with_suffix(".tar")
    try:
        if tar.is_file():
            with tarfile.open(tar) as archive:
                for member in archive:
                    file = archive.extractfile(member) if member.name in wanted else None
                    if file is not None:
                        del wanted[member.name]
                        yield member.name, file.read()
            if wanted:
                raise FileNotFoundError(f"{tar.name} has no {next(iter(wanted))}")
        for name in wanted:
            yield name, _beside(manifest, name).read_bytes()
    except (OSError, tarfile.TarError) as error:
        raise AudioError(f"{manifest}: a recording cannot be read: {error}") from None


def _beside(manifest: Path, name: str) -> Path:
    found = manifest.parent / name
    within = manifest.parent / "clips" / name
    return within if not found.exists() and within.exists() else found
