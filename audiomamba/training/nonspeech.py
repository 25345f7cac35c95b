"""Words that a model hears where nobody speaks, an hour of each kind::

    python -m audiomamba.training.nonspeech --minutes 60 --recordings noise.jsonl

Made here: silence (a converter's hiss), noise (of several colours, with hum and knocks, changing
every few seconds) and music (chords, a melody and a beat). ``--recordings`` is a manifest beside
its tar: its recordings of kind ``noise`` and ``music``, one after the other, are two kinds more;
``--only`` picks some of them, such as those that no training heard. The stream ends utterances as
the server's does; every word that became final counts.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audiomamba.errors import AudioError
from audiomamba.models.listener import Listener
from audiomamba.text.events import Final
from audiomamba.training.manifests import files, read
from audiomamba.training.recordings import utterances

__all__ = ["KINDS", "main", "music", "noise", "recorded", "silence", "words_heard"]

RATE = 16_000
BLOCK_S = 5.0
Samples = NDArray[np.float32]


def silence(random: np.random.Generator) -> Samples:
    """The hiss of a quiet converter, about -80 dB."""
    return (1e-4 * random.standard_normal(round(BLOCK_S * RATE))).astype(np.float32)


def noise(random: np.random.Generator) -> Samples:
    """Noise of a random colour and level, now and then with hum or knocks."""
    n = round(BLOCK_S * RATE)
    spectrum = np.fft.rfft(random.standard_normal(n))
    hz = np.fft.rfftfreq(n, 1 / RATE)
    shaped = np.fft.irfft(spectrum * np.maximum(hz, 40) ** (-random.uniform(0, 1)), n)
    out = shaped / np.abs(shaped).max()
    t = np.arange(n) / RATE
    if random.random() < 0.3:
        mains = random.choice([50.0, 60.0])
        out += sum(np.sin(2 * np.pi * mains * k * t) / k for k in (1, 2, 3, 5))
    if random.random() < 0.3:
        for at in random.integers(0, n - 1600, size=random.integers(1, 8)):
            out[at : at + 1600] += (
                2
                * random.standard_normal(1600)
                * np.exp(-np.arange(1600) / random.uniform(40, 400))
            )
    level = 10 ** (random.uniform(-40, -10) / 20)
    quiet: Samples = (level * out / np.abs(out).max()).astype(np.float32)
    return quiet


def music(random: np.random.Generator) -> Samples:
    """Two bars of chords with a melody over them and a beat below."""
    n = round(BLOCK_S * RATE)
    out = np.zeros(n)
    root, beat = random.uniform(110, 220), random.choice([0.25, 0.3125, 0.5])
    for start in np.arange(0, BLOCK_S, 4 * beat):
        chord = root * 2 ** (random.choice([0, 5, 7, 9]) / 12)
        for step in (0, random.choice([3, 4]), 7):
            _pluck(out, start, chord * 2 ** (step / 12), 4 * beat, 0.2, random)
    for start in np.arange(0, BLOCK_S, beat):
        note = root * 2 ** (random.choice([12, 14, 16, 19, 21, 24]) / 12)
        _pluck(out, start, note, beat * random.choice([1, 2]), 0.4, random)
        drum = random.standard_normal(800) * np.exp(-np.arange(800) / 120)
        at = round(start * RATE)
        out[at : at + 800] += 0.3 * drum[: n - at]
    level = 10 ** (random.uniform(-30, -6) / 20)
    played: Samples = (level * out / np.abs(out).max()).astype(np.float32)
    return played


KINDS: dict[str, Callable[[np.random.Generator], Samples]] = {
    "silence": silence,
    "made noise": noise,
    "made music": music,
}


def recorded(manifest: Path, kind: str, only: Sequence[str] = ()) -> list[Samples]:
    """Recordings of a kind in a manifest's tar, those whose names hold one of ``only``.

    Raises:
        AudioError: there are none, or they cannot be read.
    """
    wanted = {
        record["path"]: [record]
        for record in read(manifest)
        if record.get("kind") == kind and (not only or any(x in record["path"] for x in only))
    }
    if not wanted:
        raise AudioError(f"{manifest}: has no {kind} {' or '.join(only)}")
    found = files(manifest, wanted)
    return [own for name, encoded in found for _, own in utterances(encoded, wanted[name])]


def words_heard(
    listener: Listener, blocks: Iterator[Samples], *, lm: bool | None = None
) -> tuple[list[str], float]:
    """Words that became final, and the seconds of sound in which they did."""
    seconds = 0.0

    def counted() -> Iterator[tuple[int, Samples]]:
        nonlocal seconds
        for block in blocks:
            seconds += len(block) / RATE
            yield RATE, block

    finals = [e for e in listener.events(counted(), lm=lm) if isinstance(e, Final)]
    return [word.word for final in finals for word in final.words], seconds


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the module's docstring."""
    from audiomamba.models.loading import load

    parser = argparse.ArgumentParser(prog="python -m audiomamba.training.nonspeech")
    parser.add_argument("--model", default="listen-en", help="name or folder")
    parser.add_argument("--minutes", type=float, default=60.0, help="of each kind")
    parser.add_argument("--recordings", type=Path, help="manifest of noise and music")
    parser.add_argument("--only", nargs="*", default=[], help="parts of names in it")
    parser.add_argument("--greedy", action="store_true", help="without language model")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    listener = load(options.model)
    count = round(options.minutes * 60 / BLOCK_S)
    sounds: dict[str, Iterator[Samples]] = {
        name: _made(make, count, options.seed) for name, make in KINDS.items()
    }
    if options.recordings is not None:
        for kind in ("noise", "music"):
            found = recorded(options.recordings, kind, options.only)
            sounds[f"recorded {kind}"] = _played(found, options.minutes * 60)
    print("| | words an hour | minutes |\n|---|---:|---:|")
    for name, blocks in sounds.items():
        started = time.perf_counter()
        words, seconds = words_heard(listener, blocks, lm=False if options.greedy else None)
        print(f"| {name} | {3600 * len(words) / seconds:.1f} | {seconds / 60:.0f} |", flush=True)
        took = time.perf_counter() - started
        print(f"{name}: {took:.0f} s: {' '.join(words[:30])}", file=sys.stderr, flush=True)


def _made(
    make: Callable[[np.random.Generator], Samples], count: int, seed: int
) -> Iterator[Samples]:
    random = np.random.default_rng(seed)
    return (make(random) for _ in range(count))


def _played(recordings: list[Samples], seconds: float) -> Iterator[Samples]:
    """Recordings in turn, without end but for the time."""
    left = round(seconds * RATE)
    for recording in islice(cycle(recordings), 1_000_000):
        yield recording[:left]
        left -= len(recording[:left])
        if left <= 0:
            return


def _pluck(
    out: NDArray[np.float64],
    start: float,
    hz: float,
    seconds: float,
    loud: float,
    random: np.random.Generator,
) -> None:
    """Add a plucked string's partials."""
    at = round(start * RATE)
    t = np.arange(min(round(seconds * RATE), len(out) - at)) / RATE
    for k in range(1, 6):
        phase = random.uniform(0, 2 * np.pi)
        out[at : at + len(t)] += (
            loud / k * np.sin(2 * np.pi * hz * k * t + phase) * np.exp(-3 * k * t)
        )


if __name__ == "__main__":
    main()
