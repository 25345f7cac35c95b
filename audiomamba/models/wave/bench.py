"""What drawing a sample costs: ``python -m audiomamba.models.wave.bench [MODEL] [--device cuda]``.

One JSON line a case: samples a CPU second of one core (on a GPU: a second), and the ratio to
PyTorch's step loop in the same run. ``limit`` is the rate at which the products alone would take
the whole of a core's multiply-adds (int8: 102 G a second, float32: 51 G, measured on an AVX2 core
at 3.1 GHz), ``share`` is how much of it was reached. Without MODEL: the default shape with random
weights.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np
import torch

from audiomamba.config import from_mapping
from audiomamba.models.checkpoint_files import read_config
from audiomamba.models.registry import find
from audiomamba.models.wave.config import WaveConfig
from audiomamba.models.wave.engine import WaveEngine, native_lacks
from audiomamba.models.wave.guard import Guard
from audiomamba.models.wave.model import Wave
from audiomamba.models.wave.native import NativeWave
from audiomamba.models.wave.persistent import lacks
from audiomamba.models.wave.sampling import Sampling, stream_seeds
from audiomamba.models.wave.statistics import SoundStatistics, block_samples
from audiomamba.models.wave.torch_engine import TorchWave, load_wave

__all__ = ["guard_cost", "measure", "products"]

PEAK = {"int8": 102e9, "float32": 51e9}  # multiply-adds a second of one core
ROUNDS = 5  # of all cases in turns, so that a busy moment hits all of them


def products(model: Wave) -> float:
    """Multiply-adds of linear maps a sample: slower rates count by their share."""
    total = 0.0
    for name, weight in model.named_parameters():
        if weight.dim() != 2 or not name.endswith("weight") or "embedding" in name:
            continue
        if not name.startswith(("net.", "head.")):
            continue
        depth = name.count("inner.")
        depth += name.endswith(("shrink.weight", "grow.weight"))  # once a frame of the slower rate
        every = int(np.prod(model.config.pools[:depth])) if depth else 1
        total += weight.numel() / every
    return total


def measure(
    model: Wave, *, streams: Sequence[int] = (1, 16), samples: int = 4_000, rounds: int = ROUNDS
) -> list[dict[str, object]]:
    """Samples a second of every engine that can run the model where it lies."""
    weights = {name: t.detach().cpu().numpy() for name, t in model.state_dict().items()}
    loop = TorchWave(model, graphs=False, persistent=False)
    engines: dict[str, tuple[WaveEngine, int]] = {"torch": (loop, samples // 40)}
    cuda = next(model.parameters()).is_cuda
    if cuda:
        engines = {"torch": (loop, 100), "torch-graphs": (TorchWave(model, persistent=False), 500)}
        if lacks(model.config) is None:
            engines["one-launch"] = (TorchWave(model), 4_000)
    elif native_lacks(model.config) is None:
        for precision in ("float32", "int8"):
            native = NativeWave(model.config, weights, int8=precision == "int8")
            engines[f"native-{precision}"] = (native, samples)
    lines: list[dict[str, object]] = []
    for count in streams:
        # A step of a GPU costs the same for any batch, one of a CPU in proportion to it.
        cases = {
            name: _case(engine, count, n if cuda else max(1, n // count), cuda)
            for name, (engine, n) in engines.items()
        }
        rates: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(rounds):
            for name, case in cases.items():
                rates[name].append(case())
        middle = {name: statistics.median(found) for name, found in rates.items()}
        lines += [_line(model, name, count, middle) for name in cases]
    return lines


def guard_cost(model: Wave, *, streams: int = 1, rounds: int = 200) -> dict[str, object]:
    """CPU microseconds a sample that the guard takes on the native engine beside the drawing."""
    config = model.config
    weights = {name: t.detach().cpu().numpy() for name, t in model.state_dict().items()}
    engine = NativeWave(config, weights)
    block = block_samples(config.sample_rate, config.period)
    everyone = np.arange(streams)
    guard = Guard(SoundStatistics(), everyone < 0, block, config.sample_rate)
    state = engine.begin([-1] * streams, [-1] * streams)
    back = engine.take(state, everyone)
    codes = np.random.default_rng(0).integers(100, 156, (streams, block)).astype(np.uint8)
    took = []
    for _ in range(rounds):
        began = time.process_time_ns()
        guard.judge(codes, everyone)
        engine.put(back, everyone, engine.take(state, everyone))
        took.append(time.process_time_ns() - began)
    us = statistics.median(took) / 1e3 / (streams * block)
    return {"what": "wave guard", "streams": streams, "us_per_sample": round(us, 4)}


def _case(engine: WaveEngine, streams: int, each: int, cuda: bool) -> Callable[[], float]:
    now = time.perf_counter if cuda else time.process_time
    nobody, seeds = [-1] * streams, stream_seeds(0, streams)

    def case() -> float:
        state, last = engine.begin(nobody, nobody), np.full(streams, 128, np.uint8)
        first, how = np.zeros(streams, np.int64), Sampling(top_p=0.98)
        if cuda:  # kernels compile, graphs are captured
            engine.draw(state, last, how, seeds, first, 20)
        began = now()
        engine.draw(state, last, how, seeds, first, each)
        return streams * each / (now() - began)

    return case


def _line(model: Wave, name: str, streams: int, rates: dict[str, float]) -> dict[str, object]:
    cuda = next(model.parameters()).is_cuda
    limit = PEAK["int8" if name.endswith("int8") else "float32"] / products(model)
    return {
        "what": "wave", "engine": name, "streams": streams,
        "samples_per_s": round(rates[name]),
        "realtime": round(rates[name] / model.config.sample_rate, 3),
        "ratio": round(rates[name] / rates["torch"], 1),
        **({} if cuda else {"limit": round(limit), "share": round(rates[name] / limit, 3)}),
        "machine": torch.cuda.get_device_name() if cuda else platform.machine(),
        "date": datetime.now(UTC).date().isoformat(),
    }  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Cost of drawing samples, a JSON line a case.")
    parser.add_argument("model", nargs="?", help="name or folder; random weights without")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (%(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if options.model:
        folder = find(options.model)
        config = from_mapping(WaveConfig, read_config(folder)["model"])
        model = load_wave(folder, config)
    else:
        model = Wave(WaveConfig(labels=["a"])).eval()
    streams = (1, 16) if options.device == "cpu" else (1, 16, 256)
    for line in measure(model.to(options.device), streams=streams):
        print(json.dumps(line), flush=True)
    if options.device == "cpu" and native_lacks(model.config) is None:
        for count in streams:
            print(json.dumps(guard_cost(model, streams=count)), flush=True)


if __name__ == "__main__":
    main()
