"""``audiomamba transcribe``: files and standard input to text, JSON or subtitles."""

import argparse
import sys
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from audiomamba.errors import AudioError, ConfigError

if TYPE_CHECKING:
    from audiomamba.cli.inputs import Input, Raw
    from audiomamba.cli.progress import Progress
    from audiomamba.cli.results import Heard
    from audiomamba.models.listener import Listener
    from audiomamba.text.events import Final

__all__ = ["add_parser"]

EXAMPLES = """examples:
  audiomamba transcribe talk.flac                             the text
  audiomamba transcribe --format srt talk.flac > talk.srt     subtitles for a player
  audiomamba transcribe --format json *.wav | jq -r .text     words with times, an object a line
  audiomamba transcribe -f vtt -o captions/ talks/*.mp3       captions/NAME.vtt, one a talk

standard input, written down while it comes:
  ffmpeg -v error -i film.mkv -vn -f wav - | audiomamba transcribe -
  arecord -q -t raw -f S16_LE -r 16000 | audiomamba transcribe --raw linear16 --rate 16000 -
  sox call.wav -t raw -e mu-law -r 8000 -c 1 - | audiomamba transcribe --raw mulaw --rate 8000 -

A file that cannot be read is reported and the others go on; the exit code is then 1. Ctrl-C leaves
what was written: valid, and ending where it stopped.
"""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "transcribe",
        help="write down what is said in files or on standard input",
        description="Write down what is said in recordings; any length, in constant memory. Text "
        "goes to standard output, progress to standard error.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "files", nargs="+", metavar="FILE", help="wav, flac, ogg, opus or mp3; - is standard input"
    )
    command.add_argument(
        "-f", "--format", choices=("txt", "json", "srt", "vtt"), default="txt",
        help="default: %(default)s",
    )  # fmt: skip
    command.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER",
        help="write NAME.FORMAT for each file there, instead of standard output",
    )  # fmt: skip
    command.add_argument(
        "-m", "--model", default="listen-en", help="name or folder (default: %(default)s)"
    )
    command.add_argument("-q", "--quiet", action="store_true", help="no progress; errors still")
    raw = command.add_argument_group("samples without a header")
    raw.add_argument(
        "--raw", metavar="ENCODING", help="linear16, float32, mulaw or alaw, little-endian"
    )
    raw.add_argument("--rate", type=int, default=16_000, metavar="HZ", help="default: %(default)s")
    raw.add_argument("--channels", type=int, default=1, metavar="N", help="default: %(default)s")
    where = command.add_argument_group("where the model runs")
    where.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    where.add_argument(
        "--engine", choices=("auto", "native", "torch"), default="auto",
        help="auto takes the native engine on a CPU where it was built (default: %(default)s)",
    )  # fmt: skip
    command.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Transcribe each file; one that cannot be read is reported and the others go on."""
    from audiomamba.cli.inputs import Raw
    from audiomamba.cli.progress import Progress
    from audiomamba.models.loading import load

    raw = Raw(args.raw, args.rate, args.channels) if args.raw else None
    places = _places(args)
    listener = load(args.model, device=args.device, engine=args.engine)
    progress = Progress()
    progress.shown &= not args.quiet
    failed = False
    for number, (name, place) in enumerate(zip(args.files, places, strict=True), 1):
        label = _shown(name) if len(args.files) == 1 else f"{number}/{len(args.files)} {name}"
        try:
            _transcribe(args, listener, name, place, raw, progress, label)
        except (AudioError, OSError) as error:
            if isinstance(error, BrokenPipeError):
                raise
            progress.say(f"audiomamba transcribe: {_named(name, error)}")
            failed = True
        except KeyboardInterrupt:
            progress.say(f"interrupted in {_shown(name)}")
            raise
    return 1 if failed else 0


def _places(args: argparse.Namespace) -> list[Path | None]:
    """Where each transcript goes; None is standard output.

    Raises:
        ConfigError: two of them would go to one place, or cannot share it.
    """
    if args.files.count("-") > 1:
        raise ConfigError("- (standard input) can be read only once")
    if args.output is None:
        if args.format in ("srt", "vtt") and len(args.files) > 1:
            raise ConfigError(
                f"--format {args.format} holds one recording, got {len(args.files)}: "
                "give a folder with --output"
            )
        return [None] * len(args.files)
    places: list[Path | None] = []
    for name in args.files:
        stem = "standard-input" if name == "-" else Path(name).stem
        place = args.output / f"{stem}.{args.format}"
        if place in places:
            raise ConfigError(f"--output: two of the files would be written to {place}")
        places.append(place)
    args.output.mkdir(parents=True, exist_ok=True)
    return places


def _transcribe(
    args: argparse.Namespace,
    listener: "Listener",
    name: str,
    place: Path | None,
    raw: "Raw | None",
    progress: "Progress",
    label: str,
) -> None:
    from audiomamba.cli.inputs import open_input
    from audiomamba.cli.results import Heard, write

    source = open_input(name, raw)
    heard = Heard(name, listener.name)
    progress.begin(label, source.seconds)
    with ExitStack() as stack:
        finals = stack.enter_context(closing(_finals(listener, source, heard, progress)))
        first = next(finals, None)  # a file that cannot be read leaves no empty transcript
        out = stack.enter_context(place.open("w", encoding="utf-8")) if place else sys.stdout
        paper = _Paper(out, progress)
        stack.callback(paper.flush)
        named = place is None and len(args.files) > 1
        write(args.format, _again(first, finals), heard, paper.write, named=named)
    speed = heard.seconds / max(heard.took, 1e-9)
    if not args.quiet:
        progress.say(f"{_shown(name)}: {heard.seconds:.1f} s in {heard.took:.1f} s ({speed:.0f}x)")
    progress.hide()


def _finals(
    listener: "Listener", source: "Input", heard: "Heard", progress: "Progress"
) -> "Generator[Final, None, None]":
    """What becomes final, while the progress is shown."""
    from audiomamba.text.events import Final

    def counted() -> "Iterator[tuple[int, object]]":
        for rate, block in source.blocks:
            yield rate, block
            heard.seconds += len(block) / rate
            progress.at(heard.seconds)

    for event in listener.events(counted()):  # type: ignore[arg-type]
        if isinstance(event, Final):
            yield event


def _again(first: "Final | None", rest: "Iterator[Final]") -> "Iterator[Final]":
    if first is not None:
        yield first
    yield from rest


class _Paper:
    """Where a transcript is written. On a terminal whole lines only: the progress is there too."""

    def __init__(self, out: TextIO, progress: "Progress") -> None:
        self._out, self._progress = out, progress
        self._whole_lines = progress.shown and out.isatty()
        self._held = ""

    def write(self, text: str) -> None:
        self._held += text
        if not self._whole_lines or text.endswith("\n"):
            self.flush()

    def flush(self) -> None:
        if self._held:
            if self._whole_lines:
                self._progress.hide()
            self._out.write(self._held)
            self._out.flush()
            self._held = ""


def _shown(name: str) -> str:
    return "standard input" if name == "-" else name


def _named(name: str, error: Exception) -> str:
    """An error in one line that says which file it is of."""
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return words if _shown(name) in words else f"{_shown(name)}: {words}"
