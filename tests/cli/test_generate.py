"""``audiomamba generate``, as it is called."""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

import audiomamba
from audiomamba.cli import generate as generate_command
from audiomamba.cli.main import main
from audiomamba.models.wave import recording
from audiomamba.models.wave.synthesizer import Synthesizer
from tests.models.wave.puppet import puppet_checkpoint
from tests.models.wave.tiny import tiny_checkpoint, tiny_config


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


def test_without_a_length_a_label_gets_a_second_and_sound_ten(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate(model, "--label", "no", "-o", tmp_path / "a.wav") == 0
    assert generate(model, "-o", tmp_path / "b.wav") == 0
    assert [soundfile.info(tmp_path / f"{n}.wav").duration for n in "ab"] == [1, 10]
    capsys.readouterr()
    (tmp_path / "b.wav.state").write_bytes(audiomamba.load(model).start().save())
    assert generate(model, "--resume", "-o", tmp_path / "b.wav") == 2
    assert "--resume wants the length" in capsys.readouterr().err
    assert soundfile.info(tmp_path / "b.wav").duration == 10


def test_labels_are_said_one_after_another_and_that_is_how_long_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(tiny_checkpoint(tmp_path / "tiny", tiny_config(label_states=2)))
    for name, labels in (("a", ["yes"]), ("b", ["yes", "no", "stop"]), ("c", ["yes no stop"])):
        assert generate(model, "--label", *labels, "-o", tmp_path / f"{name}.wav") == 0
    a, b, c = (soundfile.info(tmp_path / f"{name}.wav").duration for name in "abc")
    assert 0.5 < a < 0.75 and b == c and 1.5 < b < 2.2
    assert generate(model, "--label", "no", "--seconds", 1, "-o", tmp_path / "d.wav") == 0
    assert soundfile.info(tmp_path / "d.wav").duration == 1
    many = ["--label", "yes", "no", "--label", "stop"]
    assert generate(model, *many, "-o", tmp_path / "e.wav") == 0
    both = [soundfile.info(tmp_path / f"e-{n}.wav").duration for n in (1, 2)]
    assert both[0] == both[1] and 1 < both[0] < 1.5
    capsys.readouterr()
    assert generate(model, "--label", "yes", "maybe", "-o", tmp_path / "f.wav") == 2
    said = capsys.readouterr().err.strip()
    assert "label 'maybe' is not known; there are yes, no, stop" in said and "\n" not in said
    assert not list(tmp_path.glob("f.*"))


def test_a_schedule_is_gone_on_with_to_the_same_sound(tmp_path: Path) -> None:
    model = str(tiny_checkpoint(tmp_path / "tiny", tiny_config(label_states=2)))
    out, whole = tmp_path / "a.wav", tmp_path / "b.wav"
    assert generate(model, "--label", "yes", "no", "-o", whole) == 0
    made = audiomamba.load(model).start(labels=["yes no"])
    stops = iter([False])
    begun = recording.Recording(made, out, 8_000)
    assert not begun.make(5_000, stopped=lambda: next(stops, True))
    assert generate(model, "--resume", "-o", out) == 0
    assert out.read_bytes() == whole.read_bytes()


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
        (["--resume", "--no-guard"], 2, "--no-guard: --resume goes on"),
        (["--device", "abacus"], 1, "device 'abacus'"),
        (["--device", "cuda", "--engine", "native"], 1, "runs on the CPU alone"),
        (["--count", "1000000000"], 2, "--count must be in 1..1024"),
        (["--seconds", "nan"], 2, "--seconds must be above 0"),
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


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "other"])
def test_a_damaged_state_is_one_line_and_nothing_is_lost(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    out, state = tmp_path / "a.wav", tmp_path / "a.wav.state"
    assert generate(model, "--seconds", 0.1, "-o", out) == 0
    sound = out.read_bytes()
    made: Synthesizer = audiomamba.load(model)
    saved = made.start().save()
    state.write_bytes(
        {
            "cut": saved[:-7],
            "garbage": bytes(range(256)),
            "empty": b"",
            "other": audiomamba.load(model, engine="torch").start().save(),
        }[damage]
    )
    capsys.readouterr()
    assert generate(model, "--seconds", 0.2, "-o", out, "--resume") == 1
    said = capsys.readouterr().err.strip()
    assert "\n" not in said and f"{state}: state " in said
    assert ("belongs to" if damage == "other" else "damaged") in said
    assert out.read_bytes() == sound and state.exists()


def test_a_batch_says_how_long_it_takes_not_how_long_one_would(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(10_000))
    monkeypatch.setattr(generate_command, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(generate_command, "REPORT_S", 1)
    assert generate(model, "--seconds", 1, "-o", tmp_path / "a.wav", "--count", 5) == 0
    lines = capsys.readouterr().err.splitlines()
    seconds, speed, left = (
        float(word) for word in re.findall(r"[\d.]+(?= of| x| s left)", lines[0])
    )
    assert left == pytest.approx((1 - seconds) / speed, abs=1)
    assert re.fullmatch(r".*a-1.wav to a-5.wav: 1.0 s, [\d.]+ x real time", lines[-1])


def test_what_the_guard_did_is_told_and_it_can_be_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = str(puppet_checkpoint(tmp_path / "puppet")), tmp_path / "a.wav"
    assert generate(model, "--seconds", 2, "-o", out, "--label", "silent") == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"{out}: guard: silence at 1.4 s, begun anew from 1.4 s"
    assert lines[-1] == f"{out}: guard: stepped in 1x: silence 1"
    assert generate(model, "--seconds", 2, "-o", out, "--label", "stuck") == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 8 + 2 and lines[7].endswith("let go from 0.0 s")
    assert generate(model, "--seconds", 2, "-o", out, "--label", "stuck", "--no-guard") == 0
    assert "guard: " not in capsys.readouterr().err


def test_too_small_a_disk_is_told_before_the_work(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    free = SimpleNamespace(free=3_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: free)
    out = tmp_path / "a.wav"
    assert generate(model, "--seconds", 0.15, "-o", out) == 0  # 2,400 bytes
    assert "are free" not in capsys.readouterr().err
    assert generate(model, "--seconds", 0.25, "-o", out) == 0
    assert f"{out}: may take 0 MB, 0 MB are free" in capsys.readouterr().err


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


def test_a_disk_that_is_full_when_flac_is_made_keeps_the_sound(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a.flac"
    with monkeypatch.context() as patched:
        patched.setattr(recording, "_to_flac", lambda sound, file: 1 / 0)  # all but the FLAC
        with pytest.raises(ZeroDivisionError):
            generate(model, "--seconds", 3, "-o", out)
    resume = [sys.executable, "-m", "audiomamba.cli.main", "generate", model, "-o", str(out)]
    ended = subprocess.run(
        [*resume, "--seconds", "3", "--resume"],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )
    said = ended.stderr.strip().splitlines()
    assert ended.returncode == 1 and len(said) == 2
    assert said[1].startswith(f"audiomamba generate: {out}: cannot be written")
    assert "--resume" in said[1]
    assert not out.exists()
    assert soundfile.info(tmp_path / "a.flac.part.wav").frames == 24_000
    assert generate(model, "--seconds", 3, "-o", out, "--resume") == 0
    assert soundfile.info(out).frames == 24_000
    assert [file.name for file in tmp_path.iterdir()] == ["a.flac"]


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
