"""Train one model on one problem and print a row of the table."""

import argparse

import torch

from audiomamba.training.tasks.fit import FitConfig, accuracy_by_steps, fit, small_model
from audiomamba.training.tasks.problems import INDUCTION_HEADS, PROBLEMS


def main() -> None:
    """Parse, train, measure, print."""
    parser = argparse.ArgumentParser(
        prog="python -m audiomamba.training.tasks", description=__doc__
    )
    parser.add_argument("--task", choices=PROBLEMS, required=True)
    parser.add_argument("--dynamics", choices=("lti", "selective"), default="selective")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--length", type=int, help="of training sequences (default: the problem's)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=int, default=20, help="induction heads: test to 2^N")
    args = parser.parse_args()

    problem = PROBLEMS[args.task]
    length = args.length or problem.train_length
    torch.manual_seed(args.seed)
    model = small_model(args.dynamics).to(args.device)
    config = FitConfig(
        steps=args.steps,
        batch=args.batch,
        length=length,
        first_length=min(length, 256),
        seed=args.seed,
        enough=0.9995,
    )
    reached = fit(model, problem, config)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{problem.name} | {args.dynamics} | {parameters} parameters | {100 * reached:.1f} %")
    if problem is INDUCTION_HEADS:
        for power in range(6, args.longest + 1):
            batch = 64 if power <= 16 else 16
            share, state = accuracy_by_steps(model, problem, 2**power, batch=batch, seed=1)
            print(
                f"  2^{power}: {100 * share:.1f} %, state {state / (batch + 1):.0f} bytes a stream"
            )


if __name__ == "__main__":
    main()
