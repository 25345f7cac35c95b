"""Word and character error rates by group."""

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Rates", "Result", "line", "rates", "table"]


@dataclass(frozen=True, slots=True)
class Result:
    """What was heard in one clip."""

    name: str
    group: str
    reference: str
    hypothesis: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Rates:
    """Errors of one group, in percent of its words and characters."""

    wer: float
    cer: float
    clips: int
    words: int
    seconds: float


def rates(results: Iterable[Result]) -> dict[str, Rates]:
    """Rates of each group, in order of name; ``accented/…`` are also summed up as ``accented``."""
    import jiwer

    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.group, []).append(result)
        if "/" in result.group:
            groups.setdefault(result.group.split("/")[0], []).append(result)
    out: dict[str, Rates] = {}
    for group in sorted(groups):
        clips = groups[group]
        references, heard = [r.reference for r in clips], [r.hypothesis for r in clips]
        out[group] = Rates(
            wer=100 * float(jiwer.wer(references, heard)),
            cer=100 * float(jiwer.cer(references, heard)),
            clips=len(clips),
            words=sum(len(text.split()) for text in references),
            seconds=round(sum(r.seconds for r in clips), 1),
        )
    return out


def line(measured: dict[str, Rates]) -> str:
    """All groups in one line: ``clear 12.3/4.5`` is word and character errors in percent."""
    return "  ".join(f"{group} {r.wer:.1f}/{r.cer:.1f}" for group, r in measured.items())


def table(measured: dict[str, Rates]) -> str:
    """A row a group: errors in percent, and how much was measured."""
    rows = [
        f"{'group':20s} {'WER %':>7s} {'CER %':>7s} {'words':>7s} {'clips':>6s} {'minutes':>8s}"
    ]
    rows += [
        f"{group:20s} {r.wer:7.1f} {r.cer:7.1f} {r.words:7d} {r.clips:6d} {r.seconds / 60:8.1f}"
        for group, r in measured.items()
    ]
    return "\n".join(rows)
