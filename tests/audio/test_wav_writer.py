"""WAV files that are whole at every moment."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiomamba.audio import wav_writer
from audiomamba.audio.wav_writer import WavWriter
from audiomamba.errors import AudioError

RATE = 8_000


def ramp(n: int) -> np.ndarray:
    return (np.arange(n) / 1000 - 0.5).astype(np.float32)


def test_the_file_can_be_read_after_every_write(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    writer = WavWriter(path, RATE)
    for samples in (0, 3, 400):
        writer.write(ramp(samples))
        sound, rate = soundfile.read(path, dtype="float32")
        assert (rate, len(sound)) == (RATE, writer.samples)
    writer.close()
    writer.close()
    np.testing.assert_allclose(sound[3:], ramp(400), atol=1e-4)


def test_what_the_header_does_not_count_is_no_harm_and_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with WavWriter(path, RATE) as writer:
        writer.write(ramp(100))
    with path.open("ab") as file:
        file.write(b"half a sample more")
    assert len(soundfile.read(path)[0]) == 100
    with WavWriter(path, RATE, keep=60) as writer:
        writer.write(ramp(5))
    assert path.stat().st_size == 44 + 2 * 65
    sound, _ = soundfile.read(path, dtype="float32")
    np.testing.assert_allclose(sound, np.concatenate([ramp(100)[:60], ramp(5)]), atol=1e-4)


def test_what_cannot_be_gone_on_with_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with WavWriter(path, RATE) as writer:
        writer.write(ramp(10))
    before = path.read_bytes()
    for rate, keep, says in ((RATE, 11, "holds 10 samples"), (16_000, 5, "wants 16000")):
        with pytest.raises(AudioError, match=says):
            WavWriter(path, rate, keep=keep)
    assert path.read_bytes() == before
    path.write_bytes(b"fLaC")
    with pytest.raises(AudioError, match="no WAV"):
        WavWriter(path, RATE, keep=0)


def test_a_file_longer_than_a_wav_can_be_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wav_writer, "MOST_SAMPLES", 12)
    with WavWriter(tmp_path / "a.wav", RATE) as writer:
        writer.write(ramp(10))
        with pytest.raises(AudioError, match="at most"):
            writer.write(ramp(3))
