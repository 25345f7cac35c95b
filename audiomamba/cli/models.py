"""``audiomamba models``: what ships, with size, licence and figures; or the card of one model."""

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from audiomamba.models.registry import ModelInfo

__all__ = ["add_parser"]

EXAMPLES = """examples:
  audiomamba models                       a line a model
  audiomamba models listen-en             its card: what it was trained on, what it can and cannot
  audiomamba models --json | jq .name

A name, or the folder of a checkpoint of your own, is what --model of other commands takes.
"""
HEAD = ("NAME", "KIND", "SIZE", "LICENCE", "FIGURES")


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "models",
        help="list the models that ship, or show the card of one",
        description="List the models that ship, or show the card of one.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("name", nargs="?", help="show the card of this model (name or folder)")
    command.add_argument("--json", action="store_true", help="print a JSON object a model")
    command.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Print a table, JSON lines, or a card."""
    from audiomamba.models.registry import available, describe, find

    infos = [describe(find(args.name))] if args.name else available()
    if args.json:
        for info in infos:
            print(json.dumps(_record(info)))
    elif args.name:
        print(_card(infos[0]))
    else:
        print(_table([HEAD, *map(_row, infos)]))
    return 0


def _row(info: "ModelInfo") -> tuple[str, ...]:
    figures = ", ".join(f"{name} {value}" for name, value in info.figures.items())
    return info.name, info.kind, f"{info.size_bytes / 1e6:.1f} MB", info.licence, figures


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, sizes to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if head == "SIZE" else cell.ljust(width)
            for cell, width, head in zip(row, widths, HEAD, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _record(info: "ModelInfo") -> dict[str, object]:
    return {
        "name": info.name,
        "kind": info.kind,
        "folder": str(info.folder),
        "size_bytes": info.size_bytes,
        "licence": info.licence,
        "figures": info.figures,
    }


def _card(info: "ModelInfo") -> str:
    card = info.folder / "README.md"
    text = card.read_text(encoding="utf-8").strip() if card.is_file() else "(it has no card)"
    if text.startswith("---\n"):  # what a hub reads, not people
        text = text.partition("\n---\n")[2].strip()
    return f"{_table([HEAD, _row(info)])}\n{info.folder}\n\n{text}"
