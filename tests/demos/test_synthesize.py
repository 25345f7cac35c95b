import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from audiomamba.models.registry import SHIPPED
from tests.models.wave.tiny import tiny_checkpoint, tiny_config

DEMO = Path(__file__).parents[2] / "demos" / "synthesize.py"


def test_words_become_a_file_and_a_picture(tmp_path: Path) -> None:
    model, out = tiny_checkpoint(tmp_path / "tiny"), tmp_path / "said.wav"
    done = subprocess.run(
        [sys.executable, DEMO, "yes no stop", "-o", out, "--model", model, "--speaker", "bob"],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert [len(line) for line in lines[:-1]] == [72] * 13
    assert "█" in lines[0] and "█" in "".join(lines[1:13])
    seconds = soundfile.info(out).duration
    assert lines[-1].split() == ["0", "s", f"{seconds:.1f}", "s"]
    assert 0.3 < seconds <= 3.3


def test_words_that_a_model_says_one_after_another_are_one_recording(tmp_path: Path) -> None:
    config = tiny_config(label_states=2)
    model, out = tiny_checkpoint(tmp_path / "tiny", config), tmp_path / "said.wav"
    command = [sys.executable, str(DEMO), "yes no stop", "-o", str(out), "--model", str(model)]
    subprocess.run(command, capture_output=True, text=True, check=True)
    assert 1.4 < soundfile.info(out).duration < 2.3


def test_without_words_four_seconds_of_what_ships_or_is_given(tmp_path: Path) -> None:
    out = tmp_path / "said.wav"
    command = [sys.executable, str(DEMO), "-o", str(out)]
    command += (
        [] if (SHIPPED / "wave-digits").is_dir() else ["--model", str(tiny_checkpoint(tmp_path))]
    )
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "█" in done.stdout and 2 < soundfile.info(out).duration < 4.2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["maybe"], "label 'maybe' is not known; there are yes, no, stop"),
        (["yes", "--speaker", "eve"], "speaker 'eve' is not known; there are ann, bob"),
        (["yes", "--model", "none"], "no model 'none'"),
        (["yes", "-o", "none/a.wav"], "none/a.wav"),
        (["yes", "-o", "a.what"], "a.what"),
        (["yes"], "sounddevice"),
    ],
)
def test_what_cannot_be_done_is_one_line(tmp_path: Path, arguments: list[str], says: str) -> None:
    model = tiny_checkpoint(tmp_path / "tiny")
    (tmp_path / "sounddevice.py").write_text("raise ImportError('no sounddevice')")
    command = [sys.executable, str(DEMO), "--model", str(model), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 1
    assert says in done.stderr and len(done.stderr.splitlines()) == 1


def test_it_is_small() -> None:
    assert len(DEMO.read_text().splitlines()) <= 62
