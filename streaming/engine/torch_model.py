"""The torch engine: a transcriber and its pool of states, on a GPU or any processor."""

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from audiomamba.models.subsample import FACTOR
from audiomamba.models.transcriber import Transcriber
from audiomamba.nn import StatePool
from audiomamba.streaming.engine.model import FloatArray

__all__ = ["TorchStepModel"]


class TorchStepModel:
    """A :class:`~audiomamba.streaming.engine.model.StepModel` over torch.

    Args:
        model: In evaluation mode, on the device that is to serve.
        slots: Streams at once.
        block: Encoder frames a step (40 ms each); fewer answer sooner, more cost less.
    """

    kind = "torch"

    def __init__(self, model: Transcriber, *, slots: int, block: int = 4) -> None:
        self._model = model
        self._pool = StatePool(model, slots=slots)
        self.slots = slots
        self.num_mel_bins = model.config.mel.bins
        self.frames_per_block = block * FACTOR
        self.block_s = block * model.config.frame_s
        self.state_bytes = self._pool.bytes_per_slot
        self.fingerprint = f"torch-{self._pool.fingerprint}"

    @torch.inference_mode()
    def step(self, features: FloatArray, slots: Sequence[int]) -> FloatArray:
        device = self._pool.device
        rows = torch.tensor(slots, device=device)
        logits = self._model.step_(torch.from_numpy(features).to(device), self._pool.state, rows)
        log_probs: FloatArray = F.log_softmax(logits.float(), -1).cpu().numpy()
        return log_probs

    @torch.inference_mode()
    def reset(self, slot: int) -> None:
        self._pool.reset(slot)

    def save(self, slot: int) -> bytes:
        return self._pool.save(slot)

    @torch.inference_mode()
    def load(self, slot: int, snapshot: bytes) -> None:
        self._pool.load(slot, snapshot)
