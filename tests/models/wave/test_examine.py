"""What goes wrong with a long recording is seen in its minutes."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile

import audiomamba
from audiomamba.errors import ConfigError
from audiomamba.models.wave.examine import examine, hearing, main, plot
from tests.models.wave.puppet import puppet_checkpoint
from tests.models.wave.tiny import tiny_checkpoint

RATE = 8_000
RECORDING = Path(__file__).parents[2] / "recordings" / "zero_one_five.flac"


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    time = np.arange(RATE) / RATE
    tone = 0.5 * np.sin(2 * np.pi * 1000 * time)
    noise = np.random.default_rng(0).uniform(-1, 1, RATE)
    soundfile.write(tmp_path / "a.wav", np.concatenate([tone, noise, 0 * time]), RATE)
    return tmp_path / "a.wav"


def test_a_tone_then_noise_then_silence(recording: Path) -> None:
    tone, noise, silence = examine(recording, every_s=1.0)
    assert [m.start_s for m in (tone, noise, silence)] == [0.0, 1.0, 2.0]
    assert tone.rms_db == pytest.approx(-9.03, abs=0.05) and tone.peak == pytest.approx(
        0.5, abs=0.01
    )
    assert tone.centroid_hz == pytest.approx(1000, abs=15) and tone.flatness < 0.01
    assert noise.rms_db == pytest.approx(-4.8, abs=0.2) and noise.flatness > 0.5
    assert noise.centroid_hz == pytest.approx(2000, abs=150)
    assert (tone.silent, noise.silent, silence.silent) == (0, 0, 1)
    assert tone.bits is None


def test_the_likelihood_is_that_of_the_end_of_each_stretch(recording: Path, tmp_path: Path) -> None:
    model = audiomamba.load(str(tiny_checkpoint(tmp_path / "tiny")))
    minutes = list(examine(recording, model=model, every_s=1.0, likelihood_s=0.05))
    sound, _ = soundfile.read(recording, dtype="float32")
    assert minutes[0].bits == pytest.approx(float(model.bits(sound[7600:8000]).mean()), abs=1e-3)
    assert "bits a sample" in plot(minutes)


def test_a_plot_without_a_model_has_no_bits(recording: Path) -> None:
    drawn = plot(list(examine(recording, every_s=1.0)))
    assert "bits" not in drawn and "words" not in drawn
    assert len(ElementTree.fromstring(drawn).findall(".//{*}polyline")) == 4


def test_words_are_counted_and_those_expected_told_apart(recording: Path, tmp_path: Path) -> None:
    model = audiomamba.load(str(tiny_checkpoint(tmp_path / "tiny")))
    said = iter([["yes", "no", "yes", "maybe"], [], ["stop"]])
    heard: list[tuple[int, int]] = []

    def hear(samples: np.ndarray, rate: int) -> list[str]:
        heard.append((len(samples), rate))
        return next(said)

    first, second, third = examine(recording, model=model, hear=hear, every_s=1.0, likelihood_s=0.1)
    assert heard == [(RATE, RATE)] * 3
    assert (first.words_per_min, first.expected, first.commonest) == (240.0, 0.75, 0.5)
    assert (second.words_per_min, second.expected, second.commonest) == (0.0, None, None)
    assert (third.words_per_min, third.expected) == (60.0, 1.0)
    drawn = ElementTree.fromstring(plot([first, second, third]))
    assert len(drawn.findall(".//{*}polyline")) == 5 + 1 + 2 * 2  # those with a gap are two


def test_other_words_than_the_labels_may_be_expected(recording: Path) -> None:
    minutes = examine(recording, hear=lambda *_: ["six", "sick"], words=["six"], every_s=10.0)
    assert [minute.expected for minute in minutes] == [0.5]


def test_a_recogniser_begins_anew_each_time() -> None:
    hear = hearing(audiomamba.load("listen-en"))
    sound, rate = soundfile.read(RECORDING, dtype="float32")
    assert hear(sound, rate) == hear(sound, rate) == ["zero", "one", "five"]
    assert hear(np.zeros(rate, np.float32), rate) == []


def test_the_whole_command_makes_hears_and_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = str(puppet_checkpoint(tmp_path / "puppet")), tmp_path / "a.wav"
    arguments = [out, "--model", model, "--make", 4, "--label", "silent", "--every-s", 1]
    arguments += [
        "--listen",
        "listen-en",
        "--plot",
        tmp_path / "a.svg",
        "--json",
        tmp_path / "a.json",
    ]
    main([str(argument) for argument in arguments])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["start_s"] for line in lines] == [0.0, 1.0, 2.0, 3.0]
    assert sum(line["interventions"] for line in lines) == 2
    assert all(line["words_per_min"] == 0 for line in lines)
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["minutes"] == lines and report["wishes"]["labels"] == ["silent"]
    memory = report["memory"]
    assert memory["state_bytes_first"] == memory["state_bytes_last"] > 0
    assert 0 < memory["resident_mb_first"] <= memory["resident_mb_last"] + 50
    assert "interventions" in (tmp_path / "a.svg").read_text()
    (tmp_path / "a.wav.state").touch()
    with pytest.raises(ConfigError, match="is unfinished"):
        main([str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model", "listen-en"], "makes no sound"),
        (["--listen", "MODEL"], "does not transcribe"),
        (["--make", "1"], "--make wants --model"),
    ],
)
def test_a_wrong_call_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    model = str(tiny_checkpoint(tmp_path / "tiny"))
    with pytest.raises(SystemExit) as ended:
        main(["a.wav", *(model if word == "MODEL" else word for word in arguments)])
    assert ended.value.code == 2 and says in capsys.readouterr().err
