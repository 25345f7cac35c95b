"""Train one model on one problem and print its row of the table."""

import argparse
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from audiomamba.training.tasks.fit import FitConfig, accuracy_by_steps, fit, small_model
from audiomamba.training.tasks.problems import INDUCTION_HEADS, PROBLEMS, SELECTIVE_COPYING

__all__ = ["PRESETS", "Preset", "main"]


@dataclass(frozen=True, slots=True)
class Preset:
    """A size of model and training, for one problem."""

    width: int
    dt_min: float
    dt_max: float
    fit: FitConfig


PRESETS = {
    # The papers' sizes, for a GPU.
    ("published", SELECTIVE_COPYING.name): Preset(
        64, 1e-3, 1e-1, FitConfig(steps=20_000, batch=64, length=4096, first_length=256)
    ),
    ("published", INDUCTION_HEADS.name): Preset(
        64, 1e-3, 1e-1, FitConfig(length=256, enough=math.inf)
    ),
    # A core of a CPU and ten minutes, or for "long" forty: half the width, short sequences first.
    # Step sizes start small, since so little training does not bring them down, and a memory that
    # fades does not reach far.
    ("long", INDUCTION_HEADS.name): Preset(
        32,
        1e-6,
        1e-2,
        FitConfig(
            steps=20_000,
            batch=8,
            length=256,
            first_length=16,
            advance=0.98,
            learning_rate=2e-3,
            decay=False,
            enough=math.inf,  # the length is soon learned; what goes on is forgetting less
        ),
    ),
    ("small", SELECTIVE_COPYING.name): Preset(
        32,
        1e-3,
        1e-1,
        FitConfig(steps=6_000, batch=16, length=128, first_length=32, learning_rate=3e-3),
    ),
    ("small", INDUCTION_HEADS.name): Preset(
        32,
        1e-6,
        1e-2,
        FitConfig(steps=6_000, batch=8, length=256, first_length=16, learning_rate=2e-3),
    ),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, train, measure, print."""
    parser = argparse.ArgumentParser(
        prog="python -m audiomamba.training.tasks", description=__doc__
    )
    parser.add_argument("--task", choices=PROBLEMS, required=True)
    parser.add_argument("--dynamics", choices=("lti", "selective"), default="selective")
    parser.add_argument("--preset", choices=("published", "small", "long"), default="published")
    parser.add_argument("--steps", type=int, help="of training (default: the preset's)")
    parser.add_argument("--dt-min", type=float, help="step sizes start between this")
    parser.add_argument("--dt-max", type=float, help="and this (default: the preset's)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--powers",
        type=int,
        nargs="*",
        default=list(range(6, 21)),
        help="induction heads: lengths to test, as powers of two (default: 6 to 20)",
    )
    args = parser.parse_args(arguments)

    if (args.preset, args.task) not in PRESETS:
        parser.error(f"--preset {args.preset} is not for {args.task}")
    torch.set_flush_denormal(True)  # a state that fades is slow to compute with on a CPU
    problem, preset = PROBLEMS[args.task], PRESETS[args.preset, args.task]
    torch.manual_seed(args.seed)
    model = small_model(
        args.dynamics,
        width=preset.width,
        dt_min=args.dt_min or preset.dt_min,
        dt_max=args.dt_max or preset.dt_max,
    ).to(args.device)
    steps = preset.fit.steps if args.steps is None else args.steps
    started = time.process_time()
    reached = fit(model, problem, replace(preset.fit, steps=steps, seed=args.seed))
    took = time.process_time() - started
    parameters = sum(p.numel() for p in model.parameters())
    print(
        f"{problem.name} | {args.dynamics} | {parameters} parameters | length {preset.fit.length} "
        f"| {100 * reached:.1f} % | {steps} steps, {took:.0f} CPU s",
        flush=True,
    )
    if problem is not INDUCTION_HEADS:
        return
    for power in args.powers:
        batch = 64 if power <= 16 else 16
        print(f"2^{power} by steps", file=sys.stderr, flush=True)
        share, size = accuracy_by_steps(model, problem, 2**power, batch=batch, seed=1)
        state = size / (batch + 1)
        print(f"  2^{power}: {100 * share:.1f} %, state {state:.0f} bytes a stream", flush=True)


if __name__ == "__main__":
    main()
