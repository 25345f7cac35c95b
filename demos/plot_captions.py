"""Draw a stream at work: sound above, what was said about it below, on one time axis.

python demos/plot_captions.py talk.flac captions.svg
"""

import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import audiomamba as am
from audiomamba.audio import files

RATE = 16_000
BLOCK = 640  # samples fed at a time: 40 ms
SECOND, SOUND, AXIS, ROW = 140, 90, 40, 22  # pixels: a second is wide; the others are high
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #15201b }
.may { fill: #8b9691 }
.final { font-weight: 600 }
.second { font-size: 11px; fill: #55635c }
path, circle { fill: #0a7a55 }
line { stroke: #d5ddd9 }
@media (prefers-color-scheme: dark) {
  text { fill: #e9f0ec }
  .may { fill: #71827a }
  .second { fill: #9cada4 }
  path, circle { fill: #4fce9e }
  line { stroke: #2d3833 }
}"""
Samples = NDArray[np.float32]
Row = tuple[float, am.Partial | am.Final]


def listen(samples: Samples, model: str = "listen-en") -> list[Row]:
    """Each event that changed the words, with the seconds of sound heard until then."""
    stream, rows, last = am.load(model).stream(), [], None
    for at in range(0, len(samples) + BLOCK, BLOCK):
        block = samples[at : at + BLOCK]
        for event in stream.feed(block) if len(block) else stream.finish():
            if not isinstance(event, am.Partial | am.Final):
                continue
            shown = (type(event), [word.word for word in event.words])
            if shown != last and event.words:
                rows.append((min(at + BLOCK, len(samples)) / RATE, event))
            last = shown
    return rows


def sound(samples: Samples, width: int) -> str:
    """The outline of the waveform, a peak a pixel."""
    peaks = np.array([np.abs(part).max() for part in np.array_split(samples, width)])
    heights = peaks / max(peaks.max(), 1e-3) * SOUND / 2
    upper = [f"{x} {SOUND / 2 - h:.1f}" for x, h in enumerate(heights)]
    lower = [f"{x} {SOUND / 2 + h:.1f}" for x, h in enumerate(heights)]
    return f'<path d="M{"L".join(upper + lower[::-1])}Z"/>'


def axis(width: int, height: int) -> Iterator[str]:
    for second in range(width // SECOND + 1):
        x = second * SECOND
        yield f'<line x1="{x}" x2="{x}" y1="{SOUND}" y2="{height}"/>'
        yield f'<text class="second" x="{x + 4}" y="{SOUND + 14}">{second} s</text>'


def words(event: am.Partial | am.Final, y: int) -> Iterator[str]:
    """Every word under its sound; those that may still change are pale."""
    final = isinstance(event, am.Final)
    firm = len(event.words) if final else len(event.stable.split())
    for i, word in enumerate(event.words):
        kind = "final" if final else "firm" if i < firm else "may"
        x, text = round(word.start * SECOND), escape(word.word)
        yield f'<text class="{kind}" x="{x}" y="{y}">{text}</text>'


def draw(samples: Samples, rows: list[Row]) -> str:
    """The picture, as SVG; a dot marks the moment at which its row could be read."""
    width = round(len(samples) / RATE * SECOND)
    height = SOUND + AXIS + ROW * len(rows)
    parts = [sound(samples, width), *axis(width, height)]
    for i, (at, event) in enumerate(rows):
        y = SOUND + AXIS + ROW * i
        parts += words(event, y)
        parts.append(f'<circle r="3.5" cx="{at * SECOND:.0f}" cy="{y - 4}"/>')
    size = f'viewBox="0 0 {width + 20} {height}" width="{width + 20}" height="{height}"'
    body = "\n".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{STYLE}</style>{body}</svg>\n'


if __name__ == "__main__":
    heard = files.read(sys.argv[1], sample_rate=RATE)
    Path(sys.argv[2]).write_text(draw(heard, listen(heard)))
