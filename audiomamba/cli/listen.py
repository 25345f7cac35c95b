"""``audiomamba listen``: live captions of a microphone or of a paced file."""

import argparse
import asyncio
import contextlib
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from audiomamba.errors import ConnectionLost

if TYPE_CHECKING:
    from audiomamba.cli.captions import Captions
    from audiomamba.cli.capture import Source

__all__ = ["add_parser"]

EXAMPLES = """examples:
  audiomamba listen                                  the microphone, the model in this process
  audiomamba listen --file talk.flac                 a recording, as if it were spoken now
  audiomamba listen --file talk.flac --pace 0 > talk.txt
  audiomamba listen --server ws://127.0.0.1:8765     through a server, over broken connections too
  audiomamba listen --server wss://captions.example --token "$TOKEN" --device Yeti
  audiomamba listen --file talk.flac --pace 1 --server ws://127.0.0.1:8765    a rehearsal

On a terminal: what may still change is dim, a line of status below. In a pipe: the text of each
utterance, a line each, as soon as it is final. Ctrl-C ends, and the last words still come; a second
one ends at once.
"""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "listen",
        help="live captions of a microphone or a file",
        description="Live captions: what may still change is dim, what is normal stays.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--file", type=Path, help="a recording instead of the microphone")
    command.add_argument(
        "--pace",
        type=float,
        default=1.0,
        help="speed of the file, times real time; 0: at once (default: %(default)g)",
    )
    command.add_argument(
        "--server", "--url", metavar="URL", help="a running server; without it the model runs here"
    )
    command.add_argument("--token", help="the server's token, if it wants one")
    command.add_argument("--device", metavar="NAME", help="microphone: part of its name, or number")
    command.add_argument(
        "--model", default="listen-en", help="name or folder (default: %(default)s)"
    )
    command.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Show captions until the audio ends or the user stops it."""
    return asyncio.run(_listen(args))


async def _listen(args: argparse.Namespace) -> int:
    from audiomamba.cli import capture
    from audiomamba.cli.captions import Captions

    stop = asyncio.Event()
    if args.file:
        source = capture.recording(args.file, args.pace, stop)
    else:
        source = capture.microphone(args.device, stop)
    _stop_on_interrupt(stop)
    with Captions() as captions:
        captions.status("loading" if args.server is None else f"connecting to {args.server}")
        if args.server is None:
            await _here(args.model, source, captions)
        else:
            await _through(args.server, args.token, source, captions)
    return 0


def _stop_on_interrupt(stop: asyncio.Event) -> None:
    """Let the first Ctrl-C end the audio, so that the last words come; a second one kills."""
    loop = asyncio.get_running_loop()

    def first() -> None:
        stop.set()
        loop.remove_signal_handler(signal.SIGINT)

    with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C ends at once
        loop.add_signal_handler(signal.SIGINT, first)


async def _here(model: str, source: "Source", captions: "Captions") -> None:
    """Run the model in this process, beside the event loop."""
    from audiomamba.models.loading import load
    from audiomamba.text.events import Event, Final, Partial

    def show(events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Partial):
                captions.partial(event.start, event.stable, event.unstable)
            elif isinstance(event, Final):
                captions.final(event.start, event.text)

    listener = await asyncio.to_thread(load, model)
    stream = listener.stream(sample_rate=source.sample_rate, channels=source.channels)
    captions.status(f"live · {source.name} · {listener.name}")
    async for block in source.blocks:
        samples = block if source.channels > 1 else block[:, 0]
        show(await asyncio.to_thread(stream.feed, samples))
    show(await asyncio.to_thread(stream.finish))


async def _through(url: str, token: str | None, source: "Source", captions: "Captions") -> None:
    """Send the audio to a server and show what it answers."""
    from audiomamba.streaming import client

    settings = client.Settings(
        sample_rate=source.sample_rate, channels=source.channels, encoding="float32", token=token
    )

    async def send(stream: client.Stream) -> None:
        with contextlib.suppress(ConnectionLost):  # the reading side reports it
            async for block in source.blocks:
                await stream.feed(block)
            await stream.finish()

    async with client.connect(url, settings) as stream:
        name = (await stream.ready()).model.get("name", "server")
        captions.status(f"live · {source.name} · {name}")
        sender = asyncio.create_task(send(stream))
        async for event in stream:
            match event:
                case client.Partial():
                    captions.partial(event.start, event.stable, event.unstable)
                case client.Final():
                    captions.final(event.start, event.text)
                case client.Metrics():
                    captions.status(f"live · {source.name} · {name} · lag {event.lag_s:.1f} s")
                case client.Reconnecting():
                    captions.status(f"reconnecting, try {event.attempt} · {event.reason}")
                case client.Warned() | client.Refused(fatal=False):
                    print(f"audiomamba listen: {event.code}: {event.message}", file=sys.stderr)
        await sender
