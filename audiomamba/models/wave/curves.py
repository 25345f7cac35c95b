"""Curves over time, one below the other, as an SVG without a library."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Curve", "draw"]

LEFT, WIDTH, RIGHT, ROW, PAD = 150, 640, 70, 64, 10  # pixels
INK, PALE, GREEN = "#222", "#bbb", "#0a7a55"


@dataclass(frozen=True, slots=True)
class Curve:
    """One curve and its axis."""

    name: str
    title: str
    least_span: float  # of the axis
    low: float | None = None  # end of the axis; None: that of the values


def draw(times: Sequence[float], curves: Mapping[Curve, Sequence[float | None]], unit: str) -> str:
    """All ``curves`` over ``times``; a value of None is a gap."""
    height = ROW * len(curves) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + RIGHT} {height}" '
        f'width="{LEFT + WIDTH + RIGHT}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="12">',
        f'<rect width="100%" height="100%" fill="white"/><g fill="{INK}">',
    ]
    end = max(times[-1] if times else 0.0, 1e-9)
    for row, (curve, values) in enumerate(curves.items()):
        parts += _row(curve, [LEFT + WIDTH * t / end for t in times], values, ROW * row)
    parts.append(f'<text x="{LEFT}" y="{height - 8}">0</text>')
    ending = f'<text x="{LEFT + WIDTH}" y="{height - 8}" text-anchor="end">{end:.3g} {unit}</text>'
    return "\n".join([*parts, ending, "</g></svg>"]) + "\n"


def _row(
    curve: Curve, places: Sequence[float], values: Sequence[float | None], top: int
) -> list[str]:
    known = [value for value in values if value is not None]
    low, high = _axis(curve, known)
    bottom, rise = top + ROW - PAD, ROW - 2 * PAD
    parts = [
        f'<text x="0" y="{top + ROW / 2 + 4:.0f}">{curve.title}</text>',
        f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{bottom}" y2="{bottom}" stroke="{PALE}"/>',
        f'<text x="{LEFT + WIDTH + 8}" y="{top + PAD + 8}">{high:.4g}</text>',
        f'<text x="{LEFT + WIDTH + 8}" y="{bottom}">{low:.4g}</text>',
    ]
    run: list[str] = []
    for x, value in zip([*places, 0.0], [*values, None], strict=True):
        if value is not None:
            run.append(f"{x:.1f},{bottom - (value - low) / (high - low) * rise:.1f}")
        elif run:
            line = " ".join(run if len(run) > 1 else run * 2)
            parts.append(
                f'<polyline points="{line}" fill="none" stroke="{GREEN}" stroke-width="1.5" '
                'stroke-linecap="round"/>'
            )
            run = []
    return parts


def _axis(curve: Curve, known: Sequence[float]) -> tuple[float, float]:
    low = min(known) if curve.low is None else curve.low
    high = max(*known, low)
    if high - low < curve.least_span:
        if curve.low is None:
            low = (low + high - curve.least_span) / 2
        high = low + curve.least_span
    return low, high
