"""The command line: what it prints, where, and with which exit code."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SPOKEN = Path(__file__).parent.parent / "recordings" / "zero_one_five.flac"
WORDS = "zero one five"


def audiomamba(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "audiomamba.cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_help_lists_the_commands_and_loads_nothing_heavy() -> None:
    done = audiomamba("--help")
    assert done.returncode == 0
    for command in ("transcribe", "listen", "serve", "train", "evaluate", "models"):
        assert command in done.stdout


@pytest.mark.parametrize("command", ["transcribe", "serve", "evaluate", "listen", "train"])
def test_help_of_a_command_teaches_by_example(command: str) -> None:
    assert "audiomamba" in audiomamba(command, "--help").stdout


def test_a_wrong_call_is_exit_code_2() -> None:
    assert audiomamba("transcribe").returncode == 2
    assert audiomamba("nonsense").returncode == 2
    done = audiomamba("train", "train.stepps=1")
    assert done.returncode == 2 and "stepps" in done.stderr and "Traceback" not in done.stderr


def test_text_goes_to_standard_output_and_progress_to_standard_error() -> None:
    done = audiomamba("transcribe", SPOKEN)
    assert (done.returncode, done.stdout) == (0, f"{WORDS}\n")
    assert "3.0 s in" in done.stderr


def test_json_has_the_fixed_fields() -> None:
    done = audiomamba("transcribe", "--format", "json", SPOKEN)
    out = json.loads(done.stdout)
    assert set(out) == {"file", "seconds", "text", "words", "model", "realtime_factor"}
    assert out["text"] == WORDS and out["model"] == "listen-en"
    assert set(out["words"][0]) == {"word", "start", "end", "confidence"}


def test_several_files_are_named_and_a_bad_one_stops_none(tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_text("no audio")
    done = audiomamba("transcribe", tmp_path / "bad.wav", SPOKEN)
    assert done.returncode == 1
    assert done.stdout == f"{SPOKEN}\t{WORDS}\n"
    assert "bad.wav: cannot be read as audio" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(("form", "head"), [("srt", "1\n00:00:00"), ("vtt", "WEBVTT")])
def test_subtitles_are_written(form: str, head: str) -> None:
    assert audiomamba("transcribe", "--format", form, SPOKEN).stdout.startswith(head)


def test_an_unknown_model_is_one_line() -> None:
    done = audiomamba("transcribe", "--model", "nobody", SPOKEN)
    assert done.returncode == 1
    assert "listen-en" in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_models_lists_what_ships() -> None:
    done = audiomamba("models")
    assert done.returncode == 0 and "listen-en" in done.stdout and "Apache-2.0" in done.stdout


def test_evaluate_counts_errors(tmp_path: Path) -> None:
    import tarfile

    record = {
        "path": SPOKEN.name, "text": "zero one nine", "source": "x/y", "split": "dev",
        "kind": "words",
    }  # fmt: skip
    (tmp_path / "set.jsonl").write_text(json.dumps(record) + "\n")
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        tar.add(SPOKEN, SPOKEN.name)
    done = audiomamba("evaluate", "--json", tmp_path / "set.jsonl")
    assert done.returncode == 0, done.stderr
    assert "33.3" in done.stdout or "0.333" in done.stdout
