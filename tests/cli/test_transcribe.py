"""``transcribe`` as its user runs it: pipes, folders, interruptions, a terminal."""

import io
import os
import pty
import re
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from audiomamba.cli.inputs import Raw, open_input
from audiomamba.errors import ConfigError

SPOKEN = Path(__file__).parent.parent / "recordings" / "zero_one_five.flac"
WORDS = "zero one five"
COMMAND = [sys.executable, "-m", "audiomamba.cli.main", "transcribe"]


def transcribe(*arguments: str | Path, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*COMMAND, *map(str, arguments)], input=given, capture_output=True)


def samples() -> "np.ndarray[Any, Any]":
    read: np.ndarray[Any, Any] = soundfile.read(SPOKEN, dtype="int16")[0]
    return read


def wav(times: int = 1, length: int | None = None, *, silence_s: float = 0.0) -> bytes:
    """The recording, so many times, and silence after it."""
    sound = np.pad(np.tile(samples(), times), (0, round(silence_s * 16_000)))
    out = io.BytesIO()
    soundfile.write(out, sound, 16_000, "PCM_16", format="WAV")
    data = out.getvalue()
    if length is None:
        return data
    at = data.index(b"data") + 4
    return data[:at] + struct.pack("<I", length) + data[at + 4 :]


@pytest.mark.parametrize("length", [None, 0, 0xFFFFFFFF], ids=["known", "zero", "endless"])
def test_a_wav_stream_is_heard_from_standard_input(length: int | None) -> None:
    done = transcribe("-", given=wav(length=length))
    assert (done.returncode, done.stdout.decode()) == (0, f"{WORDS}\n")
    assert b"standard input: 3.0 s in" in done.stderr


def test_other_formats_are_heard_from_standard_input_too() -> None:
    assert transcribe("-", "-q", given=SPOKEN.read_bytes()).stdout.decode() == f"{WORDS}\n"


def test_samples_without_a_header_are_heard(tmp_path: Path) -> None:
    raw = samples().tobytes()
    assert transcribe("-q", "--raw", "linear16", "-", given=raw).stdout.decode() == f"{WORDS}\n"
    (tmp_path / "talk.raw").write_bytes(raw)
    done = transcribe("--raw", "linear16", tmp_path / "talk.raw")
    assert done.stdout.decode() == f"{WORDS}\n" and b"3.0 s in" in done.stderr


@pytest.mark.parametrize(
    ("given", "words"), [(b"", "nothing came"), (b"hello world, no sound", "want --raw ENCODING")]
)
def test_what_is_no_sound_is_one_line(given: bytes, words: str) -> None:
    done = transcribe("-", given=given)
    assert (done.returncode, done.stdout) == (1, b"")
    assert words in done.stderr.decode() and done.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("--raw", "opus", "-"),
        ("--raw", "linear16", "--rate", "4000", "-"),
        ("-", "-"),
        ("--format", "srt", "a.wav", "b.wav"),
        ("--output", "OUT", "x/a.wav", "y/a.flac"),
    ],
)
def test_a_call_that_cannot_be_meant_is_exit_code_2(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    done = transcribe(*(a.replace("OUT", str(tmp_path)) for a in arguments))
    assert done.returncode == 2 and done.stderr.count(b"\n") == 1


def test_a_folder_gets_a_file_for_each_recording_that_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_text("no audio")
    (tmp_path / "cut.wav").write_bytes(wav(2)[:60_000])
    out = tmp_path / "new" / "captions"
    done = transcribe("-f", "srt", "-o", out, tmp_path / "bad.wav", SPOKEN, tmp_path / "cut.wav")
    assert done.returncode == 1 and done.stdout == b""
    assert sorted(path.name for path in out.iterdir()) == ["cut.srt", "zero_one_five.srt"]
    srt = (out / "zero_one_five.srt").read_text()
    assert re.fullmatch(r"1\n00:00:0\d,\d{3} --> 00:00:0\d,\d{3}\nzero one five\n\n", srt)


def test_words_come_while_the_pipe_is_open_and_an_interruption_keeps_them() -> None:
    process = subprocess.Popen(
        [*COMMAND, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin and process.stdout and process.stderr
    with process, process.stdin as sound:
        sound.write(wav(4, length=0xFFFFFFFF, silence_s=8.0))
        sound.flush()
        begun = process.stdout.read(4)
        process.send_signal(signal.SIGINT)
        text = (begun + process.stdout.read()).decode()
        assert b"interrupted in standard input" in process.stderr.read()
    assert process.wait() == 130
    assert text.startswith("zero") and text.endswith("\n") and text.count("\n") == 1


def test_a_terminal_sees_how_far_it_is_and_then_the_words_alone() -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen([*COMMAND, SPOKEN], stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = b""
    while part := _read(ours):
        seen += part
    assert process.wait() == 0
    text = seen.decode()
    assert "0:00 of 0:03" in text
    assert f"\r\x1b[2K{WORDS}\r\n" in text
    assert text.splitlines()[-1].endswith("x)")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux: the other end is closed
        os.close(terminal)
        return b""


def test_the_length_of_what_has_a_header_is_known_before_it_is_read(tmp_path: Path) -> None:
    assert open_input(str(SPOKEN)).seconds == pytest.approx(3.0)
    (tmp_path / "talk.raw").write_bytes(bytes(32_000))
    raw = Raw("linear16", 8000, 2)
    assert open_input(str(tmp_path / "talk.raw"), raw).seconds == pytest.approx(1.0)
    assert open_input(str(tmp_path / "nothing.wav")).seconds is None


def test_raw_samples_say_what_they_may_be() -> None:
    with pytest.raises(ConfigError, match="--channels: wanted 1 to 8, got 0"):
        Raw("linear16", 16_000, 0)
