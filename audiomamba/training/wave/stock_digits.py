"""Digits in stock voices of Kokoro, as recordings beside those of people.

    python -m audiomamba.training.wave.stock_digits PACK VOCAB.json data/kdigits.jsonl --takes 40

A pack is what training/speech/generate.py speaks from. A manifest and a tar of FLAC files of its
name come out, in the form of ``digits.jsonl``: a file a voice and digit, a record a take, ``index``
from 0.

A voice that says a single word, or the first of a line, says it badly, and words of a line run into
each other whatever mark is between them. So a line is "number" and six digits, spoken with a style
that is meant for longer lines; the marks are drawn out to pauses, in which the line is cut. Lines
differ in speed, pitch and rhythm, and in which style of the voice's table they are spoken with.
"""

import argparse
import io
import json
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

from audiomamba.audio.resample import resample
from audiomamba.errors import ConfigError
from audiomamba.training.corpus import FRAME_SAMPLES, SAMPLE_RATE
from audiomamba.training.recordings import to_int16
from audiomamba.training.speech.g2p import Accent, Phonemiser
from audiomamba.training.speech.kokoro.model import Kokoro
from audiomamba.training.speech.kokoro.segments import GAP
from audiomamba.training.speech.kokoro.source import resample_16k
from audiomamba.training.speech.voices import Voices, uneven
from audiomamba.training.wave.digit_script import DIGITS
from audiomamba.training.wave.takes import trimmed

__all__ = [
    "VOICES", "Line", "Spelling", "cut", "faded", "lines_of", "noisy", "paused", "speak",
    "speaker_of", "write",
]  # fmt: skip

VOICES = ("af_heart", "af_bella", "bf_emma", "am_michael", "am_fenrir", "bm_george")
RATE = 8_000  # Hz of what is written
CARRIER = "number"
WORDS = 6  # digits of a line
SPEED, PITCH, UNEVENNESS = (0.85, 1.15), (0.95, 1.05), 0.1
STYLES = (40, 100)  # a line is spoken as one of so many phones would be
LEAD, PAUSE, ONSET, TAIL = 6, 6, 3, 3  # frames of 25 ms: before a line, of ",", of " ", of "."
CLOSE = 4  # frames before " " from where on a line is cut
BEFORE_DB, AFTER_DB = 40.0, 24.0  # below the peak: onsets are soft, and after a word voices breathe
FADE_S = 0.05  # at the end
NOISE_DB = 42.0  # below the peak, at most: less than what a word is trimmed by
TOGETHER = 4  # lines spoken at once

_STRESS = {"ˌ": "ˈ"}  # a word that stands alone has its main stress


class Line(NamedTuple):
    """What is spoken at once."""

    digits: tuple[int, ...]
    style: int  # of the voice's table: that of so many phones
    speed: float
    pitch: float
    seed: int  # of the rhythm


class Spelling:
    """Phone ids of lines in an accent.

    Raises:
        BackendError: espeak-ng is not installed.
    """

    def __init__(self, vocabulary: Mapping[str, int], accent: Accent) -> None:
        phonemiser = Phonemiser(vocabulary)
        self._vocabulary = vocabulary
        self.space = vocabulary[" "]
        self._words = [
            "".join(_STRESS.get(letter, letter) for letter in phonemiser.phonemes(word, accent))
            for word in (*DIGITS, CARRIER)
        ]

    def ids(self, digits: Sequence[int]) -> NDArray[np.uint8]:
        """Ids ``(P,)`` of the carrier and digits: a mark and a space before each of them."""
        letters = f"{self._words[-1]}: {', '.join(self._words[digit] for digit in digits)}."
        ids = [self._vocabulary[one] for one in letters if one in self._vocabulary]
        return np.array(ids, np.uint8)


def lines_of(takes: int, rng: np.random.Generator) -> list[Line]:
    """Lines with ``takes`` of each digit in all; the last one may be shorter."""
    digits = rng.permutation(np.repeat(np.arange(len(DIGITS)), takes)).tolist()
    lines = []
    for first in range(0, len(digits), WORDS):
        style = int(rng.integers(*STYLES))
        speed, pitch = (float(np.exp(rng.uniform(*np.log(span)))) for span in (SPEED, PITCH))
        own = tuple(digits[first : first + WORDS])
        lines.append(Line(own, style, speed, pitch, int(rng.integers(2**31))))
    return lines


def speak(
    model: Kokoro, voices: Voices, voice: str, lines: Sequence[Line], spelling: Spelling
) -> Iterator[tuple[int, NDArray[np.int16]]]:
    """Digits and their sound at ``RATE``, trimmed, in the order of the lines.

    Args:
        model: On any device.
        voices: Its tables.
        voice: Whose; one of their names.
        lines: What to say.
        spelling: In the voice's accent.
    """
    device = next(model.parameters()).device
    speaker = voices.stock(voice, np.random.default_rng(0))
    for first in range(0, len(lines), TOGETHER):
        some = lines[first : first + TOGETHER]
        ids = [spelling.ids(line.digits) for line in some]
        style = np.stack([voices.style(speaker, line.style) for line in some])
        speed = torch.tensor([line.speed for line in some], device=device)
        planned = model.plan(ids, torch.from_numpy(style).to(device), speed)
        own = np.split(planned.frames, planned.offsets[1:-1])
        frames = [
            paused(uneven(each, UNEVENNESS, np.random.default_rng(line.seed)), one, spelling.space)
            for each, one, line in zip(own, ids, some, strict=True)
        ]
        planned = replace(planned, frames=np.concatenate(frames))
        total = int(planned.frames.sum()) + GAP * (len(some) + 1)
        pitch = torch.tensor([line.pitch for line in some], device=device)
        spoken = model.speak(planned, range(len(some)), total, pitch=pitch)
        wave = resample_16k(spoken.wave).cpu().numpy().astype(np.float32) / np.float32(32_768)
        for line, one, each, start in zip(some, ids, frames, spoken.starts, strict=True):
            sound = wave[start * FRAME_SAMPLES :][: int(each.sum()) * FRAME_SAMPLES]
            rng = np.random.default_rng([line.seed, 1])
            for digit, part in zip(line.digits, cut(sound, one, each, spelling.space), strict=True):
                word = resample(part, SAMPLE_RATE, RATE)
                word = faded(trimmed(word, BEFORE_DB, RATE, after_db=AFTER_DB))
                yield digit, to_int16(noisy(word, rng))


def paused(frames: NDArray[np.int64], ids: NDArray[np.uint8], space: int) -> NDArray[np.int64]:
    """Lengths of a line's tokens with pauses where it has marks.

    Args:
        frames: ``(P + 2,)`` of 25 ms, those of the zeros at both ends included.
        ids: ``(P,)``.
        space: The id that follows a mark.
    """
    longer = frames.copy()
    longer[0], longer[-2] = LEAD, TAIL
    spaces = np.flatnonzero(ids == space) + 1
    longer[spaces - 1], longer[spaces] = PAUSE, ONSET
    return longer


def cut(
    sound: NDArray[np.float32], ids: NDArray[np.uint8], frames: NDArray[np.int64], space: int
) -> list[NDArray[np.float32]]:
    """The words after the carrier, cut where a pause is quietest.

    Args:
        sound: ``(400 F,)`` at 16 kHz.
        ids: ``(P,)``.
        frames: ``(P + 2,)``, F in all, as :func:`paused` made them.
        space: The id that follows a mark.
    """
    power = np.square(sound.reshape(-1, FRAME_SAMPLES)).sum(1)
    onsets = np.cumsum(frames)[np.flatnonzero(ids == space)]  # where spaces begin
    # Late in the pause, in whose first part the word before may still be heard; onsets are early.
    quiet = [int(at - CLOSE + power[at - CLOSE : at + 1].argmin()) for at in onsets]
    return np.split(sound, [at * FRAME_SAMPLES for at in quiet])[1:]


def faded(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same, soft at its end: a breath that breaks off is heard as a consonant."""
    samples = min(round(FADE_S * RATE), len(sound))
    fade = np.cos(np.linspace(0, np.pi / 2, samples, dtype=np.float32)) ** 2
    return np.concatenate([sound[: len(sound) - samples], sound[len(sound) - samples :] * fade])


def noisy(sound: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """The same over noise, as in people's recordings: a word that begins quietly has begun then.

    It has a bound, so that no sample of it is taken for sound where words are trimmed.
    """
    most = 10 ** (-NOISE_DB / 20) * float(np.abs(sound).max(initial=0.0))
    return sound + rng.uniform(-most, most, len(sound)).astype(np.float32)


def speaker_of(voice: str) -> str:
    """What a voice is called in a manifest: ``af_heart`` is ``kokoro-heart``."""
    return f"kokoro-{voice.partition('_')[2]}"


def write(
    manifest: Path, takes: Iterator[tuple[str, str, list[NDArray[np.int16]]]]
) -> tuple[int, float]:
    """Write a manifest and its tar.

    Args:
        manifest: ``.jsonl``; the tar is beside it. Both are written over.
        takes: A voice, a digit, and all takes of it.

    Returns:
        Words and seconds written.
    """
    manifest.parent.mkdir(parents=True, exist_ok=True)
    records: list[dict[str, Any]] = []
    with tarfile.open(manifest.with_suffix(".tar"), "w") as archive:
        for voice, digit, sounds in takes:
            path = f"{speaker_of(voice)}-{DIGITS.index(digit)}.flac"
            encoded, at = io.BytesIO(), 0
            soundfile.write(encoded, np.concatenate(sounds), RATE, "PCM_16", format="FLAC")
            member = tarfile.TarInfo(path)
            member.size = len(encoded.getvalue())
            encoded.seek(0)
            archive.addfile(member, encoded)
            for index, sound in enumerate(sounds):
                records.append(_record(path, voice, digit, index, at, at + len(sound)))
                at += len(sound)
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    manifest.write_text("".join(lines), encoding="utf-8")
    return len(records), sum(record["end"] - record["start"] for record in records) / RATE


def _record(path: str, voice: str, digit: str, index: int, start: int, end: int) -> dict[str, Any]:
    return {
        "path": path, "start": start, "end": end, "text": digit, "text_origin": "synthesis",
        "speaker": speaker_of(voice), "gender": voice[1], "source": "hexgrad/Kokoro-82M",
        "licence": "Apache-2.0", "seconds": round((end - start) / RATE, 4), "split": "train",
        "kind": "digit", "index": index, "rate": RATE,
    }  # fmt: skip


def _spoken(
    model: Kokoro, voices: Voices, vocabulary: Mapping[str, int], options: argparse.Namespace
) -> Iterator[tuple[str, str, list[NDArray[np.int16]]]]:
    spellings = {accent: Spelling(vocabulary, accent) for accent in ("us", "gb")}
    for voice in options.voices:
        # By its name, so that a voice says the same whichever others there are.
        rng = np.random.default_rng([options.seed, *voice.encode()])
        lines = lines_of(options.takes, rng)
        spelling = spellings["gb" if voice.startswith("b") else "us"]
        sounds: list[list[NDArray[np.int16]]] = [[] for _ in DIGITS]
        for digit, sound in speak(model, voices, voice, lines, spelling):
            sounds[digit].append(sound)
        print(f"{voice}: {sum(map(len, sounds))} words", file=sys.stderr, flush=True)
        for name, own in zip(DIGITS, sounds, strict=True):
            yield voice, name, own


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line.

    Raises:
        ConfigError: a voice is not in the pack.
    """
    parser = argparse.ArgumentParser(description="Digits in stock voices, as recordings.")
    parser.add_argument("pack", type=Path, help="folder of the voice's weights and tables")
    parser.add_argument("vocabulary", type=Path, help='JSON: {"vocab": {letter: id}}')
    parser.add_argument("out", type=Path, help="manifest to write, .jsonl; its tar beside it")
    parser.add_argument("--voices", nargs="+", default=list(VOICES), help="(%(default)s)")
    parser.add_argument("--takes", type=int, default=40, help="of each digit (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--precision", choices=["float32", "float16", "bfloat16"], default="float32",
        help="of the decoder; bfloat16 is nearly twice as fast where a CPU multiplies in it",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    vocabulary = json.loads(options.vocabulary.read_text(encoding="utf-8"))["vocab"]
    voices = Voices.load(options.pack / "kokoro-voices.npz")
    if unknown := set(options.voices) - set(voices.names):
        raise ConfigError(f"stock_digits: the pack has no voice {', '.join(sorted(unknown))}")
    precision = getattr(torch, options.precision)
    model = Kokoro.load(options.pack / "kokoro.safetensors.z", options.device, precision)
    count, seconds = write(options.out, _spoken(model, voices, vocabulary, options))
    print(f"{count} words, {seconds / 60:.1f} min")


if __name__ == "__main__":
    main()
