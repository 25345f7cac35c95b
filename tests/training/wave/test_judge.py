"""Several judges of words, and the measures of variety."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import audiomamba
from audiomamba.audio.mulaw import compand
from audiomamba.errors import ConfigError
from audiomamba.models.wave.synthesizer import Synthesizer
from audiomamba.training.wave import judge as judging
from audiomamba.training.wave.config import WaveDataConfig
from audiomamba.training.wave.heard import recordings_of, strings_of
from audiomamba.training.wave.judge import frechet_distance, inception_score, main
from audiomamba.training.wave.takes import Sound
from tests.models.wave.tiny import tiny_checkpoint, tiny_config

RATE = 8_000
LABELS = ["yes", "no", "stop"]


def tone(label: str, seed: int) -> np.ndarray:
    rng = np.random.default_rng([LABELS.index(label), seed])
    hz = (300, 900, 2000)[LABELS.index(label)] * rng.uniform(0.95, 1.05)
    time = np.arange(int(rng.uniform(0.3, 0.8) * RATE)) / RATE
    sound = 0.5 * np.sin(2 * np.pi * hz * time) + rng.normal(0, 0.01, len(time))
    return sound.astype(np.float32)


def test_variety_is_measured() -> None:
    sure = torch.eye(4).repeat(5, 1)
    assert inception_score(sure) == pytest.approx(4, rel=1e-3)
    assert inception_score(torch.full((20, 4), 0.25)) == pytest.approx(1)
    assert inception_score(sure[:1].repeat(20, 1)) == pytest.approx(1)


def test_the_distance_of_equals_is_none_and_that_of_shifted_ones_the_shift() -> None:
    x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(x, x + 2) == pytest.approx(12, rel=1e-4)
    assert frechet_distance(x, 3 * x) > 8


class Perfect:
    """An engine that says every label as it should be said."""

    def begin(self, labels: list[int], speakers: list[int]) -> list[int]:
        return labels

    def phase(self, state: list[int]) -> int:
        return 0

    def draw(self, state: list[int], *rest: object) -> np.ndarray:
        samples = rest[-1]
        assert isinstance(samples, int)
        sounds = [compand(tone(LABELS[label], 99 + row)) for row, label in enumerate(state)]
        return np.stack([np.pad(s, (0, samples - len(s)), constant_values=128) for s in sounds])


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    records = []
    for label in LABELS:
        for who in ("ann", "bob"):
            for seed in range(6):
                path = f"{label}-{who}-{seed}.wav"
                soundfile.write(tmp_path / path, tone(label, seed), RATE)
                records.append({"path": path, "text": label, "speaker": who, "index": seed})
    file = tmp_path / "m.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


def perfect_recogniser(samples: np.ndarray) -> str:
    power = np.square(np.abs(np.fft.rfft(samples)))
    hz = float(np.argmax(power) * 16_000 / len(samples))
    return f" {LABELS[int(np.argmin(np.abs(np.array([300, 900, 2000]) - hz)))].upper()}. "


@pytest.mark.slow
def test_made_real_and_resynthesised_words_are_judged_side_by_side(
    manifest: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = tiny_config(sample_rate=RATE)
    folder = tiny_checkpoint(tmp_path / "tiny", config)
    model: Synthesizer = audiomamba.load(str(folder))
    recognisers = {"perfect": perfect_recogniser, "deaf": lambda samples: "yes"}
    monkeypatch.setattr(judging, "_recognisers", lambda options, labels: recognisers)
    command = [str(folder), "--manifests", str(manifest), "--each", "2", "--steps", "25"]
    command += ["--temperatures", "0.8", "1", "--cache", str(tmp_path / "cache")]
    main([*command, "--json", str(tmp_path / "noise.json")])
    monkeypatch.setattr(model, "_engine", Perfect())
    monkeypatch.setattr(judging, "load", lambda name: model)
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").iterdir()}
    main([*command, "--json", str(tmp_path / "perfect.json")])
    assert len(kept) == 3  # a classifier a speaker, and one that knows all; trained once
    assert kept == {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").iterdir()}

    noise, perfect = (
        json.loads((tmp_path / f"{name}.json").read_text()) for name in ("noise", "perfect")
    )
    sources = ["real", "resynthesised", "made, temperature 0.8", "made, temperature 1"]
    for own in perfect["judges"], noise["judges"]:
        assert [list(found) for found in own.values()] == [sources] * 4
    strangers, classifier, right, deaf = perfect["judges"].values()
    assert set(strangers.values()) == set(classifier.values()) == set(right.values()) == {1.0}
    assert set(deaf.values()) == {1 / 3}
    assert noise["judges"]["perfect"]["made, temperature 1"] < 0.8
    assert noise["judges"]["perfect"]["resynthesised"] == 1.0
    for row in noise["speakers"]:
        made = row["made, temperature 1"]
        assert made["frechet"] > 10 * row["floor"] and row["real"]["frechet"] < 1e-6
        assert made["recordings"] == 6 and row["real"]["recordings"] == 15
    table = capsys.readouterr().out
    assert "| perfect | 100.0 | 100.0 | 100.0 | 100.0 |" in table
    assert "| deaf | 33.3 | 33.3 | 33.3 | 33.3 |" in table and "| ann | 100.0 |" in table


def test_words_that_have_an_end_are_judged_until_it(tmp_path: Path) -> None:
    config = tiny_config(sample_rate=RATE, label_states=2)
    model = audiomamba.load(str(tiny_checkpoint(tmp_path / "tiny", config)))
    sounds = [Sound(tone("yes", 1), "yes", "ann", True, True)]
    *_, made = recordings_of("ann", sounds, model, WaveDataConfig(), each=2, temperatures=[1.0])
    assert made.labels == ["yes", "yes", "no", "no", "stop", "stop"]
    lengths = {len(sound) for sound in made.sounds}
    assert len(lengths) == 6 and min(lengths) > 0.5 * RATE and max(lengths) < 0.75 * RATE


def test_several_seeds_are_heard_apart(tmp_path: Path) -> None:
    model = audiomamba.load(str(tiny_checkpoint(tmp_path / "tiny", tiny_config(sample_rate=RATE))))
    sounds = [Sound(tone("yes", 1), "yes", "ann", True, True)]

    def made(*seeds: int) -> dict[str, list[np.ndarray]]:
        heard = recordings_of(
            "ann", sounds, model, WaveDataConfig(), each=1, temperatures=[0.8, 1.0], seeds=seeds
        )
        return {one.source: one.sounds for one in heard[2:]}

    both, alone = made(3, 4), made(4)
    assert list(both) == [
        f"made, temperature {t}, seed {seed}" for t in ("0.8", "1") for seed in (3, 4)
    ]
    assert list(alone) == ["made, temperature 0.8", "made, temperature 1"]
    for name in alone:
        again = zip(both[f"{name}, seed 4"], alone[name], strict=True)
        assert all(np.array_equal(a, b) for a, b in again)


def test_strings_say_every_label_as_often_in_all_sources(tmp_path: Path) -> None:
    config = tiny_config(sample_rate=RATE, label_states=2)
    model = audiomamba.load(str(tiny_checkpoint(tmp_path / "tiny", config)))
    sounds = [Sound(tone(label, n), label, "ann", True, True) for label in LABELS for n in (1, 2)]
    heard = strings_of(
        "ann", sounds, model, WaveDataConfig(peak=0.7), words=2, count=6, temperatures=[1.0]
    )
    assert [one.source for one in heard] == ["real", "resynthesised", "made, temperature 1"]
    assert heard[0].labels == heard[1].labels == heard[2].labels
    words = " ".join(heard[0].labels).split()
    assert [words.count(label) for label in LABELS] == [4, 4, 4]
    assert all(len(label.split()) == 2 for label in heard[0].labels)
    # As the words follow each other, so do the tones; between them and at the end are pauses.
    for string, label in zip(heard[0].sounds, heard[0].labels, strict=True):
        assert not string[-round(0.08 * RATE) :].any()
        first = string[: round(0.3 * RATE)]
        hz = float(np.argmax(np.abs(np.fft.rfft(first))) * RATE / len(first))
        assert hz == pytest.approx((300, 900, 2000)[LABELS.index(label.split()[0])], rel=0.06)
    assert min(len(sound) for sound in heard[2].sounds) > RATE * 0.8


def test_nobody_to_compare_with_is_an_error(manifest: Path, tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "tiny", tiny_config(sample_rate=RATE, speakers=["eve"]))
    with pytest.raises(ConfigError, match="no held-out recordings of eve"):
        main([str(folder), "--manifests", str(manifest)])


def test_a_transcriber_is_not_judged(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["listen-en", "--manifests", str(manifest)])
    assert "makes no sound" in capsys.readouterr().err
