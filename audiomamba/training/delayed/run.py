"""From the configuration of a delayed-streams head's experiment to what is trained."""

from pathlib import Path

import torch

from audiomamba.config import from_mapping
from audiomamba.errors import ConfigError
from audiomamba.models.checkpoint import load_weights
from audiomamba.models.checkpoint_files import read_config
from audiomamba.models.delayed_streams import DelayedStreams
from audiomamba.models.registry import find
from audiomamba.models.transcriber_config import TranscriberConfig
from audiomamba.training.delayed.config import DelayedExperiment
from audiomamba.training.delayed.encoded import read_encoded
from audiomamba.training.delayed.objective import NextToken
from audiomamba.training.delayed.rows import Rows
from audiomamba.training.parallel import Parallel

__all__ = ["prepare_delayed"]


def prepare_delayed(config: DelayedExperiment, parallel: Parallel) -> NextToken:
    """Model, batches and loss of a delayed-streams head's experiment.

    Raises:
        ConfigError: there is nothing to train on, or it is of another encoder or vocabulary.
        ModelError: the encoder's folder is damaged.
    """
    encoder = find(config.train.encoder)
    described = from_mapping(TranscriberConfig, read_config(encoder)["model"])
    model, width = config.model, described.stack.width
    if (model.vocabulary, model.audio_width) != (described.vocabulary, width):
        raise ConfigError(
            f"{config.train.encoder}: has {described.vocabulary} pieces and frames of {width}, "
            f"the head {model.vocabulary} and {model.audio_width}"
        )
    torch.manual_seed(config.train.seed)
    rows = Rows(
        [read_encoded(Path(path), width, model.vocabulary) for path in config.data.encoded],
        model,
        config.data,
        device=parallel.device,
        frame_s=described.frame_s,
        seed=config.train.seed * parallel.world + parallel.rank,
    )
    weights = load_weights(encoder)
    head = DelayedStreams(model)
    head.set_ctc(weights["out.weight"], weights["out.bias"])
    return NextToken(head.to(parallel.device), rows, config.train, encoder / "tokenizer.model")
