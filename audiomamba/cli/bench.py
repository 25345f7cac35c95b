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
  audiomamba bench serving --case long --audio talk.flac --seconds 10800 --frame-ms 20
  audiomamba bench serving --audio talk.flac --streams 8 --server engine.block=2
  audiomamba bench engine --streams 1 16
  audiomamba bench engine --device cuda --streams 1 64 1024 4096

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
        "its own and clients that speak to it. `engine`: steps of many streams at once, as the "
        "server makes them, and the most that are done within a block's time; no sockets. "
        "One JSON line a case.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    choices = ("encoder", "serving", "engine")
    command.add_argument("what", nargs="?", choices=choices, default="encoder")
    command.add_argument("--model", default="listen-en", help="name or folder (%(default)s)")
    serving = command.add_argument_group("serving")
    serving.add_argument(
        "--case", choices=("start", "live", "overload", "short", "long"), default="live"
    )
    serving.add_argument("--audio", metavar="FILE", help="what the clients say, over and over")
    serving.add_argument(
        "--streams", type=int, nargs="+", default=[8], metavar="N",
        help="at once; of `short`, in all; several numbers for `engine` (8)",
    )  # fmt: skip
    serving.add_argument(
        "--seconds", type=float, default=20.0, help="of audio a stream (%(default)s)"
    )
    serving.add_argument(
        "--frame-ms", type=float, default=0.0, metavar="MS",
        help="of audio in a message of the long session (1000)",
    )  # fmt: skip
    serving.add_argument(
        "--server", nargs="+", default=[], metavar="KEY=VALUE", help="its settings, as for `serve`"
    )
    engine = command.add_argument_group("engine")
    engine.add_argument("--device", default="cpu", help="torch's name of it (%(default)s)")
    engine.add_argument(
        "--engine", choices=("auto", "native", "torch"), default="auto", help="(%(default)s)"
    )
    engine.add_argument(
        "--block", type=int, default=4, help="encoder frames a step, 40 ms each (%(default)s)"
    )
    engine.add_argument("--steps", type=int, default=200, help="timed a number (%(default)s)")
    engine.add_argument(
        "--search", type=float, default=60.0, metavar="S",
        help="seconds to look for the most streams; 0: not (%(default)g)",
    )  # fmt: skip
    engine.add_argument(
        "--most", type=int, default=1 << 17, help="streams it stops at (%(default)s)"
    )
    command.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    cases = {"serving": _serving, "engine": _engine, "encoder": _encoder}
    return cases[args.what](args)


def _serving(args: argparse.Namespace) -> int:
    """A server process under load."""
    from audiomamba.audio import files, pcm
    from audiomamba.models.loading import load as load_model
    from audiomamba.streaming.load import CASES, Load, ServerProcess

    if args.audio is None or len(args.streams) > 1 or args.streams[0] < 1 or args.seconds <= 0:
        raise ConfigError("bench serving: wants --audio FILE, one --streams, --seconds above 0")
    (streams,) = args.streams
    load = Load(
        audio=pcm.encode(files.read(args.audio, sample_rate=16_000), "linear16"),
        streams=1 if args.case == "long" else streams,
        seconds=args.seconds,
        stated_delay_s=load_model(args.model).config.delay_s,
        frame_s=args.frame_ms / 1000 if args.frame_ms else None,
    )
    slots = {"overload": streams, "short": 16, "long": 16}.get(args.case, max(64, streams))
    overrides = [f"engine.model={args.model}", f"engine.slots={slots}", *args.server]
    with ServerProcess(*overrides) as server:
        report = asyncio.run(CASES[args.case](server, load))
    _print(what=f"serving {args.case}", streams=load.streams, seconds=load.seconds, **report)
    return 0


def _engine(args: argparse.Namespace) -> int:
    """Steps of the serving engine's model, without sessions and sockets."""
    from audiomamba.models.loading import load as load_model
    from audiomamba.streaming.load import capacity
    from audiomamba.streaming.server.service import step_model

    if min(*args.streams, args.block, args.steps) < 1:
        raise ConfigError("bench engine: wants --streams, --block and --steps above 0")
    listener = load_model(args.model, device=args.device, engine=args.engine)
    make = partial(step_model, listener, block=args.block)
    where = _device_name(args.device) if listener.engine == "torch" else "cpu"

    def show(found: capacity.Capacity, **more: Any) -> None:
        _print(
            what=f"engine {listener.engine}",
            device=where,
            streams=found.streams,
            hop_ms=round(found.hop_s * 1e3),
            step_ms_p50=round(found.p50_s * 1e3, 2),
            step_ms_p99=round(found.p99_s * 1e3, 2),
            in_real_time=found.in_real_time,
            audio_s_per_s=round(found.times_real_time),
            states_mb=round(found.streams * found.state_bytes / 1e6),
            steps=found.steps,
            **more,
        )

    held: capacity.Capacity | None = None
    for streams in sorted(args.streams):
        found = capacity.measure(make, streams, steps=args.steps)
        show(found)
        held = found if found.in_real_time else held
    if held is not None and args.search > 0:
        for found in capacity.search(
            make, held, steps=args.steps, budget_s=args.search, most=args.most
        ):
            show(found)
            held = found if found.in_real_time else held
    if held is not None:
        show(held, largest=True)
    return 0


def _device_name(device: str) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def _encoder(args: argparse.Namespace) -> int:
    """The network alone, on each engine."""
    import torch

    from audiomamba.kernels import native
    from audiomamba.models.checkpoint_files import read_config
    from audiomamba.models.native import NativeTranscriber, why_not
    from audiomamba.models.registry import find
    from audiomamba.models.torch_acoustic import load_transcriber

    torch.set_num_threads(1)
    folder = find(args.model)
    transcriber = load_transcriber(folder)
    engines: dict[str, Callable[[int], Callable[[], None]]] = {
        "torch": partial(_torch_case, transcriber)
    }
    if (reason := native.why_not() or why_not(read_config(folder)["model"])) is None:
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

    features = torch.randn(1, 4 * block, model.config.features.bins)

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
