"""Labelled recordings to measure on."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from audiomamba.errors import AudioError
from audiomamba.training.clips import group_of, read_clips
from audiomamba.training.corpus import CorpusWriter

OCEAN = "jimbozhang/speechocean762"


def write_set(folder: Path, records: list[dict[str, Any]], *, rate: int, samples: int) -> Path:
    manifest = folder / "dev.jsonl"
    manifest.write_text("\n".join(json.dumps(r) for r in records) + "\n")
    tone = np.sin(np.arange(samples) / 5).astype(np.float32) / 2
    with tarfile.open(folder / "dev.tar", "w") as tar:
        for path in dict.fromkeys(r["path"] for r in records):
            file = io.BytesIO()
            soundfile.write(file, tone, rate, format="FLAC")
            info = tarfile.TarInfo(path)
            info.size = len(file.getvalue())
            file.seek(0)
            tar.addfile(info, file)
    return manifest


def record(path: str, **more: Any) -> dict[str, Any]:
    given = {"text": "one", "source": "x/y", "split": "dev", "kind": "sentence"}
    return {"path": path, **given, **more}


def test_what_people_wrote_down_is_read_and_the_rest_left_out(tmp_path: Path) -> None:
    records = [
        record("a.flac"),
        record("b.flac", text_origin="whisper-base"),
        record("c.flac", text=None),
        record("d.flac", split="train"),
    ]
    clips = list(read_clips(write_set(tmp_path, records, rate=16_000, samples=1600)))
    assert [(c.name, c.group, c.text, len(c.samples)) for c in clips] == [
        ("a.flac", "clear", "one", 1600)
    ]


def test_positions_count_at_the_rate_of_the_file(tmp_path: Path) -> None:
    records = [
        record("a.flac", kind="digit", start=0, end=100),
        record("a.flac", kind="digit", start=100, end=400),
    ]
    clips = list(read_clips(write_set(tmp_path, records, rate=8_000, samples=400)))
    assert [(c.name, len(c.samples)) for c in clips] == [("a.flac@0", 200), ("a.flac@100", 600)]


@pytest.mark.parametrize(
    ("fields", "group"),
    [
        ({"source": OCEAN, "age": 13}, "accented/children"),
        ({"source": OCEAN, "age": 20}, "accented/adults"),
        ({"kind": "words"}, "words"),
        ({"kind": "digit"}, "digits"),
        ({}, "clear"),
        ({"kind": "sentence", "group": "meeting"}, "meeting"),
        ({"kind": ""}, "all"),
    ],
)
def test_groups(fields: dict[str, Any], group: str) -> None:
    assert group_of(record("a", **fields)) == group


def test_a_missing_tar_is_named(tmp_path: Path) -> None:
    (tmp_path / "dev.jsonl").write_text(json.dumps(record("a.flac")) + "\n")
    with pytest.raises(AudioError, match=r"dev\.jsonl"):
        list(read_clips(tmp_path / "dev.jsonl"))


def test_a_bare_manifest_of_files_is_enough(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(4410, np.float32), 44_100)
    (tmp_path / "mine.jsonl").write_text(json.dumps({"path": "a.wav", "text": "No. 5"}))
    [clip] = read_clips(tmp_path / "mine.jsonl")
    assert (clip.name, clip.group, len(clip.samples)) == ("a.wav", "all", 1600)
    assert clip.text == "number five"


def test_a_corpus_is_read_whole(tmp_path: Path) -> None:
    with CorpusWriter(tmp_path) as writer:
        writer.append(np.full(800, 16_384, np.int16), "two", source="kokoro")
    [clip] = read_clips(tmp_path)
    assert (clip.group, clip.text, len(clip.samples)) == ("kokoro", "two", 800)
    assert clip.samples[0] == 0.5
