"""``audiomamba generate``: sound of any length, in constant memory, that can be gone on with."""

import argparse
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audiomamba.models.wave.recording import Recording
    from audiomamba.models.wave.synthesizer import Generation, Synthesizer

__all__ = ["add_parser"]

EXAMPLES = """examples:
  audiomamba generate wave-digits -o digits.wav
  audiomamba generate wave-digits --seconds 3600 -o hour.flac
  audiomamba generate wave-digits --seconds 3600 -o hour.flac --resume
  audiomamba generate wave-digits --speaker fsdd-jackson --seconds 60 -o minute.wav
  audiomamba generate wave-digits --label three one four -o pi.wav
  audiomamba generate runs/mine/export --label one --label two -o words.wav

Ctrl-C, a crash or a full disk leave whole WAV files and a state beside them (OUT.state, and for
FLAC the sound so far in OUT.part.wav); --resume goes on to the samples that would have come.

A guard compares what is made with what the model learnt from. Noise that feeds on itself is drawn
again from where the sound was well, silence or a tone without end is broken; what it did is told,
and the same seed gives the same sound with it. --no-guard leaves it out.
"""

CHOICES = (
    "label", "speaker", "count", "seed", "temperature", "top_p", "guidance", "prompt", "no_guard",
)  # fmt: skip
REPORT_S = 10.0  # from one line to the next where there is no terminal
WORD_S, SOUND_S = 1.0, 10.0  # made where no length is asked for, with a label and without
MOST_TOGETHER = 1024  # recordings; a state each
TOLD = 10  # of the guard's interventions one by one; all are counted


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "generate",
        help="make sound",
        description="Make sound with a waveform model and write it as it comes.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("model", metavar="MODEL", help="name or folder")
    command.add_argument(
        "--seconds",
        type=float,
        help=f"length of each recording (until its labels are said; {WORD_S:g} of a model that "
        f"cannot tell, {SOUND_S:g} without a label)",
    )
    command.add_argument("-o", "--out", type=Path, required=True, help="file.wav or file.flac")
    command.add_argument("--resume", action="store_true", help="go on with an unfinished file")
    command.add_argument(
        "--label",
        action="append",
        nargs="+",
        help="what to say, one word after another; repeat for several files",
    )
    command.add_argument("--speaker", action="append", help="whose voice; repeat likewise")
    command.add_argument("--count", type=int, help="how many recordings, made together")
    command.add_argument("--seed", type=int, help="the same seed gives the same sound (0)")
    command.add_argument("--temperature", type=float, help="below 1: more likely sound")
    command.add_argument("--top-p", type=float, help="share of the likeliest to draw from")
    command.add_argument("--guidance", type=float, help="above 1: truer to label and speaker")
    command.add_argument("--prompt", type=Path, metavar="FILE", help="a recording to go on from")
    command.add_argument(
        "--no-guard", action="store_true", default=None, help="let noise, silence and tones run on"
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
    """Generate; returns 130 where it was interrupted."""
    from audiomamba.audio.wav_writer import MOST_SAMPLES
    from audiomamba.errors import ConfigError, ModelError
    from audiomamba.models.loading import load
    from audiomamba.models.wave.synthesizer import Synthesizer

    if args.seconds is not None and not args.seconds > 0:
        raise ConfigError(f"--seconds must be above 0, got {args.seconds:g}")
    model: Any = load(args.model, device=args.device, engine=args.engine)
    if not isinstance(model, Synthesizer):
        raise ModelError(f"{args.model}: transcribes, it does not make sound")

    def samples_of(generation: "Generation") -> int:
        if args.seconds is None:
            args.seconds = _usual_seconds(args, generation, model.sample_rate)
        samples: int = round(args.seconds * model.sample_rate)
        if samples > MOST_SAMPLES:
            most = MOST_SAMPLES / model.sample_rate
            raise ConfigError(
                f"--seconds: a file holds {most:.0f} s at most at {model.sample_rate} Hz"
            )
        return samples

    recording, samples = _begin(args, model, samples_of)
    return _make(args, recording, samples)


def _usual_seconds(args: argparse.Namespace, generation: "Generation", rate: int) -> float:
    """Of the longest recording until its words are said; else what is usual."""
    from audiomamba.errors import ConfigError

    if all(generation.planned):
        return max(generation.planned) / rate
    if args.resume:
        raise ConfigError("--seconds: --resume wants the length of the whole recording")
    return WORD_S if args.label else SOUND_S


def _begin(
    args: argparse.Namespace, model: "Synthesizer", samples_of: "Callable[[Generation], int]"
) -> "tuple[Recording, int]":
    from audiomamba.audio import files
    from audiomamba.errors import ConfigError
    from audiomamba.models.wave.recording import (
        Recording,
        output_files,
        saved_generation,
        state_file,
    )

    if args.resume:
        given = [name for name in CHOICES if getattr(args, name) is not None]
        if given:
            option = "--" + given[0].replace("_", "-")
            raise ConfigError(f"{option}: --resume goes on with what the recording began with")
        generation = saved_generation(model, args.out)
        samples = samples_of(generation)  # before any file is touched
        return Recording(generation, args.out, model.sample_rate), samples
    if state_file(args.out).exists():
        raise ConfigError(
            f"{args.out}: is unfinished; go on with --resume, or remove {state_file(args.out)}"
        )
    labels: list[str | None] = [" ".join(words) for words in args.label or []] or [None]
    speakers = args.speaker or [None]
    streams = max(len(labels), len(speakers)) if args.count is None else args.count
    if not 1 <= streams <= MOST_TOGETHER:
        raise ConfigError(f"--count must be in 1..{MOST_TOGETHER}, got {streams}")
    output_files(args.out, streams)  # a wrong name is told before the work begins
    sampling = {
        name: value
        for name in ("temperature", "top_p", "guidance")
        if (value := getattr(args, name)) is not None
    }
    prompt = None
    if args.prompt is not None:
        prompt = files.read(args.prompt, sample_rate=model.sample_rate)
        heard = f"{len(prompt) / model.sample_rate:.1f} s at {model.sample_rate} Hz"
        print(f"{args.prompt}: heard {heard}", file=sys.stderr)
    generation = model.start(
        labels=labels * streams if len(labels) == 1 else labels,
        speakers=speakers * streams if len(speakers) == 1 else speakers,
        seed=args.seed or 0,
        prompt=prompt,
        guard=not args.no_guard,
        **sampling,
    )
    samples = samples_of(generation)
    _warn_of_a_small_disk(args, streams * samples)
    return Recording(generation, args.out, model.sample_rate), samples


def _warn_of_a_small_disk(args: argparse.Namespace, samples: float) -> None:
    """Before the work, not after an hour of it; room may still be made meanwhile."""
    wanted = 2 * samples * (2 if args.out.suffix.lower() == ".flac" else 1)  # FLAC: beside a WAV
    try:
        free = shutil.disk_usage(args.out.parent).free
    except OSError:
        return
    if free < wanted:
        print(
            f"{args.out}: may take {wanted / 1e6:.0f} MB, {free / 1e6:.0f} MB are free",
            file=sys.stderr,
        )


def _make(args: argparse.Namespace, recording: "Recording", samples: int) -> int:
    from audiomamba.cli.progress import Progress

    made, rate = recording.generation, recording.sample_rate
    progress, reported = Progress(), time.monotonic()
    began, first_s = time.monotonic(), made.position / rate
    told = before = sum(made.interventions.values())
    if first_s:
        print(f"{args.out}: goes on at {first_s:.1f} s", file=sys.stderr)

    def report(seconds: float) -> None:
        nonlocal reported, told
        count = sum(made.interventions.values())
        fresh = made.incidents[told - count :] if count > told else []
        for incident in fresh[: max(0, TOLD + before - told)]:
            progress.say(f"{args.out}: guard: {incident}")
        told = count
        progress.at(seconds)
        if not progress.shown and time.monotonic() - reported >= REPORT_S:
            reported = time.monotonic()
            print(_line(args, seconds, speed(seconds)), file=sys.stderr, flush=True)

    def speed(seconds: float) -> float:
        return (seconds - first_s) / max(time.monotonic() - began, 1e-9)

    progress.begin(str(args.out), args.seconds, done_s=first_s)
    with _interruptible() as stopped:
        try:
            done = recording.make(samples, stopped=stopped, progress=report)
        except OSError as error:
            progress.hide()
            raise OSError(
                f"{args.out}: {error.strerror or error} after about {made.position / rate:.1f} s; "
                "what was written is whole, --resume goes on"
            ) from None
    seconds = made.position / rate
    all_of_them = speed(seconds) * made.streams
    how = f"{seconds:.1f} s, {all_of_them:.2f} x real time"
    names = _names(recording.files)
    progress.say(f"{names}: {how}" if done else f"{names}: interrupted at {how}; --resume goes on")
    if made.interventions:
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(made.interventions.items()))
        progress.say(f"{args.out}: guard: stepped in {sum(made.interventions.values())}x: {kinds}")
    return 0 if done else 130


def _names(files: list[Path]) -> str:
    if len(files) <= 3:
        return ", ".join(map(str, files))
    return f"{files[0]} to {files[-1].name}"


def _line(args: argparse.Namespace, seconds: float, speed: float) -> str:
    left = (args.seconds - seconds) / max(speed, 1e-9)
    return f"{args.out}: {seconds:.1f} of {args.seconds:.1f} s, {speed:.2f} x, {left:.0f} s left"


@contextmanager
def _interruptible() -> Iterator[Any]:
    """A function that says whether Ctrl-C or SIGTERM came; a second Ctrl-C ends at once.

    An exception in the middle of a call would lose samples that the state counts already.
    """
    came: list[int] = []

    def stop(number: int, frame: object) -> None:
        came.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    try:
        before = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: nobody can interrupt us here
        before = {}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
