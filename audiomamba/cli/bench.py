"""``audiomamba bench``: what recognition and serving cost here."""

import argparse
import asyncio
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from audiomamba.errors import ConfigError

if TYPE_CHECKING:
    from audiomamba.models.native import NativeTranscriber
    from audiomamba.models.transcriber import Transcriber

__all__ = ["add_parser"]

SECONDS = 8.0  # of audio a measurement
ROUNDS = 5  # of all candidates in turns, so that a busy moment hits all of them


EXAMPLES = """examples:
  audiomamba bench
  audiomamba bench serving --audio talk.flac --streams 45 --seconds 60
  audiomamba bench serving --case short --audio talk.flac --streams 10000
  audiomamba bench serving --case long --audio talk.flac --seconds 10800
  audiomamba bench serving --audio talk.flac --streams 8 --server engine.block=2

What a server costs is counted in its own processor seconds, so other work on the machine hardly
shows in it; its delays are wall time, and mean something on a machine that has nothing else to do.
"""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "bench",
        help="measure what recognition and serving cost on this machine",
        description="`encoder`: CPU seconds a second of audio of each engine; `ratio` is the cost "
        "of PyTorch's eager step over that of the case, in the same run. `serving`: a server of "
        "its own and clients that speak to it. One JSON line a case.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("what", nargs="?", choices=("encoder", "serving"), default="encoder")
    command.add_argument("--model", default="listen-en", help="name or folder (%(default)s)")
    serving = command.add_argument_group("serving")
    serving.add_argument(
        "--case", choices=("start", "live", "overload", "short", "long"), default="live"
    )
    serving.add_argument("--audio", metavar="FILE", help="what the clients say, over and over")
    serving.add_argument(
        "--streams", type=int, default=8, help="at once; of `short`, in all (%(default)s)"
    )
    serving.add_argument(
        "--seconds", type=float, default=20.0, help="of audio a stream (%(default)s)"
    )
    serving.add_argument(
        "--server", nargs="+", default=[], metavar="KEY=VALUE", help="its settings, as for `serve`"
    )
    command.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    return _serving(args) if args.what == "serving" else _encoder(args)


def _serving(args: argparse.Namespace) -> int:
    """A server process under load."""
    from audiomamba.audio import files, pcm
    from audiomamba.models.loading import load as load_model
    from audiomamba.streaming.load import CASES, Load, ServerProcess

    if args.audio is None or args.streams < 1 or args.seconds <= 0:
        raise ConfigError("bench serving: wants --audio FILE, --streams and --seconds above 0")
    load = Load(
        audio=pcm.encode(files.read(args.audio, sample_rate=16_000), "linear16"),
        streams=1 if args.case == "long" else args.streams,
        seconds=args.seconds,
        stated_delay_s=load_model(args.model).config.emission_delay_s,
    )
    slots = {"overload": args.streams, "short": 16, "long": 16}.get(
        args.case, max(64, args.streams)
    )
    overrides = [f"engine.model={args.model}", f"engine.slots={slots}", *args.server]
    with ServerProcess(*overrides) as server:
        report = asyncio.run(CASES[args.case](server, load))
    _print(what=f"serving {args.case}", streams=load.streams, seconds=load.seconds, **report)
    return 0


def _encoder(args: argparse.Namespace) -> int:
    """The network alone, on each engine."""
    import torch

    from audiomamba.kernels import native
    from audiomamba.models.native import NativeTranscriber
    from audiomamba.models.registry import find
    from audiomamba.models.torch_acoustic import load_transcriber

    torch.set_num_threads(1)
    folder = find(args.model)
    transcriber = load_transcriber(folder)
    engines: dict[str, Callable[[int], Callable[[], None]]] = {
        "torch": partial(_torch_case, transcriber)
    }
    if (reason := native.why_not()) is None:
        for name, int8 in (("native-float32", False), ("native-int8", True)):
            engine = NativeTranscriber.from_folder(folder, int8=int8)
            engines[name] = partial(_native_case, engine)
    else:
        print(reason)
    for block in (1, 4, 64):
        cases = {name: make(block) for name, make in engines.items()}
        costs = _measure(cases)
        for name, cost in costs.items():
            ratio = round(costs["torch"] / cost, 2)
            _print(
                what="encoder",
                engine=name,
                block_ms=block * 40,
                cpu_s_per_audio_s=round(cost, 5),
                ratio=ratio,
            )
    return 0


def _print(**figures: Any) -> None:
    machine = f"{os.cpu_count()} x {platform.processor() or platform.machine()}"
    load = round(os.getloadavg()[0], 1)  # other work here, which wall times suffer from
    when = datetime.now(UTC).date().isoformat()
    print(json.dumps({**figures, "machine": machine, "load": load, "date": when}), flush=True)


def _measure(cases: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Median CPU seconds a second of audio of each case, measured in turns."""
    costs: dict[str, list[float]] = {name: [] for name in cases}
    for case in cases.values():
        case()
    for _ in range(ROUNDS):
        for name, case in cases.items():
            began = time.process_time()
            case()
            costs[name].append((time.process_time() - began) / SECONDS)
    return {name: statistics.median(found) for name, found in costs.items()}


def _torch_case(model: "Transcriber", block: int) -> Callable[[], None]:
    import torch

    features = torch.randn(1, 4 * block, model.config.mel.bins)

    @torch.inference_mode()
    def case() -> None:
        state = model.init_state(1)
        for _ in range(round(SECONDS / (0.04 * block))):
            _, state = model.transcribe(features, state)

    return case


def _native_case(engine: "NativeTranscriber", block: int) -> Callable[[], None]:
    import numpy as np

    rng = np.random.default_rng(0)
    features = rng.standard_normal((1, 4 * block, engine.bins)).astype(np.float32)
    rows = np.zeros(1, np.intp)

    def case() -> None:
        states = engine.init_state(1)
        for _ in range(round(SECONDS / (0.04 * block))):
            engine.transcribe(features, states, rows)

    return case
