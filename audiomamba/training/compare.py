"""Measure other recognisers beside ours, on the same recordings and in the same run::

    pip install pocketsphinx faster-whisper
    OMP_NUM_THREADS=1 python -m audiomamba.training.compare dev.jsonl digits.jsonl --greedy \\
        --pocketsphinx --whisper tiny.en=FOLDER --whisper base=FOLDER

All texts pass the same normalisation. For each clip the recognisers take turns, so that a busy
machine is busy for all of them; time is the process's own on a processor, not the clock's. Figures
in brackets have each hypothesis stopped at twice the reference's words plus four: Whisper may
repeat itself without end, and one such clip says more than a hundred others.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Measured", "compare", "main", "markdown"]

from audiomamba.text.normalize import normalize
from audiomamba.training.clips import Clip, read_clips
from audiomamba.training.peers import (
    Recognize,
    faster_whisper,
    ours,
    pocketsphinx,
)
from audiomamba.training.word_errors import Result, rates


@dataclass(slots=True)
class Measured:
    """What one recogniser heard, and the processor's seconds it took."""

    name: str
    results: list[Result] = field(default_factory=list)
    cpu_s: float = 0.0


def compare(recognizers: dict[str, Recognize], clips: Sequence[Clip]) -> list[Measured]:
    """Let every recogniser hear every clip."""
    measured = [Measured(name) for name in recognizers]
    for i, clip in enumerate(clips):
        for one, recognize in zip(measured, recognizers.values(), strict=True):
            started = time.process_time()
            heard = recognize(clip.samples)
            one.cpu_s += time.process_time() - started
            seconds = len(clip.samples) / 16_000
            one.results.append(Result(clip.name, clip.group, clip.text, normalize(heard), seconds))
        print(f"\r{i + 1} of {len(clips)} clips", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return measured


def markdown(measured: Sequence[Measured]) -> str:
    """A table with a row a recogniser: errors in percent by group, and its cost."""
    groups = [g for g in rates(measured[0].results) if "/" not in g]
    rows = [
        f"| | {' | '.join(groups)} | CPU s a s |",
        f"|---|{'---:|' * (len(groups) + 1)}",
    ]
    for one in measured:
        found, cut = rates(one.results), rates([_cut(r) for r in one.results])
        cells = []
        for group in groups:
            wer, without_loops = found[group].wer, cut[group].wer
            looped = f" ({without_loops:.1f})" if wer - without_loops >= 0.05 else ""
            cells.append(f"{wer:.1f}{looped}")
        seconds = sum(result.seconds for result in one.results)
        rows.append(f"| {one.name} | {' | '.join(cells)} | {one.cpu_s / seconds:.3f} |")
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m audiomamba.training.compare")
    parser.add_argument("manifests", nargs="+", type=Path, metavar="MANIFEST")
    parser.add_argument("--model", nargs="*", default=["listen-en"], help="ours, names or folders")
    parser.add_argument("--chunk-ms", type=float, default=100.0, help="pieces ours is fed in")
    parser.add_argument("--greedy", action="store_true", help="ours without language model too")
    parser.add_argument("--pocketsphinx", action="store_true")
    parser.add_argument("--whisper", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--results", type=Path, help="write each text to this .jsonl file")
    options = parser.parse_args(arguments)

    recognizers = {name: ours(name, chunk_ms=options.chunk_ms) for name in options.model}
    if options.greedy:
        for name in options.model:
            recognizers[f"{name}, greedy"] = ours(name, chunk_ms=options.chunk_ms, lm=False)
    for name, _, folder in (given.partition("=") for given in options.whisper):
        recognizers[f"whisper-{name}"] = faster_whisper(Path(folder))
    if options.pocketsphinx:
        recognizers["pocketsphinx"] = pocketsphinx()
    clips = [clip for manifest in options.manifests for clip in read_clips(manifest)]
    measured = compare(recognizers, clips)
    if options.results is not None:
        _write(options.results, measured)
    print(markdown(measured))


def _cut(result: Result) -> Result:
    most = 2 * len(result.reference.split()) + 4
    heard = " ".join(result.hypothesis.split()[:most])
    return Result(result.name, result.group, result.reference, heard, result.seconds)


def _write(path: Path, measured: Sequence[Measured]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for one in measured:
            for r in one.results:
                row = {"recogniser": one.name, "clip": r.name, "text": r.reference}
                file.write(json.dumps({**row, "heard": r.hypothesis}) + "\n")


if __name__ == "__main__":
    main()
