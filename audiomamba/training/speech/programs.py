"""Speech of older synthesizers, for variety: flite, festival and espeak-ng, run as programs::

    apt-get install flite festival festvox-us-slt-hts festvox-kallpc16k espeak-ng
    python -m audiomamba.training.speech.programs text.tar corpora/programs --hours 4

A network that learnt from one kind of voice hears that kind of artefact. These have others
(diphones, formants, vocoded statistics) and another reading of the words. They sound alike within
themselves, so each line is said at a speed of its own, and a voice is moved by up to 8 % by
resampling. They are programs of their own, under their own licences (flite and festival BSD-like,
espeak-ng GPL-3.0-or-later, which does not cover what it says); nothing of them is linked or ships.
"""

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audiomamba.audio import files
from audiomamba.audio.resample import resample
from audiomamba.errors import AudioError, BackendError
from audiomamba.training.corpus import SAMPLE_RATE, CorpusWriter
from audiomamba.training.speech.texts import Line, lines

__all__ = ["VOICES", "ProgramVoice", "installed", "main", "say", "write"]

_LONGEST_S = 60.0  # that a program may take for a line
_SHIFTS = tuple(1 + k / 50 for k in range(-4, 5))
_STEP = 50  # Hz; rates that a filter of few phases leads to
_PEAK = 0.7
_AHEAD = 32  # lines spoken at a time


@dataclass(frozen=True, slots=True)
class ProgramVoice:
    """A voice of a program.

    Attributes:
        program: Its name on the path.
        name: As the program knows it.
        share: Of all lines, before those of missing programs are given to the others.
    """

    program: str
    name: str
    share: float

    @property
    def speaker(self) -> str:
        """As a corpus names it."""
        return f"{self.program}/{self.name}"


VOICES = (
    *(ProgramVoice("flite", name, 0.14) for name in ("slt", "rms", "awb", "kal16")),
    ProgramVoice("text2wave", "cmu_us_slt_arctic_hts", 0.08),
    ProgramVoice("text2wave", "kal_diphone", 0.06),
    # Of the many variants those that a recogniser understood.
    *(
        ProgramVoice("espeak-ng", name, 0.02)
        for name in (
            "en-us", "en-gb", "en-us+f2", "en-us+f4", "en-us+m3", "en-us+klatt4", "en-gb-x-rp+m7",
            "en-gb-x-rp+f3", "en-us+Alex", "en-gb+m1", "en-us+Linda", "en-gb-x-gbcwmd+m5",
            "en-us+grandpa", "en-gb+Annie", "en-us+klatt2",
        )
    ),
)  # fmt: skip
"""Two thirds concatenated or statistical, one third by formants."""


def installed(voices: Sequence[ProgramVoice] = VOICES) -> list[ProgramVoice]:
    """Those whose program is there.

    Raises:
        BackendError: none is.
    """
    there = [voice for voice in voices if shutil.which(voice.program)]
    if not there:
        programs = sorted({voice.program for voice in voices})
        raise BackendError(f"none of these programs is installed: {', '.join(programs)}")
    return there


def say(voice: ProgramVoice, spoken: str, chance: random.Random) -> NDArray[np.int16]:
    """Samples ``(n,)`` at 16 kHz of a line, at a speed and a size of the voice of its own.

    Raises:
        AudioError: the program failed, or made no sound.
    """
    with tempfile.NamedTemporaryFile(suffix=".wav") as out:
        command = _command(voice, spoken, out.name, chance)
        told = spoken if voice.program == "text2wave" else None
        try:
            subprocess.run(
                command, input=told, capture_output=True, text=True, check=True, timeout=_LONGEST_S
            )
        except (subprocess.SubprocessError, OSError) as error:
            raise AudioError(f"{voice.speaker}: did not say {spoken!r} ({error})") from None
        rate, samples = _read(Path(out.name))
    moved = _STEP * round(rate * chance.choice(_SHIFTS) / _STEP)
    samples = resample(samples, moved, SAMPLE_RATE)
    peak = float(np.abs(samples).max(initial=0.0))
    if not peak:
        raise AudioError(f"{voice.speaker}: made no sound of {spoken!r}")
    return np.round(samples * (_PEAK / peak * 32767)).astype(np.int16)


def _command(voice: ProgramVoice, spoken: str, out: str, chance: random.Random) -> list[str]:
    """What is run; festival is told its line by standard input."""
    slower = chance.uniform(0.85, 1.25)
    if voice.program == "flite":
        stretch = ["--setf", f"duration_stretch={slower:.3f}"]
        return ["flite", "-voice", voice.name, *stretch, "-t", spoken, "-o", out]
    if voice.program == "text2wave":
        stretch = ["-eval", f"(Parameter.set 'Duration_Stretch {slower:.3f})"]
        return ["text2wave", "-eval", f"(voice_{voice.name})", *stretch, "-o", out]
    speed, pitch = str(round(160 / slower)), str(chance.randint(30, 70))
    return ["espeak-ng", "-v", voice.name, "-s", speed, "-p", pitch, "-w", out, "--", spoken]


def _read(path: Path) -> tuple[int, NDArray[np.float32]]:
    """Rate and samples of the file that a program wrote."""
    blocks = list(files.stream(path, 10.0))
    if not blocks:
        raise AudioError(f"{path}: is empty")
    return blocks[0][0], np.concatenate(
        [block.reshape(len(block), -1)[:, 0] for _, block in blocks]
    )


def write(
    corpus: CorpusWriter,
    said: Iterator[Line],
    voices: Sequence[ProgramVoice],
    seconds: float,
    *,
    processes: int,
    seed: int = 0,
    report: Callable[[str], None] = lambda text: None,
) -> int:
    """Append lines until the corpus has ``seconds`` more; returns how many a program could not say.

    Which voice says a line, and how, depends on the seed and the line's number alone.
    """
    until, failed, number = corpus.seconds + seconds, 0, 0
    shares = [voice.share for voice in voices]

    def one(numbered: tuple[int, Line]) -> tuple[ProgramVoice, Line, NDArray[np.int16] | str]:
        number, line = numbered
        chance = random.Random(f"{seed}/{number}")
        [voice] = chance.choices(voices, shares)
        try:
            return voice, line, say(voice, line.spoken, chance)
        except AudioError as error:
            return voice, line, str(error)

    with ThreadPoolExecutor(processes) as pool:
        while corpus.seconds < until:
            some = [(number + i, line) for i, line in enumerate(islice(said, _AHEAD))]
            if not some:
                break
            number += len(some)
            for voice, line, audio in pool.map(one, some):
                if isinstance(audio, str):
                    failed += 1
                    report(audio)
                    continue
                corpus.append(audio, line.text, source=voice.program, speaker=voice.speaker)
            corpus.flush()
    return failed


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m audiomamba.training.speech.programs")
    parser.add_argument("texts", type=Path, help="tar of *.txt.xz, as for the script")
    parser.add_argument("out", type=Path, help="folder of the corpus; gone on with if there is one")
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="another for each call")
    options = parser.parse_args(arguments)
    voices = installed()
    with CorpusWriter(options.out) as corpus:
        failed = write(
            corpus,
            lines(options.texts, options.seed),
            voices,
            options.hours * 3600,
            processes=options.processes,
            seed=options.seed,
            report=lambda text: print(text, file=sys.stderr),
        )
        print(
            f"{options.out}: {len(corpus)} lines, {corpus.seconds / 3600:.2f} h of "
            f"{len(voices)} voices; {failed} could not be said"
        )


if __name__ == "__main__":
    main()
