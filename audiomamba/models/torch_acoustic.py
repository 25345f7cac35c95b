"""A transcriber run by PyTorch, on any device it knows."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from audiomamba.config import from_mapping
from audiomamba.errors import ModelError
from audiomamba.models.checkpoint import fill
from audiomamba.models.checkpoint_files import read_config
from audiomamba.models.transcriber import Transcriber, TranscriberState
from audiomamba.models.transcriber_config import TranscriberConfig
from audiomamba.nn import flatten

__all__ = ["TorchAcoustic", "load_transcriber"]

Floats = NDArray[np.float32]


def load_transcriber(folder: Path, *, device: str | torch.device = "cpu") -> Transcriber:
    """Load a checkpoint folder as a module, in evaluation mode.

    Raises:
        ModelError: a file is missing or damaged, or the checkpoint is of another kind.
    """
    config = read_config(folder)
    if config.get("kind") != "transcriber":
        raise ModelError(f"{folder}: wants a transcriber, got kind {config.get('kind')!r}")
    model = Transcriber(from_mapping(TranscriberConfig, config["model"]))
    return fill(model, folder).to(device)


class TorchAcoustic:
    """See :class:`~audiomamba.models.acoustic.AcousticModel`."""

    engine = "torch"

    def __init__(self, model: Transcriber) -> None:
        self.model = model
        self._device = next(model.parameters()).device

    def init_state(self) -> TranscriberState:
        return self.model.init_state(1, device=self._device)

    @torch.inference_mode()
    def log_probs(
        self, features: Floats, state: TranscriberState
    ) -> tuple[Floats, TranscriberState]:
        x = torch.from_numpy(features).to(self._device)[None]
        logits, state = self.model.transcribe(x, state)
        out: Floats = self.model.log_probs(logits[0]).cpu().numpy()
        return out, state

    def state_bytes(self, state: TranscriberState) -> int:
        return sum(tensor.nbytes for _, tensor in flatten(state))
