"""How late a model's word times are, on words whose times are known::

    python -m audiomamba.training.word_times digits.jsonl --split train

Recordings of single words are cut to their sound, joined with pauses of 0.12 to 0.45 s, and heard
as one; a list counts where every word was heard. The mean of ``start`` is what ``start_delay_s`` of
the checkpoint should be; measure with ``--raw`` to fit it, without it to check.

With ``--vocabulary VOCAB.json`` the manifest's recordings are sentences, heard as they are, and the
times that count as known are those of the text laid along the phone head (speech/alignment.py)::

    python -m audiomamba.training.word_times dev.jsonl --vocabulary VOCAB.json
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from audiomamba.models.listener import Listener
from audiomamba.training.clips import Clip, read_clips

if TYPE_CHECKING:
    from audiomamba.training.speech.alignment import Aligner

__all__ = ["Lateness", "join", "main", "measure", "measure_aligned"]

RATE = 16_000
WORDS = 6  # in a list
_QUIET = 10**-2.5  # of the loudest 20 ms, in power: what is below it at the ends is no sound
Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Lateness:
    """Seconds by which words were said to start and end after they did, ``(n,)`` each."""

    start: NDArray[np.float64]
    end: NDArray[np.float64]


def join(
    clips: Sequence[Clip], random: np.random.Generator
) -> tuple[Samples, list[tuple[float, float]]]:
    """One recording of all clips, and the seconds where each starts and ends."""
    parts = [_hiss(random, 0.5)]
    spans = []
    at = len(parts[0])
    for clip in clips:
        sound = _trimmed(clip.samples)
        spans.append((at / RATE, (at + len(sound)) / RATE))
        parts += [sound, _hiss(random, float(random.uniform(0.12, 0.45)))]
        at += len(sound) + len(parts[-1])
    return np.concatenate(parts), spans


def measure(listener: Listener, clips: Sequence[Clip], *, raw: bool = False) -> Lateness:
    """Join clips in lists of ``WORDS`` and compare; ``raw`` leaves the start delay in."""
    random = np.random.default_rng(0)
    order = random.permutation(len(clips))
    changes = {"start_delay_s": 0.0} if raw else {}
    starts: list[float] = []
    ends: list[float] = []
    for i in range(0, len(clips) - WORDS + 1, WORDS):
        chosen = [clips[k] for k in order[i : i + WORDS]]
        samples, spans = join(chosen, random)
        words = listener.transcribe(samples, decoder=listener.decoder_config(**changes)).words
        if [word.word for word in words] == [clip.text for clip in chosen]:
            starts += [w.start - a for w, (a, _) in zip(words, spans, strict=True)]
            ends += [w.end - b for w, (_, b) in zip(words, spans, strict=True)]
    return Lateness(np.array(starts), np.array(ends))


def measure_aligned(
    listener: Listener, aligner: "Aligner", clips: Sequence[Clip], *, raw: bool = False
) -> Lateness:
    """Words of sentences that were heard rightly, against where ``aligner`` finds them."""
    changes = {"start_delay_s": 0.0} if raw else {}
    starts: list[float] = []
    ends: list[float] = []
    for clip in clips:
        said = clip.text.split()
        aligned = aligner.align(np.clip(clip.samples * 32_768, -32_768, 32_767).astype("i2"), said)
        if aligned is None:
            continue
        decoder = listener.decoder_config(**changes)
        heard = listener.transcribe(clip.samples, decoder=decoder).words
        pairs = SequenceMatcher(None, said, [word.word for word in heard], autojunk=False)
        for a, b, size in pairs.get_matching_blocks():
            for (start, end), word in zip(aligned.words[a : a + size], heard[b:], strict=False):
                starts.append(word.start - start)
                ends.append(word.end - end)
    return Lateness(np.array(starts), np.array(ends))


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the module's docstring."""
    from audiomamba.models.loading import load

    parser = argparse.ArgumentParser(prog="python -m audiomamba.training.word_times")
    parser.add_argument("manifest", type=Path, help="single words, such as spoken digits")
    parser.add_argument("--model", default="listen-en", help="name or folder")
    parser.add_argument("--split", default="dev", help="(default: %(default)s)")
    parser.add_argument("--raw", action="store_true", help="without the start delay")
    parser.add_argument("--words", type=int, default=240, help="recordings, at most")
    parser.add_argument("--vocabulary", type=Path, help="phones, for recordings of sentences")
    options = parser.parse_args(arguments)
    clips = list(read_clips(options.manifest, split=options.split))
    chosen = np.random.default_rng(1).permutation(len(clips))[: options.words]
    listener, clips = load(options.model), [clips[i] for i in chosen]
    if options.vocabulary is None:
        late = measure(listener, clips, raw=options.raw)
    else:
        aligner = _aligner(options.model, options.vocabulary)
        late = measure_aligned(listener, aligner, clips, raw=options.raw)
    print("| | words | mean late, s | spread, s | mean distance, s |\n|---|---:|---:|---:|---:|")
    for name, seconds in (("start", late.start), ("end", late.end)):
        print(
            f"| {name} | {len(seconds)} | {seconds.mean():.3f} | {seconds.std():.3f} "
            f"| {np.abs(seconds).mean():.3f} |"
        )


def _aligner(model: str, vocabulary: Path) -> "Aligner":
    from audiomamba.models.registry import find
    from audiomamba.models.torch_acoustic import load_transcriber
    from audiomamba.training.speech.alignment import Aligner
    from audiomamba.training.speech.g2p import Phonemiser

    letters = json.loads(vocabulary.read_text(encoding="utf-8"))["vocab"]
    return Aligner(load_transcriber(find(model)), Phonemiser(letters))


def _hiss(random: np.random.Generator, seconds: float) -> Samples:
    return (1e-3 * random.standard_normal(round(seconds * RATE))).astype(np.float32)


def _trimmed(samples: Samples) -> Samples:
    power = np.convolve(samples**2, np.ones(RATE // 50), "same")
    loud = np.flatnonzero(power > power.max() * _QUIET)
    cut = samples[loud[0] : loud[-1] + 1]
    level: Samples = (0.3 * cut / max(float(np.abs(cut).max()), 1e-9)).astype(np.float32)
    return level


if __name__ == "__main__":
    main()
