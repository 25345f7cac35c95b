"""From the configuration of a language model's experiment to what is trained."""

from pathlib import Path

import numpy as np
import torch

from audiomamba.models.language import LanguageModel
from audiomamba.text.vocabulary import WORD_START
from audiomamba.training.language.config import LanguageExperiment
from audiomamba.training.language.objective import HeldOut, NextPiece
from audiomamba.training.language.pieces import read_pieces
from audiomamba.training.language.rows import Rows
from audiomamba.training.parallel import Parallel
from audiomamba.training.tokenizers import load_tokenizer

__all__ = ["prepare_language"]


def prepare_language(config: LanguageExperiment, parallel: Parallel) -> NextPiece:
    """Model, batches and measure of a language model's experiment.

    Raises:
        ConfigError: there is nothing to train on, or a text is of another vocabulary.
    """
    tokenizer, vocabulary = load_tokenizer(config.train.tokenizer, config.model.vocabulary)
    config.train.tokenizer = str(tokenizer)
    torch.manual_seed(config.train.seed)
    model = LanguageModel(config.model).to(parallel.device)
    rows = Rows(
        [read_pieces(Path(path), len(vocabulary)) for path in config.data.pieces],
        config.data,
        device=parallel.device,
        seed=config.train.seed * parallel.world + parallel.rank,
    )
    held_out = None
    if config.data.held_out:
        starts = np.array([piece.startswith(WORD_START) for piece in vocabulary.pieces])
        pieces = read_pieces(Path(config.data.held_out), len(vocabulary))
        held_out = HeldOut(pieces, starts, parallel.device)
    return NextPiece(model, rows, config.train, parallel, held_out=held_out)
