"""``audiomamba transcribe``: files to text, JSON or subtitles."""

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from audiomamba.models.listener import Transcript

__all__ = ["add_parser"]

EXAMPLES = """examples:
  audiomamba transcribe talk.flac
  audiomamba transcribe --format srt talk.flac > talk.srt
  audiomamba transcribe --format json *.wav | jq .text
"""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "transcribe",
        help="write down what is said in files",
        description="Write down what is said in files; any length, in constant memory.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="wav, flac, ogg or mp3"
    )
    command.add_argument(
        "--model", default="listen-en", help="name or folder (default: %(default)s)"
    )
    command.add_argument(
        "--format",
        choices=("txt", "json", "srt", "vtt"),
        default="txt",
        help="default: %(default)s",
    )
    command.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    command.add_argument(
        "--engine",
        choices=("auto", "native", "torch"),
        default="auto",
        help="auto takes the native engine on a CPU where it was built (default: %(default)s)",
    )
    command.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Transcribe each file; a file that cannot be read is reported and the others go on."""
    from audiomamba.errors import AudioError
    from audiomamba.models.loading import load

    listener = load(args.model, device=args.device, engine=args.engine)
    failed = False
    for file in args.files:
        started = time.perf_counter()
        try:
            transcript = listener.transcribe(file)
        except (AudioError, OSError) as error:
            print(f"audiomamba transcribe: {error}", file=sys.stderr)
            failed = True
            continue
        took = time.perf_counter() - started
        print(_render(args, file, transcript, listener.name, took), flush=True)
        speed = transcript.seconds / took
        print(f"{file}: {transcript.seconds:.1f} s in {took:.1f} s ({speed:.0f}x)", file=sys.stderr)
    return 1 if failed else 0


def _render(
    args: argparse.Namespace, file: Path, transcript: "Transcript", model: str, took: float
) -> str:
    from audiomamba.text import subtitles

    if args.format == "json":
        return json.dumps(
            {
                "file": str(file),
                "seconds": round(transcript.seconds, 3),
                "text": transcript.text,
                "words": [asdict(word) for word in transcript.words],
                "model": model,
                "realtime_factor": round(took / max(transcript.seconds, 1e-9), 4),
            }
        )
    if args.format in ("srt", "vtt"):
        render = subtitles.srt if args.format == "srt" else subtitles.vtt
        return render(transcript.words)
    return transcript.text if len(args.files) == 1 else f"{file}\t{transcript.text}"
