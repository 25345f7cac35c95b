"""``audiomamba evaluate``: word error rates of a model, through the public stream."""

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from audiomamba.models.listener import Listener
    from audiomamba.training.clips import Clip
    from audiomamba.training.word_errors import Result

__all__ = ["add_parser"]

EXAMPLES = """examples:
  audiomamba evaluate --model runs/a/export data/dev.jsonl data/digits.jsonl
  audiomamba evaluate --chunk-ms 100 --results heard.jsonl data/dev.jsonl
  audiomamba evaluate --engine torch data/dev.jsonl

A manifest is a .jsonl file beside the .tar of its recordings, or beside the
files it names (.tsv and .csv too); the folder of a corpus will do.
"""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "evaluate",
        help="word error rates on labelled recordings",
        description="Stream labelled recordings through a model and count its errors, by group.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("manifests", nargs="+", type=Path, metavar="MANIFEST")
    command.add_argument("--split", default="dev", help="of the manifests (default: %(default)s)")
    command.add_argument(
        "--model", default="listen-en", help="name or folder (default: %(default)s)"
    )
    command.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    command.add_argument(
        "--engine",
        choices=("auto", "native", "torch"),
        default="auto",
        help="what runs the network: int8 on a CPU, or PyTorch (default: %(default)s)",
    )
    command.add_argument(
        "--chunk-ms",
        type=float,
        default=0.0,
        help="feed a live stream in pieces of this length; 0: as a file (default: %(default)g)",
    )
    command.add_argument("--greedy", action="store_true", help="without the language model")
    command.add_argument("--results", type=Path, help="write each clip's text to this .jsonl file")
    command.add_argument("--json", action="store_true", help="print JSON instead of a table")
    command.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    from audiomamba.errors import ConfigError
    from audiomamba.models.loading import load
    from audiomamba.training.clips import read_clips
    from audiomamba.training.word_errors import Result, rates, table

    if args.chunk_ms < 0:
        raise ConfigError(f"--chunk-ms must be at least 0, got {args.chunk_ms:g}")
    listener = load(args.model, device=args.device, engine=args.engine)
    results: list[Result] = []
    started = time.perf_counter()
    for manifest in args.manifests:
        for clip in read_clips(manifest, split=args.split):
            heard = _listen(listener, clip, args.chunk_ms, lm=False if args.greedy else None)
            seconds = len(clip.samples) / 16_000
            results.append(Result(clip.name, clip.group, clip.text, heard, seconds))
    took = time.perf_counter() - started
    measured = rates(results)
    if args.results is not None:
        _write(args.results, results)
    if args.json:
        groups = {group: asdict(r) for group, r in measured.items()}
        print(json.dumps({"model": listener.name, "chunk_ms": args.chunk_ms, "groups": groups}))
    else:
        print(table(measured))
    audio = sum(r.seconds for r in results)
    speed = audio / max(took, 1e-9)
    print(f"{audio:.0f} s of audio in {took:.0f} s ({speed:.0f}x)", file=sys.stderr)
    return 0


def _listen(listener: "Listener", clip: "Clip", chunk_ms: float, *, lm: bool | None) -> str:
    from audiomamba.text.events import Final

    if not chunk_ms:
        return listener.transcribe(clip.samples, lm=lm).text
    stream = listener.stream(lm=lm)
    size = max(1, round(chunk_ms * 16))
    events = []
    for at in range(0, len(clip.samples), size):
        events += stream.feed(clip.samples[at : at + size])
    events += stream.finish()
    return " ".join(event.text for event in events if isinstance(event, Final) and event.text)


def _write(path: Path, results: "list[Result]") -> None:
    with path.open("w", encoding="utf-8") as file:
        for result in results:
            file.write(json.dumps(asdict(result)) + "\n")
