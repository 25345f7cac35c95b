"""``audiomamba bench``: what recognition costs here, as ratios within one run."""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from audiomamba.models.native import NativeTranscriber
    from audiomamba.models.transcriber import Transcriber

__all__ = ["add_parser"]

SECONDS = 8.0  # of audio a measurement
ROUNDS = 5  # of all candidates in turns, so that a busy moment hits all of them


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "bench",
        help="measure what recognition costs on this machine",
        description="CPU seconds a second of audio of each engine, one JSON line a case; "
        "`ratio` is the cost of PyTorch's eager step over that of the case, in the same run.",
    )
    command.add_argument("--model", default="listen-en", help="name or folder (%(default)s)")
    command.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
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
            print(
                json.dumps(
                    {
                        "what": "encoder", "engine": name, "block_ms": block * 40,
                        "cpu_s_per_audio_s": round(cost, 5),
                        "ratio": round(costs["torch"] / cost, 2),
                        "machine": platform.processor() or platform.machine(),
                        "date": datetime.now(UTC).date().isoformat(),
                    }
                ),
                flush=True,
            )  # fmt: skip
    return 0


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
