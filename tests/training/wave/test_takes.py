"""Recordings with labels, from a tar or a folder."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from audiomamba.audio.mulaw import expand
from audiomamba.errors import AudioError
from audiomamba.models.wave.model import NOBODY
from audiomamba.training.corpus import CorpusWriter
from audiomamba.training.wave.config import WaveDataConfig
from audiomamba.training.wave.takes import (
    numbers,
    read_corpus,
    read_manifest,
    read_sounds,
    take_of,
    trimmed,
)

RATE = 8_000


def tone(seconds: float, rate: int = RATE) -> np.ndarray:
    return (0.25 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)).astype("f4")


def write(folder: Path, records: list[dict[str, Any]]) -> Path:
    manifest = folder / "m.jsonl"
    manifest.write_text("".join(json.dumps(record) + "\n" for record in records))
    return manifest


def test_a_tar_is_cut_into_its_takes(tmp_path: Path) -> None:
    encoded = io.BytesIO()
    soundfile.write(encoded, tone(0.5), RATE, format="FLAC")
    with tarfile.open(tmp_path / "m.tar", "w") as tar:
        member = tarfile.TarInfo("a.flac")
        member.size = len(encoded.getvalue())
        tar.addfile(member, io.BytesIO(encoded.getvalue()))
    records = [
        {"path": "a.flac", "start": 400 * i, "end": 400 * (i + 1), "text": text, "speaker": "s",
         "split": split, "index": i}
        for i, (text, split) in enumerate([("one", "train"), ("two", "train"), ("one", "dev")])
    ]  # fmt: skip
    manifest = write(tmp_path, records)
    takes = read_manifest(manifest, WaveDataConfig(held_out_takes=1, peak=0.5), RATE)
    assert [len(take.codes) for take in takes] == [400] * 3
    assert [(t.label, t.held_out, t.known_speaker) for t in takes] == [
        ("one", True, True), ("two", False, True), ("one", True, False),
    ]  # fmt: skip
    assert float(np.abs(expand(takes[0].codes)).max()) == pytest.approx(0.5, abs=0.02)
    only = read_manifest(manifest, WaveDataConfig(labels=["two"]), RATE)
    assert [take.label for take in only] == ["two"]


def test_a_folder_of_files_at_another_rate(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", tone(0.1, 16_000), 16_000)
    manifest = write(tmp_path, [{"path": "x.wav", "label": "hum"}] * 3)
    takes = read_manifest(manifest, WaveDataConfig(held_out_every=3), RATE)
    assert [take.held_out for take in takes] == [True, False, False]
    assert {len(take.codes) for take in takes} == {800}
    assert takes[0].speaker is None


def test_silence_at_the_ends_is_cut_off(tmp_path: Path) -> None:
    quiet = np.zeros(2_000, np.float32)
    soundfile.write(tmp_path / "x.wav", np.concatenate([quiet, tone(0.1), quiet]), RATE)
    manifest = write(tmp_path, [{"path": "x.wav"}])
    (take,) = read_manifest(manifest, WaveDataConfig(trim_db=40.0), RATE)
    assert len(take.codes) == pytest.approx(800 + 2 * 240, abs=8)
    (whole,) = read_manifest(manifest, WaveDataConfig(), RATE)
    assert len(whole.codes) == 4_800


def test_the_end_can_be_cut_at_another_level() -> None:
    faint = 0.02 * tone(0.1)
    sound = np.concatenate([faint, tone(0.1), faint])
    assert len(trimmed(sound, 40.0, RATE)) == pytest.approx(2_400, abs=8)
    assert len(trimmed(sound, 40.0, RATE, after_db=30.0)) == pytest.approx(1_600 + 240, abs=8)
    assert len(trimmed(sound, 0.0, RATE)) == 2_400


def test_a_corpus_gives_the_utterances_that_are_labels(tmp_path: Path) -> None:
    with CorpusWriter(tmp_path / "c") as writer:
        for text in ("one", "one two", "two"):
            sound = np.round(tone(0.05, 16_000) * 32_767).astype(np.int16)
            writer.append(sound, text, source="made", speaker="v")
    takes = read_corpus(tmp_path / "c", WaveDataConfig(labels=["one", "two"]), RATE)
    assert [take.label for take in takes] == ["one", "two"]
    assert [take.held_out for take in takes] == [True, False]
    assert len(takes[0].codes) == 400


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"path": "none.wav"}, "a recording cannot be read"),
        ({"label": "x"}, "as a manifest"),
        ({"path": "m.jsonl"}, "audio"),
    ],
)
def test_what_cannot_be_read_is_one_clear_error(
    tmp_path: Path, record: dict[str, Any], says: str
) -> None:
    with pytest.raises(AudioError, match=says) as error:
        read_manifest(write(tmp_path, [record]), WaveDataConfig(), RATE)
    assert "\n" not in str(error.value)


def test_names_become_numbers() -> None:
    assert numbers(["b", None, "c"], ["a", "b"]).tolist() == [1, NOBODY, NOBODY]


def test_words_that_were_joined_are_told_apart_again(tmp_path: Path) -> None:
    words = np.concatenate([tone(0.5), np.zeros(RATE // 2, "f4"), 0.1 * tone(0.5)])
    soundfile.write(tmp_path / "a.wav", words, RATE, subtype="FLOAT")
    record = {"path": "a.wav", "text": "one two one", "joined": 3, "speaker": "ann"}
    whole = record | {"label": "all of it", "joined": 3}
    manifest = write(tmp_path, [record, record | {"joined": 2}, whole])
    sounds = read_sounds(manifest, WaveDataConfig(), RATE)
    assert [sound.label for sound in sounds] == ["one", "two", "one", "one two one", "all of it"]
    np.testing.assert_allclose(np.concatenate([s.samples for s in sounds[:3]]), words, atol=1e-6)
    assert len(sounds[3].samples) == len(sounds[4].samples) == len(words)
    only = read_manifest(manifest, WaveDataConfig(labels=["two"]), RATE)
    assert [(take.label, len(take.codes)) for take in only] == [("two", RATE // 2)]
    loudest = [
        np.abs(take_of(sound, WaveDataConfig(peak=0.5)).codes - 128.0).max() for sound in sounds
    ]
    assert loudest[0] == pytest.approx(loudest[2], abs=1)
