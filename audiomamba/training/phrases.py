"""Recordings cut into phrases between words, so that few recordings make many sentences::

    python -m audiomamba.training.phrases CORPUS VOCAB.json OUT --model listen-en

A few hours of recorded people are drawn hundreds of times in a run, until the model knows their
sentences by heart and hears voices it has not met no better for it. Phrases of one to six words,
joined anew in every row of every batch, leave it nothing to learn but how the words sound. ``OUT``
holds each recording once as it is, now with its phones, and cut at random as often as
``--cuts`` says. What cannot be aligned is kept as it is.

Source: Lam et al., "On-the-Fly Aligned Data Augmentation for Sequence-to-Sequence ASR", 2021, which
replaces words inside sentences; here the packing of rows does the joining.
"""

import argparse
import json
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audiomamba.models.registry import find
from audiomamba.models.torch_acoustic import load_transcriber
from audiomamba.training.corpus import FRAME_SAMPLES, SAMPLE_RATE, Corpus, CorpusWriter, Utterance
from audiomamba.training.speech.alignment import Aligner, Alignment
from audiomamba.training.speech.g2p import Phonemiser

__all__ = ["MOST_WORDS", "WORST_SCORE", "cut_points", "main", "pieces", "write"]

MOST_WORDS = 6  # in a phrase
WORST_SCORE = -2.0  # mean log-probability a frame, below which an alignment is not believed
_PAUSE_S = 0.06  # between two words, from which a cut goes through the middle
_NEAR_S = 0.03  # else within so much, where it is quietest
_TOGETHER = 16  # recordings in one run of the model
_FADE = 64  # samples, 4 ms: a cut through sound shall not click

Samples = NDArray[np.int16]


def cut_points(samples: Samples, words: NDArray[np.float64]) -> NDArray[np.int64]:
    """The sample between each word and the next, ``(W - 1,)``, rising.

    Args:
        samples: ``(S,)`` at 16 kHz.
        words: ``(W, 2)`` seconds where each begins and ends.
    """
    energy = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
    half = SAMPLE_RATE // 200  # 5 ms
    found = []
    for (_, end), (start, _) in zip(words[:-1], words[1:], strict=True):
        at = round((end + start) / 2 * SAMPLE_RATE)
        if start - end < _PAUSE_S:
            reach = round(_NEAR_S * SAMPLE_RATE)
            near = np.clip(np.arange(at - reach, at + reach + 1, half), half, len(samples) - half)
            at = int(near[np.argmin(energy[near + half] - energy[near - half])])
        found.append(at)
    return np.maximum.accumulate(np.clip(np.array(found, np.int64), 0, len(samples)))


def pieces(words: int, random: np.random.Generator) -> list[tuple[int, int]]:
    """Spans of word numbers that cover ``words``, of 1 to ``MOST_WORDS`` each."""
    edges = [0]
    while edges[-1] < words:
        edges.append(min(words, edges[-1] + int(random.integers(1, MOST_WORDS + 1))))
    return list(zip(edges[:-1], edges[1:], strict=True))


def write(
    writer: CorpusWriter,
    utterance: Utterance,
    alignment: Alignment,
    *,
    cuts: int,
    random: np.random.Generator,
) -> None:
    """The whole recording with its phones, then ``cuts`` times its phrases."""
    words = utterance.text.split()
    inner = cut_points(utterance.audio, alignment.words)
    edges = np.concatenate([[0], inner, [len(utterance.audio)]])
    spans = [(0, len(words))]
    for _ in range(cuts if len(words) > 1 else 0):
        spans += pieces(len(words), random)
    for first, last in spans:
        begin, end = int(edges[first]), int(edges[last])
        if end - begin < 2 * _FADE:
            continue
        sound = utterance.audio[begin:end].copy()
        if first > 0:
            sound[:_FADE] = sound[:_FADE] * np.linspace(0, 1, _FADE)
        if last < len(words):
            sound[-_FADE:] = sound[-_FADE:] * np.linspace(1, 0, _FADE)
        ids, frames = _phones(alignment, begin, end)
        writer.append(
            sound,
            " ".join(words[first:last]),
            source=utterance.source,
            speaker=utterance.speaker,
            phone_ids=ids,
            phone_frames=frames,
        )


def _phones(
    alignment: Alignment, begin: int, end: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Phones of samples ``begin`` to ``end``, with lengths in frames of 25 ms."""
    frames = -(-(end - begin) // FRAME_SAMPLES)
    at = np.rint((alignment.starts * SAMPLE_RATE - begin) / FRAME_SAMPLES).astype(np.int64)
    edges = np.clip(np.append(at, frames), 0, frames)
    lengths = np.diff(edges)
    kept = lengths > 0
    return alignment.phones[kept], lengths[kept]


@dataclass(frozen=True, slots=True)
class _Job:
    """Every so-manyth recording of a corpus, from one on."""

    corpus: Path
    vocabulary: Path
    model: Path
    device: str
    first: int
    stride: int


def _align(job: _Job) -> list[Alignment | None]:
    letters = json.loads(job.vocabulary.read_text(encoding="utf-8"))["vocab"]
    aligner = Aligner(load_transcriber(job.model, device=job.device), Phonemiser(letters))
    corpus = Corpus(job.corpus)
    numbers = range(job.first, len(corpus), job.stride)
    by_length = sorted(numbers, key=lambda i: len(corpus.audio(i)))
    found: dict[int, Alignment | None] = {}
    for first in range(0, len(by_length), _TOGETHER):
        some = by_length[first : first + _TOGETHER]
        recordings = [(corpus.audio(i), corpus.text(i).split()) for i in some]
        found.update(zip(some, aligner.align_all(recordings), strict=True))
    return [found[i] for i in numbers]


def _alignments(
    corpus: Path, vocabulary: Path, model: Path, device: str, processes: int
) -> Iterator[Alignment | None]:
    """Of every recording in its turn; a process, with a model of its own, takes every n-th."""
    jobs = [_Job(corpus, vocabulary, model, device, k, processes) for k in range(processes)]
    if processes == 1:
        yield from _align(jobs[0])
        return
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        parts = list(pool.map(_align, jobs))
    for i in range(sum(map(len, parts))):
        yield parts[i % processes][i // processes]


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m audiomamba.training.phrases", description="cut recordings into phrases"
    )
    parser.add_argument("corpus", type=Path)
    parser.add_argument("vocabulary", type=Path, help="the voice model's letters, as .script wants")
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="listen-en", help="name or folder")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--cuts", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    random = np.random.default_rng(options.seed)
    corpus, aligned = Corpus(options.corpus), 0
    found = _alignments(
        options.corpus,
        options.vocabulary,
        find(options.model),
        options.device,
        options.processes,
    )
    with CorpusWriter(options.out) as writer:
        for utterance, alignment in zip(corpus, found, strict=True):
            if alignment is None or alignment.score < WORST_SCORE:
                writer.append(
                    utterance.audio,
                    utterance.text,
                    source=utterance.source,
                    speaker=utterance.speaker,
                )
                continue
            aligned += 1
            write(writer, utterance, alignment, cuts=options.cuts, random=random)
        print(f"{aligned} of {len(corpus)} recordings aligned, {len(writer)} utterances written")


if __name__ == "__main__":
    main()
