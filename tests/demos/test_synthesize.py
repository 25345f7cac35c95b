import subprocess
import sys
from pathlib import Path

import soundfile

from tests.models.wave.tiny import tiny_checkpoint

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


def test_an_unknown_word_is_one_line(tmp_path: Path) -> None:
    model = tiny_checkpoint(tmp_path / "tiny")
    command = [sys.executable, str(DEMO), "maybe", "--model", str(model)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == "label 'maybe' is not known; there are yes, no, stop\n"


def test_it_is_small() -> None:
    assert len(DEMO.read_text().splitlines()) < 60
