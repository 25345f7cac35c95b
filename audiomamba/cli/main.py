"""The command ``audiomamba``: one module a command, parsed here, run there."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

import audiomamba
from audiomamba.errors import ConfigError, Error

__all__ = ["main"]

COMMANDS = (
    "transcribe", "listen", "generate", "serve", "train", "evaluate", "models", "bench",
)  # fmt: skip
DONE, FAILED, WRONG_CALL, INTERRUPTED = 0, 1, 2, 130


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; nothing heavy is imported to make it."""
    top = argparse.ArgumentParser(
        prog="audiomamba",
        description="Streaming speech recognition and sound generation on state-space models.",
        epilog="Exit codes: 0 done, 1 the work failed, 2 the call was wrong, 130 interrupted.",
    )
    top.add_argument("--version", action="version", version=f"audiomamba {audiomamba.__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        import_module(f"audiomamba.cli.{name}").add_parser(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    args = parser().parse_args(arguments)
    try:
        return int(args.func(args) or DONE)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        sys.stderr.close()
        return DONE
    except ConfigError as error:
        print(f"audiomamba {args.command}: {error}", file=sys.stderr)
        return WRONG_CALL
    except (Error, OSError) as error:
        print(f"audiomamba {args.command}: {error}", file=sys.stderr)
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
