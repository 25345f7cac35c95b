"""``audiomamba generate``, as it is called."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiomamba.cli.main import main
from tests.models.wave.tiny import tiny_checkpoint


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_checkpoint(tmp_path_factory.mktemp("tiny")))


def generate(*arguments: object) -> int:
    return main(["generate", *(str(a) for a in arguments)])


def test_a_file_is_made_and_its_seed_fixes_it(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        out = tmp_path / f"{name}.wav"
        assert generate(model, "--seconds", 0.3, "-o", out, "--seed", seed, "--label", "no") == 0
    a, b, c = ((tmp_path / f"{name}.wav").read_bytes() for name in "abc")
    assert a == b != c
    assert soundfile.info(tmp_path / "a.wav").frames == 2400
    said = capsys.readouterr()
    assert said.out == "" and "a.wav: 0.3 s" in said.err and "x real time" in said.err


def test_several_are_made_together(model: str, tmp_path: Path) -> None:
    out = tmp_path / "d.flac"
    assert generate(model, "--seconds", 0.1, "-o", out, "--label", "yes", "--label", "no") == 0
    assert generate(model, "--seconds", 0.1, "-o", tmp_path / "e.wav", "--count", 3) == 0
    names = ["d-1.flac", "d-2.flac", "e-1.wav", "e-2.wav", "e-3.wav"]
    assert sorted(file.name for file in tmp_path.iterdir()) == names


def test_a_prompt_at_another_rate_is_resampled_and_told(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "p.wav", np.sin(np.arange(4410) / 9), 44_100)
    out = tmp_path / "a.wav"
    assert generate(model, "--seconds", 0.1, "-o", out, "--prompt", tmp_path / "p.wav") == 0
    assert "heard 0.1 s at 8000 Hz" in capsys.readouterr().err
    assert soundfile.info(out).frames == 800


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--label", "maybe"], 2, "label 'maybe' is not known; there are yes, no, stop"),
        (["--speaker", "eve"], 2, "there are ann, bob"),
        (["--seconds", "0"], 2, "--seconds must be above 0"),
        (["--seconds", "1e7"], 2, "at most"),
        (["--temperature", "-1"], 2, "temperature"),
        (["--count", "0"], 2, "--count"),
        (["--count", "3", "--label", "yes", "--label", "no"], 2, "labels"),
        (["--prompt", "none.wav"], 1, "no such file"),
        (["-o", "a.mp3"], 1, "ends in .wav or .flac"),
        (["--resume"], 1, "no state to go on from"),
        (["--resume", "--top-p", "0.5"], 2, "--top-p: --resume goes on"),
        (["-o", "none/a.wav"], 1, "none/a.wav"),
    ],
)
def test_a_wrong_call_is_one_line(
    model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert generate(model, "--seconds", 0.1, "-o", "a.wav", *arguments) == code
    said = capsys.readouterr().err.strip()
    assert says in said and "\n" not in said
    assert not list(tmp_path.glob("a.*"))


def test_a_transcriber_makes_no_sound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate("listen-en", "--seconds", 1, "-o", tmp_path / "a.wav") == 1
    assert "does not make sound" in capsys.readouterr().err


def test_ctrl_c_leaves_a_whole_file_and_resume_goes_on_to_the_same_bytes(
    model: str, tmp_path: Path
) -> None:
    for name in ("whole", "cut"):
        command = [sys.executable, "-m", "audiomamba.cli.main", "generate", model]
        command += ["--seconds", "30", "-o", str(tmp_path / f"{name}.wav"), "--seed", "3"]
        if name == "whole":
            subprocess.run(command, check=True, capture_output=True)
            continue
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        out = tmp_path / "cut.wav"
        while process.poll() is None and not (out.exists() and out.stat().st_size > 4044):
            os.sched_yield()
        process.send_signal(signal.SIGINT)
        said = process.communicate()[1]
        if process.returncode == 130:  # else the machine was quicker than the signal
            assert "interrupted at" in said and "Traceback" not in said
            assert 2000 <= soundfile.info(out).frames < 240_000
            assert generate(model, "--seconds", 30, "-o", out) == 2
            assert generate(model, "--seconds", 30, "-o", out, "--resume") == 0
    assert (tmp_path / "cut.wav").read_bytes() == (tmp_path / "whole.wav").read_bytes()


def test_a_full_disk_is_one_line_and_what_was_written_is_whole(model: str, tmp_path: Path) -> None:
    out = tmp_path / "a.wav"
    command = [sys.executable, "-m", "audiomamba.cli.main", "generate", model, "-o", str(out)]
    ended = subprocess.run(
        [*command, "--seconds", "30"],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    assert ended.returncode == 1
    assert "File too large after about" in ended.stderr and "Traceback" not in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
    assert soundfile.info(out).frames == 48_000
    assert generate(model, "--seconds", 7, "-o", out, "--resume") == 0
    assert soundfile.info(out).frames == 56_000
