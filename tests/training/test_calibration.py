"""Calibration: what it fits is what was drawn, what it reports can be counted by hand."""

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

import audiomamba as am
from audiomamba.errors import ConfigError
from audiomamba.models.checkpoint_files import read_config
from audiomamba.models.registry import find
from audiomamba.text.confidence import calibrated
from audiomamba.training.calibration import (
    NOISE_DB,
    Heard,
    disturb,
    expected_error,
    fit,
    hear,
    main,
)
from audiomamba.training.clips import Clip

SPOKEN = Path(__file__).parent.parent / "recordings" / "zero_one_five.flac"


def drawn(scale: float, words: int = 20_000) -> Heard:
    """Words that are right as often as ``scale`` says."""
    random = np.random.default_rng(0)
    certain = random.uniform(0.001, 0.999, words)
    share = np.array([calibrated(p, scale) for p in certain])
    return Heard(certain, random.uniform(size=words) < share)


@pytest.mark.parametrize("scale", [0.2, 0.5, 1.0, 2.5])
def test_the_scale_that_words_were_drawn_from_is_found(scale: float) -> None:
    heard = drawn(scale)
    fitted = fit(heard)
    assert fitted == pytest.approx(scale, rel=0.06)
    found = np.array([calibrated(p, fitted) for p in heard.certain])
    assert expected_error(found, heard.right) < 0.015


def test_a_confidence_never_falls_where_certainty_rises() -> None:
    certain = np.linspace(0.01, 0.99, 500)
    assert fit(Heard(certain, certain < 0.5)) == 0.01  # the surer, the more often wrong


def test_nothing_is_fitted_to_words_that_are_all_right() -> None:
    with pytest.raises(ConfigError, match="20 right of 20"):
        fit(Heard(np.full(20, 0.9), np.ones(20, bool)))


def test_the_error_is_the_mean_distance_in_ten_bins() -> None:
    confidence = np.array([0.95, 0.95, 0.15, 0.15, 1.0])
    right = np.array([True, False, False, False, True])
    # The bin above 0.9 holds three words, two of them right; that above 0.1 holds two, none right.
    assert expected_error(confidence, right) == pytest.approx(abs(2.9 - 2) / 5 + 0.3 / 5)
    assert expected_error(np.zeros(0), np.zeros(0, bool)) == 0.0


def test_noise_is_as_much_under_the_voice_as_is_said() -> None:
    voice = np.sin(np.arange(160_000) / 9).astype(np.float32)
    for seed in range(3):
        noise = disturb(voice, np.random.default_rng(seed)) - voice
        below = 10 * np.log10(np.mean(voice**2) / np.mean(noise**2))
        assert NOISE_DB[0] - 0.1 <= below <= NOISE_DB[1] + 0.1


def test_words_are_right_where_they_were_said() -> None:
    samples, _ = soundfile.read(SPOKEN, dtype="float32")
    listener = am.load("listen-en")
    heard = hear(listener, [Clip("a", "digits", "zero nine five", samples)])
    assert heard.right.tolist() == [True, False, True]
    raw = listener.transcribe(samples, decoder=listener.decoder_config(confidence_scale=1.0)).words
    assert heard.certain.tolist() == [word.confidence for word in raw]


def test_the_command_writes_what_it_fitted_into_the_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "mine"
    shutil.copytree(find("listen-en"), model)
    # Of 60 takes every third is of something else, which makes 60 words of 180 wrong.
    said = ["zero one five", "zero one five", "four two nine"]
    training = manifest(tmp_path / "train.jsonl", [said[i % 3] for i in range(60)], "train")
    reported = manifest(tmp_path / "dev.jsonl", ["zero one five"], "dev")
    main([str(reported), "--model", str(model), "--fit", str(training), "--write"])
    scale = read_config(model)["model"]["confidence_scale"]
    assert scale != 1.0 and f"confidence_scale {scale}" in capsys.readouterr().out
    assert am.load(model).decoder_config().confidence_scale == scale


def manifest(path: Path, texts: list[str], split: str) -> Path:
    """The recording, once for each text that is claimed of it."""
    samples, rate = soundfile.read(SPOKEN, dtype="int16")
    encoded = io.BytesIO()
    soundfile.write(encoded, samples, rate, format="FLAC")
    with tarfile.open(path.with_suffix(".tar"), "w") as tar, path.open("w") as lines:
        for number, text in enumerate(texts):
            info = tarfile.TarInfo(f"{number}.flac")
            info.size = len(encoded.getvalue())
            tar.addfile(info, io.BytesIO(encoded.getvalue()))
            record = {
                "path": info.name,
                "text": text,
                "split": split,
                "source": "x",
                "kind": "digit",
            }
            lines.write(json.dumps(record) + "\n")
    return path
