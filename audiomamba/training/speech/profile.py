"""Where synthesis spends its time on this machine.

    python -m audiomamba.training.speech.profile --pack DIR --seconds 40

Prints audio-hours an hour for a few batch sizes, parts of the time, and the slowest kernels. The
first batch of a size is not counted: the convolution library tries its kernels there.
"""

import argparse
import time
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from audiomamba.training.corpus import FRAME_SAMPLES, SAMPLE_RATE
from audiomamba.training.speech.generate import Plan, load_voice, speak_lines
from audiomamba.training.speech.kokoro.model import Kokoro
from audiomamba.training.speech.script import Script
from audiomamba.training.speech.voices import Voices

__all__ = ["measure"]


def _sync(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def measure(
    model: Kokoro, script: Script, voices: Voices, plan: Plan, seconds: float
) -> tuple[float, float, float]:
    """Speak for some seconds.

    Returns:
        Times real time, the first batch's seconds (planning and tuning included), share of a
        batch's room that holds speech.
    """
    device = next(model.parameters()).device
    began = time.monotonic()
    counted, first, filled, count = 0.0, 0.0, 0.0, 0
    for batch in speak_lines(model, script, voices, iter(range(len(script))), plan, seed=1):
        if not first:
            _sync(device)
            first = time.monotonic() - began
            began = time.monotonic()
            continue
        spoken = sum(batch.spoken.frames)
        counted += spoken * FRAME_SAMPLES / SAMPLE_RATE
        filled += spoken / plan.batch_frames
        count += 1
        if batch.ready is not None:
            batch.ready.synchronize()
        if time.monotonic() - began > seconds:
            break
    _sync(device)
    spent = time.monotonic() - began
    return counted / spent, first, filled / max(count, 1)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="profile synthesis")
    parser.add_argument("--pack", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--batch-seconds", type=float, nargs="+", default=[300.0, 600.0, 900.0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    began = time.monotonic()
    script = Script.load(min(options.pack.glob("script-[0-9]*.npz.xz")))
    voices = Voices.load(options.pack / "kokoro-voices.npz")
    model = load_voice(options.pack, device)
    _sync(device)
    print(f"loaded in {time.monotonic() - began:.1f} s, torch {torch.__version__}, {device}")
    print("| batch, s | x real time | first batch, s | filled | memory, GiB |")
    print("| --- | --- | --- | --- | --- |")
    share = options.seconds / len(options.batch_seconds)
    for batch_seconds in options.batch_seconds:
        plan = Plan(batch_frames=int(batch_seconds * 40))
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        rate, first, filled = measure(model, script, voices, plan, share)
        memory = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0
        print(
            f"| {batch_seconds:.0f} | {rate:.0f} | {first:.1f} | {filled:.2f} | {memory:.1f} |",
            flush=True,
        )
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    plan = Plan(round_lines=1024, batch_frames=int(options.batch_seconds[0] * 40))
    with profile(activities=activities) as trace:
        batches = speak_lines(model, script, voices, iter(range(1024)), plan, seed=1)
        for _ in range(4):
            next(batches)
        _sync(device)
    key = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
    print(trace.key_averages().table(sort_by=key, row_limit=28, max_name_column_width=60))


if __name__ == "__main__":
    main()
