"""Corpora of recordings that somebody has."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiomamba.errors import AudioError
from audiomamba.training.corpus import Corpus
from audiomamba.training.importing import main


def tone(seconds: float, rate: int) -> np.ndarray:
    return (np.sin(np.arange(round(seconds * rate)) * 2 * np.pi * 440 / rate) / 3).astype("f4")


@pytest.mark.slow
def test_manifests_become_a_corpus_that_can_be_added_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "a.wav", np.stack([tone(2, 44_100)] * 2, 1), 44_100)
    soundfile.write(tmp_path / "b.flac", tone(1, 16_000), 16_000)
    first, second = tmp_path / "mine.jsonl", tmp_path / "more.csv"
    rows = [
        {"audio_filepath": "a.wav", "text": "At 9!", "offset": 0.5, "duration": 1.0},
        {"path": "b.flac", "text": "seven", "source": "kitchen", "split": "dev"},
        {"path": "b.flac", "text": "six", "start": 0, "end": 10},
        {"path": "b.flac", "text": ""},
    ]
    first.write_text("\n".join(map(json.dumps, rows)))
    second.write_text("file,transcript,speaker\nb.flac,again,you\n")
    out = str(tmp_path / "corpus")
    main([out, "--manifest", str(first), "--split", "train", "--processes", "1"])
    assert "1 utterances" in capsys.readouterr().err
    main([out, "--manifest", str(first), str(second), "--processes", "1"])
    assert "4 utterances, 0.00 hours; 2 left out" in capsys.readouterr().err
    corpus = Corpus(out)
    assert [(u.text, u.source, u.speaker, len(u.audio)) for u in corpus] == [
        ("at nine", "mine", None, 16_000),
        ("at nine", "mine", None, 16_000),
        ("seven", "kitchen", None, 16_000),
        ("again", "more", "you", 16_000),
    ]
    middle = corpus.audio(0)[4_000:12_000].astype(float) / 32_768
    assert np.sqrt((middle**2).mean()) == pytest.approx(1 / 3 / np.sqrt(2), rel=1e-2)


@pytest.mark.slow
def test_librispeech_in_its_own_layout(tmp_path: Path) -> None:
    chapter = tmp_path / "LibriSpeech" / "dev-clean" / "84" / "121"
    chapter.mkdir(parents=True)
    for number in range(2):
        soundfile.write(chapter / f"84-121-000{number}.flac", tone(1 + number, 16_000), 16_000)
    (chapter / "84-121.trans.txt").write_text("84-121-0000 GO\n84-121-0001 DON'T GO MISTER X\n")
    given = ["--librispeech", str(tmp_path), "--processes", "1"]
    main([str(tmp_path / "out"), *given, "--subsets", "dev-clean"])
    assert [(u.text, u.speaker, len(u.audio)) for u in Corpus(tmp_path / "out")] == [
        ("go", "librispeech-84", 16_000),
        ("don't go mister x", "librispeech-84", 32_000),
    ]
    with pytest.raises(AudioError, match="not found"):
        main([str(tmp_path / "out"), *given, "--subsets", "test-clean"])
    with pytest.raises(AudioError, match="Invalid"):
        main([str(tmp_path / "out"), *given, "--subsets", "train-dirty"])


def test_nothing_to_import_is_a_wrong_call(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["somewhere"])
    assert "--manifest or --librispeech" in capsys.readouterr().err
