"""The waveform models that ship: each makes sound, wave-digits is heard to say digits."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

import audiomamba
from audiomamba.cli.main import main
from audiomamba.models.registry import available
from audiomamba.models.wave.examine import hearing
from audiomamba.models.wave.synthesizer import Synthesizer

VOICES = [info.name for info in available() if info.kind == "wave"]
DIGITS = set("zero one two three four five six seven eight nine".split())


@pytest.mark.parametrize("name", VOICES)
def test_a_model_that_ships_makes_sound_without_a_setting(name: str, tmp_path: Path) -> None:
    out = tmp_path / "a.wav"
    assert main(["generate", name, "-o", str(out), "--seconds", "2"]) == 0
    sound, rate = soundfile.read(out)
    assert len(sound) == 2 * rate and 0.003 < np.sqrt(np.mean(sound**2)) < 0.5


@pytest.mark.parametrize("name", VOICES)
def test_a_model_that_ships_has_a_card_a_licence_and_a_guard(name: str) -> None:
    [info] = [info for info in available() if info.name == name]
    assert info.licence != "unknown" and info.figures
    card = (info.folder / "README.md").read_text()
    assert f"# {name}" in card and "## Data and credits" in card
    model = audiomamba.load(name)
    assert isinstance(model, Synthesizer) and model.statistics is not None
    networks = 1 if model.sampling.guidance == 1 else 2  # one is told, one is not
    made = model.start(speakers=model.config.speakers[:1] or [None])
    assert made.state_bytes < networks * 1e6


@pytest.mark.skipif("wave-digits" not in VOICES, reason="wave-digits does not ship")
def test_wave_digits_says_digits() -> None:
    model = audiomamba.load("wave-digits")
    [sound] = model.start(speakers=["fsdd-nicolas"], seed=1).next(8 * model.sample_rate)
    heard = hearing(audiomamba.load("listen-en"))(sound, model.sample_rate)
    assert len([word for word in heard if word in DIGITS]) >= 3, heard


@pytest.mark.skipif("wave-digits" not in VOICES, reason="wave-digits does not ship")
def test_wave_digits_says_the_digits_that_it_is_asked_for() -> None:
    model, hear = audiomamba.load("wave-digits"), hearing(audiomamba.load("listen-en"))
    asked = sorted(DIGITS)
    made = model.start(labels=asked, speakers=["fsdd-nicolas"])
    sounds = zip(made.next(max(made.planned)), made.planned, strict=True)
    margin = np.zeros(model.sample_rate // 3, np.float32)
    heard = [hear(np.r_[margin, sound[:n], margin], model.sample_rate) for sound, n in sounds]
    right = sum(words == [word] for words, word in zip(heard, asked, strict=True))
    assert right >= 5, heard
