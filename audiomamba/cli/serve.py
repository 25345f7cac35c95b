"""``audiomamba serve``: the server, set up by Hydra overrides."""

import argparse

__all__ = ["add_parser"]

EXAMPLES = """examples:
  audiomamba serve
  audiomamba serve server.port=9000 engine.slots=16
  audiomamba serve server=public server.token_file=tokens.txt
  audiomamba serve engine.voice=runs/mine      sound by a waveform model of your own
  audiomamba serve engine.voice=               no sound; else by every waveform model that ships

Settings and their defaults: audiomamba/streaming/server/config.py, conf/server/.
"""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "serve",
        help="serve live transcription over WebSockets, with a page for the browser",
        description="Serve live transcription on 127.0.0.1:8765: a page for the browser at /, "
        "our protocol at /v1/stream, and vosk-server's for WebSockets at /.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as server.port=9000")
    command.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop."""
    from audiomamba.streaming.server.config import compose_apart

    config = compose_apart(args.overrides)  # before anything has a thread
    from audiomamba.streaming.server.run import serve

    return serve(config)
