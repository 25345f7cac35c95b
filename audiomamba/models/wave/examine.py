"""Does a long recording stay what it was? Energy, spectrum, likelihood and words, by minute.

    python -m audiomamba.models.wave.examine hour.flac --model wave-digits --listen listen-en \\
        --plot hour.svg --json hour.json
    python -m audiomamba.models.wave.examine hour.wav --model wave-digits --make 3600 \\
        --speaker fsdd-jackson --listen listen-en --plot hour.svg --json hour.json

One JSON line a minute. Constant memory is easy to promise; this looks for what goes wrong with it:
noise that grows, silence for ever, a spectrum that drifts, words that are none. ``bits`` is what
the last seconds of a minute cost the model from a fresh state, so that it does not judge itself by
what it remembers; the recogniser, too, begins anew each minute, so that what it makes of a minute
does not depend on those before. ``--make`` makes the recording first and keeps how much memory it
took at its second 1 and at its last.
"""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiomamba.audio import files
from audiomamba.errors import ConfigError, Error
from audiomamba.models.listener import Listener
from audiomamba.models.loading import load
from audiomamba.models.wave.curves import Curve, draw
from audiomamba.models.wave.recording import Recording, state_file
from audiomamba.models.wave.synthesizer import Synthesizer
from audiomamba.text.events import Final

__all__ = ["Hear", "Memory", "Minute", "examine", "hearing", "make", "plot"]

Samples = NDArray[np.float32]
Hear = Callable[[Samples, int], list[str]]
"""Samples ``(n,)`` and their rate to the words in them."""

FFT = 1024
SILENCE_DB = -60.0  # a tenth of a second below this is silent


@dataclass(frozen=True, slots=True)
class Minute:
    """What one stretch of a recording is like."""

    start_s: float
    rms_db: float  # of full scale
    peak: float
    silent: float  # share of tenths of a second
    centroid_hz: float  # the middle of the power spectrum
    flatness: float  # geometric over arithmetic mean of it: 1 is white noise, 0 a tone
    bits: float | None = None  # a sample; None without a model
    words_per_min: float | None = None  # that a recogniser hears; None without one
    expected: float | None = None  # share of them that were expected
    commonest: float | None = None  # share of them that is the same word
    interventions: int | None = None  # of the guard; None where it was not made here


@dataclass(frozen=True, slots=True)
class Memory:
    """What a recording took while it was made."""

    state_bytes_first: int  # of the model and the guard, at second 1
    state_bytes_last: int
    resident_mb_first: float  # of the process
    resident_mb_last: float


def examine(
    recording: Path,
    *,
    model: Synthesizer | None = None,
    hear: Hear | None = None,
    interventions: Sequence[int] | None = None,
    words: Sequence[str] = (),
    every_s: float = 60.0,
    likelihood_s: float = 4.0,
) -> Iterator[Minute]:
    """Look at a recording stretch by stretch, in constant memory.

    Args:
        recording: A file.
        model: Whose likelihood is measured; its rate should be that of the file.
        hear: A recogniser.
        interventions: Of the guard, a number a stretch.
        words: Those that are expected; none: the model's labels.
        every_s: Length of a stretch.
        likelihood_s: Seconds at its end that the model hears.

    Raises:
        AudioError: the file cannot be read.
    """
    start = 0.0
    expected = set(words or (model.config.labels if model is not None else ()))
    for number, (rate, block) in enumerate(files.stream(recording, every_s)):
        mono: Samples = block.mean(axis=1)
        found: dict[str, Any] = {}
        if model is not None:
            bits = model.bits(mono[-round(likelihood_s * rate) :])
            found["bits"] = round(float(bits.mean()), 4)
        if hear is not None:
            found |= _words(hear(mono, rate), 60 * rate / len(mono), expected)
        if interventions is not None:
            found["interventions"] = interventions[number] if number < len(interventions) else 0
        yield Minute(start_s=round(start, 1), **_sound(mono, rate), **found)
        start += len(mono) / rate


def hearing(listener: Listener) -> Hear:
    """A recogniser that begins anew with every call."""

    def hear(samples: Samples, rate: int) -> list[str]:
        stream = listener.stream(sample_rate=rate)
        events = [*stream.feed(samples), *stream.finish()]
        return " ".join(event.text for event in events if isinstance(event, Final)).split()

    return hear


def make(
    model: Synthesizer, out: Path, seconds: float, *, every_s: float = 60.0, **wishes: Any
) -> tuple[list[int], Memory]:
    """Make a recording: the guard's interventions by stretch, and what memory it took.

    Args:
        model: What makes it.
        out: A new file, .wav or .flac.
        seconds: Its length.
        every_s: Length of a stretch.
        **wishes: Of :meth:`Synthesizer.start`.

    Raises:
        ConfigError: there is an unfinished recording of that name, or a wish is out of range.
    """
    if state_file(out).exists():
        raise ConfigError(f"{out}: is unfinished; finish it with generate --resume, or remove it")
    generation = model.start(**wishes)
    recording = Recording(generation, out, model.sample_rate)
    counts: list[int] = []
    first: list[tuple[int, float]] = []

    def watch(at_s: float) -> None:
        while len(counts) <= at_s / every_s:
            counts.append(0)
        counts[-1] = sum(generation.interventions.values()) - sum(counts[:-1])
        if not first and at_s >= 1:
            first.append((generation.state_bytes, _resident_mb()))

    recording.make(round(seconds * model.sample_rate), progress=watch)
    last = (generation.state_bytes, _resident_mb())
    begun = first[0] if first else last
    return counts, Memory(begun[0], last[0], begun[1], last[1])


def _resident_mb() -> float:
    """Memory of this process that is in use now; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def _words(words: list[str], per_minute: float, expected: set[str]) -> dict[str, Any]:
    counts = Counter(words)
    found: dict[str, Any] = {"words_per_min": round(len(words) * per_minute, 1)}
    if words:
        found["commonest"] = round(counts.most_common(1)[0][1] / len(words), 3)
        if expected:
            known = sum(count for word, count in counts.items() if word in expected)
            found["expected"] = round(known / len(words), 3)
    return found


def _sound(mono: Samples, rate: int) -> dict[str, Any]:
    tenths = np.array_split(mono, max(1, 10 * len(mono) // rate))
    levels = np.array([_db(part) for part in tenths])
    padded = np.pad(mono, (0, -len(mono) % FFT)).reshape(-1, FFT) * np.hanning(FFT)
    power = np.square(np.abs(np.fft.rfft(padded))).mean(0) + 1e-12
    hz = np.fft.rfftfreq(FFT, 1 / rate)
    return {
        "rms_db": round(_db(mono), 2),
        "peak": round(float(np.abs(mono).max()), 4),
        "silent": round(float((levels < SILENCE_DB).mean()), 4),
        "centroid_hz": round(float((hz * power).sum() / power.sum()), 1),
        "flatness": round(float(np.exp(np.log(power).mean()) / power.mean()), 4),
    }


def _db(sound: Samples) -> float:
    return float(10 * np.log10(np.square(sound, dtype=np.float64).mean() + 1e-12))


CURVES = (
    Curve("rms_db", "loudness, dB", least_span=12.0),
    Curve("silent", "silent share", least_span=1.0, low=0.0),
    Curve("centroid_hz", "spectrum's middle, Hz", least_span=400.0),
    Curve("flatness", "flatness", least_span=0.2, low=0.0),
    Curve("bits", "bits a sample", least_span=1.0),
    Curve("words_per_min", "words a minute", least_span=20.0, low=0.0),
    Curve("expected", "of them expected", least_span=1.0, low=0.0),
    Curve("commonest", "the same word", least_span=1.0, low=0.0),
    Curve("interventions", "interventions", least_span=4.0, low=0.0),
)
"""What is drawn, and the smallest span of its axis: what hardly moves shall look like it."""


def plot(minutes: Sequence[Minute]) -> str:
    """Curves over time, one below the other, as SVG."""
    hours = [minute.start_s / 60 for minute in minutes]
    columns = {curve: [getattr(minute, curve.name) for minute in minutes] for curve in CURVES}
    kept = {c: values for c, values in columns.items() if any(v is not None for v in values)}
    return draw(hours, kept, unit="min")


def main(arguments: Sequence[str] | None = None) -> None:
    """Examine a file and print a line a minute."""
    parser = argparse.ArgumentParser(
        prog="python -m audiomamba.models.wave.examine",
        description="Energy, spectrum, likelihood and words by minute.",
    )
    parser.add_argument("recording", type=Path)
    parser.add_argument("--model", help="name or folder: measures its likelihood too")
    parser.add_argument("--listen", metavar="MODEL", help="a recogniser, such as listen-en")
    parser.add_argument(
        "--expect", nargs="*", default=[], metavar="WORD", help="other than the labels"
    )
    parser.add_argument("--make", type=float, metavar="SECONDS", help="make the recording first")
    parser.add_argument("--label", help="with --make: what to say")
    parser.add_argument("--speaker", help="with --make: whose voice")
    parser.add_argument("--seed", type=int, default=0, help="with --make")
    parser.add_argument("--temperature", type=float, help="with --make")
    parser.add_argument("--no-guard", action="store_true", help="with --make")
    parser.add_argument("--every-s", type=float, default=60.0)
    parser.add_argument("--plot", type=Path, metavar="FILE.svg")
    parser.add_argument("--json", type=Path, metavar="FILE.json", help="all of it in one file")
    options = parser.parse_args(arguments)
    model = load(options.model) if options.model else None
    if model is not None and not isinstance(model, Synthesizer):
        parser.error(f"--model {options.model}: makes no sound")
    hear = None
    if options.listen:
        listener = load(options.listen)
        if not isinstance(listener, Listener):
            parser.error(f"--listen {options.listen}: does not transcribe")
        hear = hearing(listener)
    report: dict[str, Any] = {"recording": str(options.recording), "model": options.model}
    counts = None
    if options.make is not None:
        if model is None:
            parser.error("--make wants --model")
        wishes: dict[str, Any] = {"labels": [options.label], "speakers": [options.speaker]}
        wishes |= {"seed": options.seed, "guard": not options.no_guard}
        if options.temperature is not None:
            wishes["temperature"] = options.temperature
        counts, memory = make(
            model, options.recording, options.make, every_s=options.every_s, **wishes
        )
        report |= {"wishes": wishes, "memory": asdict(memory)}
        print(json.dumps(asdict(memory)), file=sys.stderr, flush=True)
    minutes = []
    for minute in examine(
        options.recording, model=model, hear=hear, interventions=counts, words=options.expect,
        every_s=options.every_s,
    ):  # fmt: skip
        minutes.append(minute)
        print(json.dumps(asdict(minute)), flush=True)
    if options.plot:
        options.plot.write_text(plot(minutes))
    if options.json:
        report["minutes"] = [asdict(minute) for minute in minutes]
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except Error as error:
        sys.exit(f"examine: {error}")
