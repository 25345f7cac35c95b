"""From the configuration of endpoint outputs' experiment to what is trained."""

from collections.abc import Sequence
from pathlib import Path

import torch

from audiomamba.config import from_mapping
from audiomamba.errors import ConfigError
from audiomamba.models.checkpoint_files import read_config
from audiomamba.models.registry import find
from audiomamba.models.transcriber_config import TranscriberConfig
from audiomamba.training.delayed.encoded import read_encoded
from audiomamba.training.ends.config import EndsExperiment
from audiomamba.training.ends.objective import EndsHead, Quiet
from audiomamba.training.ends.rows import Rows
from audiomamba.training.parallel import Parallel

__all__ = ["prepare_ends"]


def prepare_ends(config: EndsExperiment, parallel: Parallel) -> Quiet:
    """Model, batches and loss of endpoint outputs' experiment.

    Raises:
        ConfigError: there is nothing to train on, or it is of another encoder.
        ModelError: the encoder's folder is damaged.
    """
    model = config.model
    described = from_mapping(TranscriberConfig, read_config(find(config.train.encoder))["model"])
    if model.width != described.stack.width:
        raise ConfigError(
            f"{config.train.encoder}: has frames of {described.stack.width}, "
            f"model.width is {model.width}"
        )

    def rows(folders: Sequence[str]) -> Rows:
        return Rows(
            [read_encoded(Path(path), model.width, described.vocabulary) for path in folders],
            model.horizons_s,
            batch=config.data.batch,
            frame_s=described.frame_s,
            device=parallel.device,
            seed=config.train.seed * parallel.world + parallel.rank,
        )

    torch.manual_seed(config.train.seed)
    held_out = rows(config.data.held_out) if config.data.held_out and parallel.first else None
    head = EndsHead(model).to(parallel.device)
    return Quiet(head, rows(config.data.encoded), held_out)
