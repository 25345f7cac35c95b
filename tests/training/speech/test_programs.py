"""Speech of programs: told as they want it, and what fails costs a line."""

import random
import stat
import sys
from pathlib import Path

import numpy as np
import pytest

from audiomamba.errors import AudioError, BackendError
from audiomamba.training.corpus import Corpus, CorpusWriter
from audiomamba.training.speech.programs import VOICES, ProgramVoice, installed, say, write
from audiomamba.training.speech.texts import Line

# Says a tone of as many hundredths of a second as there are letters; nothing of "silence".
PROGRAM = f"""#!{sys.executable}
import sys, numpy as np, soundfile
told = sys.argv[1:]
out = told[told.index("-o" if "-o" in told else "-w") + 1]
text = told[told.index("-t") + 1] if "-t" in told else told[-1]
if "-eval" in told:
    text = sys.stdin.read()
if text == "fail":
    sys.exit(3)
samples = np.sin(np.arange(160 * len(text)) * 0.2) * (text != "silence")
soundfile.write(out, samples, 22050)
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in {voice.program for voice in VOICES}:
        file = folder / name
        file.write_text(PROGRAM)
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("program", ["flite", "text2wave", "espeak-ng"])
def test_each_program_is_told_the_line(programs: Path, program: str) -> None:
    voice = next(voice for voice in VOICES if voice.program == program)
    audio = say(voice, "a line of forty letters, more or less so.", random.Random(1))
    expected = 160 * 41 * 16_000 / 22_050
    assert audio.dtype == np.int16 and 0.9 * expected < len(audio) < 1.1 * expected
    assert 0.65 < np.abs(audio).max() / 32767 < 0.75


@pytest.mark.slow
def test_a_corpus_is_the_same_again_and_failures_are_told(programs: Path, tmp_path: Path) -> None:
    said = ["one two three", "fail", "silence", *(f"line {'x' * n}" for n in range(9))]
    told: list[str] = []
    corpora = []
    for name, processes in (("a", 1), ("b", 4)):
        with CorpusWriter(tmp_path / name) as corpus:
            lines = (Line("books", text, text) for text in said)
            voices = installed()
            failed = write(
                corpus, lines, voices, 1e6, processes=processes, seed=5, report=told.append
            )
        assert failed == 2
        corpora.append(Corpus(tmp_path / name))
    one, other = corpora
    assert len(one) == len(other) == len(said) - 2
    for i in range(len(one)):
        np.testing.assert_array_equal(one.audio(i), other.audio(i))
    assert any("did not say 'fail'" in text for text in told)
    assert any("made no sound of 'silence'" in text for text in told)


def test_without_a_program_one_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackendError, match="espeak-ng, flite, text2wave"):
        installed()
    with pytest.raises(AudioError, match="flite/slt: did not say"):
        say(ProgramVoice("flite", "slt", 1.0), "a", random.Random(0))


def test_missing_programs_leave_their_share_to_the_others(
    programs: Path,
) -> None:
    (programs / "espeak-ng").unlink()
    assert {voice.program for voice in installed()} == {"flite", "text2wave"}
    assert sum(voice.share for voice in VOICES) == pytest.approx(1.0)
