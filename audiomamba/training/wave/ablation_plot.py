"""The ablation as dots, one a seed: a block a length, a line a kind of model, as an SVG."""

from collections.abc import Sequence
from typing import Any

__all__ = ["draw"]

LEFT, WIDTH, RIGHT, LINE, TOP = 250, 480, 40, 20, 24  # pixels
INK, PALE, GREEN = "#222", "#ddd", "#0a7a55"
WORDS = {"complex": "complex LTI", "real": "real LTI"}  # other kinds go by their own names


def draw(results: Sequence[dict[str, Any]]) -> str:
    """Bits a sample of all results; less is better, and a bar marks the mean of several seeds."""
    bits = [float(r["bits"]) for r in results]
    low, high = min(bits), max(bits)
    span = max(high - low, 1e-3)
    lengths = sorted({r["length"] for r in results})
    kinds = list(dict.fromkeys((r["outer"], r["centre"]) for r in results))
    parts, y = [], 0

    def x(value: float) -> float:
        return LEFT + WIDTH * (value - low) / span

    for length in lengths:
        y += TOP
        parts.append(f'<text x="0" y="{y}" font-weight="bold">{length:,} samples a row</text>')
        for outer, centre in kinds:
            want = (outer, centre, length)
            own = [r["bits"] for r in results if (r["outer"], r["centre"], r["length"]) == want]
            if not own:
                continue
            y += LINE
            name = f"{WORDS.get(outer, outer)}, centre {WORDS.get(centre, centre)}"
            parts.append(f'<text x="0" y="{y}">{name}</text>')
            parts.append(
                f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y - 4}" y2="{y - 4}" stroke="{PALE}"/>'
            )
            parts += [f'<circle cx="{x(b):.1f}" cy="{y - 4}" r="4" fill="{GREEN}"/>' for b in own]
            if len(own) > 1:
                mean = x(sum(own) / len(own))
                parts.append(
                    f'<line x1="{mean:.1f}" x2="{mean:.1f}" y1="{y - 12}" y2="{y + 4}" '
                    f'stroke="{INK}" stroke-width="2"/>'
                )
    y += TOP
    parts.append(f'<text x="{LEFT}" y="{y}">{low:.2f}</text>')
    parts.append(
        f'<text x="{LEFT + WIDTH}" y="{y}" text-anchor="end">{high:.2f} bits a sample</text>'
    )
    size = f'width="{LEFT + WIDTH + RIGHT}" height="{y + 12}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} '
            f'viewBox="0 0 {LEFT + WIDTH + RIGHT} {y + 12}" '
            'font-family="system-ui, sans-serif" font-size="12">',
            f'<rect width="100%" height="100%" fill="white"/><g fill="{INK}">',
            *parts,
            "</g></svg>\n",
        ]
    )
