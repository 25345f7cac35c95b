import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from audiomamba.errors import AudioError
from audiomamba.training.corpus import Corpus
from audiomamba.training.recordings import CORPORA, pack, utterances


def tone(hz: float, rate: int, seconds: float) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


def flac(samples: np.ndarray, rate: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def write_set(
    folder: Path, name: str, files: dict[str, bytes], records: list[dict[str, Any]]
) -> None:
    with tarfile.open(folder / f"{name}.tar", "w") as tar:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))


def test_what_is_no_audio_is_refused_by_name() -> None:
    with pytest.raises(AudioError, match="clip.ogg: cannot be read"):
        list(utterances(b"not audio", [{"path": "clip.ogg"}]))


@pytest.mark.parametrize("rate", [8_000, 12_000, 22_000, 44_100, 48_000])
def test_records_are_cut_out_at_16_khz_whatever_the_file_has(rate: int) -> None:
    records: list[dict[str, Any]] = [
        {"path": "a", "start": rate // 4, "end": rate // 2},
        {"path": "a", "offset": 0.25, "duration": 0.25},
        {"path": "a", "offset": 0.25},
        {"path": "a"},
    ]
    found = [own for _, own in utterances(flac(tone(440, rate, 1.0), rate), records)]
    assert [len(own) for own in found] == [4_000, 4_000, 12_000, 16_000]
    want = tone(440, 16_000, 1.0)
    for own in found[:2]:
        np.testing.assert_allclose(own, want[4_000:8_000], atol=3e-3)


@pytest.mark.slow
def test_only_the_wanted_split_with_text_is_packed(tmp_path: Path) -> None:
    content = flac(tone(300, 8000, 1.0), 8000)
    shared = {"path": "a.flac", "source": "s", "speaker": "x", "rate": 8000}
    records = [
        shared | {"text": "one", "split": "train", "start": 0, "end": 3000},
        shared | {"text": "two", "split": "dev", "start": 3000, "end": 6000},
        shared | {"text": None, "split": "train", "start": 6000, "end": 8000},
    ]
    write_set(tmp_path, "digits", {"a.flac": content}, records)
    made = pack(tmp_path, tmp_path / "out", names=["digits", "digits-dev"], processes=1)
    assert made == {"digits": (1, 0.375), "digits-dev": (1, 0.375)}
    (one,) = Corpus(tmp_path / "out" / "digits")
    assert (one.text, one.source, one.speaker, len(one.audio)) == ("one", "s", "x", 6000)
    with pytest.raises(AudioError, match="already"):
        pack(tmp_path, tmp_path / "out", names=["digits"], processes=1)


def test_nothing_of_dev_is_trained_on() -> None:
    assert CORPORA["train"].split == CORPORA["digits"].split == "train"
