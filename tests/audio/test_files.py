import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiomamba.audio import files
from audiomamba.errors import AudioError

TONE = (0.3 * np.sin(2 * np.pi * 440 * np.arange(24000) / 24000)).astype(np.float32)


def _write(path: Path, samples: np.ndarray, rate: int = 24000) -> Path:
    subtype = "OPUS" if path.suffix == ".ogg" else None
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3"])
def test_a_file_of_any_kind_becomes_mono_at_16_khz(ending: str, tmp_path: Path) -> None:
    samples = files.read(_write(tmp_path / f"tone.{ending}", TONE))
    assert samples.dtype == np.float32
    assert abs(len(samples) - 16000) < 2000  # mp3 pads to its frames
    spectrum = np.abs(np.fft.rfft(samples[2000:14000]))
    assert abs(spectrum.argmax() * 16000 / 12000 - 440) < 2


def test_an_open_file_is_read_as_well() -> None:
    file = io.BytesIO()
    soundfile.write(file, TONE, 16000, format="FLAC")
    file.seek(0)
    np.testing.assert_allclose(files.read(file), TONE, atol=2e-5)


def test_channels_are_mixed(tmp_path: Path) -> None:
    path = _write(tmp_path / "two.wav", np.stack([TONE, -TONE], 1), 16000)
    np.testing.assert_allclose(files.read(path), 0.0, atol=1e-4)


def test_blocks_have_the_asked_length_and_all_channels(tmp_path: Path) -> None:
    path = _write(tmp_path / "two.wav", np.stack([TONE, TONE], 1))
    blocks = list(files.stream(path, 0.3))
    assert [(rate, block.shape) for rate, block in blocks] == [
        (24000, (7200, 2)), (24000, (7200, 2)), (24000, (7200, 2)), (24000, (2400, 2)),
    ]  # fmt: skip


def test_an_empty_file_has_no_samples(tmp_path: Path) -> None:
    assert len(files.read(_write(tmp_path / "empty.wav", TONE[:0]))) == 0


def test_what_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="no such file"):
        files.read(tmp_path / "none.wav")


def test_what_is_not_audio_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "notes.wav"
    path.write_text("these are no samples")
    with pytest.raises(AudioError, match=r"notes\.wav: cannot be read as audio"):
        files.read(path)
