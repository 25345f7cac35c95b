"""The neural language model of a search, run by PyTorch."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from audiomamba.config import from_mapping
from audiomamba.models.checkpoint import fill
from audiomamba.models.checkpoint_files import read_config
from audiomamba.models.language import LanguageModel, LanguageModelConfig
from audiomamba.nn import flatten, map_state

__all__ = ["TorchPieceLanguage", "load_language"]

Floats = NDArray[np.float32]


def load_language(folder: Path) -> LanguageModel:
    """Load a checkpoint folder as a module, in evaluation mode.

    Raises:
        ModelError: a file is missing or damaged.
    """
    model = LanguageModel(from_mapping(LanguageModelConfig, read_config(folder)["model"]))
    return fill(model, folder)


class TorchPieceLanguage:
    """A :class:`~audiomamba.text.beam.PieceLanguage`; a row of states is all leaves of a state."""

    native: int | None = None

    def __init__(self, model: LanguageModel, fingerprint: int) -> None:
        self.fingerprint = fingerprint
        self._model = model
        self._shapes = [leaf.shape[1:] for _, leaf in flatten(model.init_state(1))]

    @classmethod
    def from_folder(cls, folder: Path, fingerprint: int) -> "TorchPieceLanguage":
        """Load a checkpoint folder."""
        return cls(load_language(folder), fingerprint)

    def init_state(self, rows: int) -> Floats:
        floats = sum(shape.numel() for shape in self._shapes)
        return np.zeros((rows, floats), np.float32)

    @torch.inference_mode()
    def next(self, pieces: NDArray[np.intp], states: Floats) -> Floats:
        rows = torch.from_numpy(states)
        parts = rows.split([shape.numel() for shape in self._shapes], 1)
        leaves = iter(
            part.reshape(-1, *shape) for part, shape in zip(parts, self._shapes, strict=True)
        )
        state = map_state(lambda _: next(leaves), self._model.init_state(len(pieces)))
        logits, state = self._model(torch.from_numpy(np.asarray(pieces))[:, None], state)
        after: list[Tensor] = [leaf.reshape(len(pieces), -1) for _, leaf in flatten(state)]
        rows.copy_(torch.cat(after, 1))
        out: Floats = F.log_softmax(logits[:, 0].float(), -1).numpy()
        return out
