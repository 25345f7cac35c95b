"""Does a long recording stay what it was? Energy, spectrum and likelihood, minute by minute.

    python -m audiomamba.models.wave.examine hour.wav --model wave-long --plot hour.svg

One JSON line a minute. Constant memory is easy to promise; this looks for what goes wrong with it:
noise that grows, silence for ever, a spectrum that drifts. ``bits`` is what the last seconds of a
minute cost the model from a fresh state, so that it does not judge itself by what it remembers.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audiomamba.audio import files
from audiomamba.models.loading import load
from audiomamba.models.wave.synthesizer import Synthesizer

__all__ = ["Minute", "examine", "plot"]

Samples = NDArray[np.float32]

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
    bits: float | None  # a sample; None without a model


def examine(
    recording: Path,
    *,
    model: Synthesizer | None = None,
    every_s: float = 60.0,
    likelihood_s: float = 4.0,
) -> Iterator[Minute]:
    """Look at a recording stretch by stretch, in constant memory.

    Args:
        recording: A file.
        model: Whose likelihood is measured; its rate should be that of the file.
        every_s: Length of a stretch.
        likelihood_s: Seconds at its end that the model hears.

    Raises:
        AudioError: the file cannot be read.
    """
    start = 0.0
    for rate, block in files.stream(recording, every_s):
        mono: Samples = block.mean(axis=1)
        bits = None
        if model is not None:
            bits = round(float(model.bits(mono[-round(likelihood_s * rate) :]).mean()), 4)
        yield _minute(mono, rate, start, bits)
        start += len(mono) / rate


def _minute(mono: Samples, rate: int, start: float, bits: float | None) -> Minute:
    tenths = np.array_split(mono, max(1, 10 * len(mono) // rate))
    levels = np.array([_db(part) for part in tenths])
    padded = np.pad(mono, (0, -len(mono) % FFT)).reshape(-1, FFT) * np.hanning(FFT)
    power = np.square(np.abs(np.fft.rfft(padded))).mean(0) + 1e-12
    hz = np.fft.rfftfreq(FFT, 1 / rate)
    return Minute(
        start_s=round(start, 1),
        rms_db=round(_db(mono), 2),
        peak=round(float(np.abs(mono).max()), 4),
        silent=round(float((levels < SILENCE_DB).mean()), 4),
        centroid_hz=round(float((hz * power).sum() / power.sum()), 1),
        flatness=round(float(np.exp(np.log(power).mean()) / power.mean()), 4),
        bits=bits,
    )


def _db(sound: Samples) -> float:
    return float(10 * np.log10(np.square(sound, dtype=np.float64).mean() + 1e-12))


def plot(minutes: list[Minute]) -> str:
    """Curves over time, one below the other, as SVG."""
    names = ["rms_db", "silent", "centroid_hz", "flatness"]
    names += ["bits"] if minutes and minutes[0].bits is not None else []
    width, row, left = 640, 70, 110
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 90}" '
        f'height="{row * len(names) + 30}" font-family="system-ui, sans-serif" font-size="12">'
    ]
    for number, name in enumerate(names):
        values = np.array([float(getattr(minute, name)) for minute in minutes])
        low, high = float(values.min()), float(values.max())
        y = row * (number + 1) - 12 - (values - low) / max(high - low, 1e-9) * (row - 24)
        x = left + width * np.arange(len(values)) / max(len(values) - 1, 1)
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
        parts += [
            f'<text x="0" y="{row * number + row // 2}">{name}</text>',
            f'<polyline points="{points}" fill="none" stroke="#0a7a55" stroke-width="1.5"/>',
            f'<text x="{left + width + 8}" y="{row * number + 18}">{high:g}</text>',
            f'<text x="{left + width + 8}" y="{row * (number + 1) - 8}">{low:g}</text>',
        ]
    end = f"{minutes[-1].start_s / 60:.0f} min" if minutes else ""
    parts.append(f'<text x="{left + width - 30}" y="{row * len(names) + 22}">{end}</text></svg>')
    return "\n".join(parts) + "\n"


def main() -> None:
    """Examine a file and print a line a minute."""
    parser = argparse.ArgumentParser(description="Energy, spectrum and likelihood by minute.")
    parser.add_argument("recording", type=Path)
    parser.add_argument("--model", help="name or folder: measures its likelihood too")
    parser.add_argument("--every-s", type=float, default=60.0)
    parser.add_argument("--plot", type=Path, metavar="FILE.svg")
    options = parser.parse_args()
    model = load(options.model) if options.model else None
    minutes = []
    for minute in examine(options.recording, model=model, every_s=options.every_s):
        minutes.append(minute)
        print(json.dumps(asdict(minute)), flush=True)
    if options.plot:
        options.plot.write_text(plot(minutes))


if __name__ == "__main__":
    main()
