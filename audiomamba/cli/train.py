"""``audiomamba train``: train a model as conf/ and the overrides say."""

import argparse
import time

__all__ = ["add_parser"]

EXAMPLES = """examples:
  audiomamba train experiment=listen_en train.budget_s=1800 train.out=runs/a \\
      'data.synthetic=[corpora/kokoro]' 'data.real=[corpora/train]'
  audiomamba train experiment=listen_en train.budget_s=1800 train.out=runs/a train.resume=last ...
  torchrun --nproc-per-node 8 -m audiomamba.cli.main train experiment=listen_en ...
  audiomamba train experiment=wave_digits train.budget_s=1800 train.out=runs/digits \\
      'data.manifests=[data/digits.jsonl]'
  audiomamba train experiment=piece_language train.budget_s=1800 train.out=runs/language \\
      'data.pieces=[books.npy]'
  audiomamba train --show experiment=miniature

Overrides are Hydra's: KEY=VALUE, or GROUP=FILE for experiment, model, data and train. The run's
folder holds last/ (everything, to go on from) and export/ (a checkpoint for --model).
"""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "train",
        help="train a model",
        description="Train a recogniser, a waveform model or a language model within a budget of "
        "time or steps.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    command.add_argument("--show", action="store_true", help="print the configuration and stop")
    command.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Compose the configuration and train."""
    started = time.monotonic()
    from audiomamba.training.experiment import compose, train

    config = compose(args.overrides)
    if args.show:
        from omegaconf import OmegaConf

        from audiomamba.config import to_mapping

        print(OmegaConf.to_yaml(OmegaConf.create(to_mapping(config))), end="")
        return 0
    train(config, started=started)
    return 0
