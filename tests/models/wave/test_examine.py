"""What goes wrong with a long recording is seen in its minutes."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile

import audiomamba
from audiomamba.models.wave.examine import examine, plot
from tests.models.wave.tiny import tiny_checkpoint

RATE = 8_000


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
    root = ElementTree.fromstring(plot(minutes))
    assert len(root.findall("{*}polyline")) == 5


def test_a_plot_without_a_model_has_no_bits(recording: Path) -> None:
    assert "bits" not in plot(list(examine(recording, every_s=1.0)))
