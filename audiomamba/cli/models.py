"""``audiomamba models``: what ships, with size, licence and figures."""

import argparse

__all__ = ["add_parser"]


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    command = commands.add_parser("models", help="list the models that ship")
    command.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Print one line a model."""
    from audiomamba.models.registry import available

    for info in available():
        figures = ", ".join(f"{name} {value}" for name, value in info.figures.items())
        size = f"{info.size_bytes / 1e6:.1f} MB"
        print(f"{info.name:16} {info.kind:12} {size:>9}  {info.licence:12} {figures}".rstrip())
    return 0
