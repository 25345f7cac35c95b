"""The torch engine: a transcriber and its pool of states, on a GPU or any processor."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from audiomamba.models.subsample import FACTOR
from audiomamba.models.transcriber import Transcriber
from audiomamba.nn import StatePool
from audiomamba.nn.state import NULL_SLOT
from audiomamba.streaming.engine.model import FloatArray

__all__ = ["TorchStepModel"]


class TorchStepModel:
    """A :class:`~audiomamba.streaming.engine.model.StepModel` over torch.

    On a GPU a step of each batch size is captured as a graph the first time that size is run, which
    the engine does before it takes streams; a step is some hundred kernels that are over sooner
    than Python can start them. One runs at a time, so all graphs work in the same memory.

    Args:
        model: In evaluation mode, on the device that is to serve.
        slots: Streams at once.
        block: Encoder frames a step (40 ms each); fewer answer sooner, more cost less.
    """

    kind = "torch"

    def __init__(self, model: Transcriber, *, slots: int, block: int = 4) -> None:
        self._model = model
        self._pool = StatePool(model, slots=slots)
        self.slots = self.best_batch = slots
        self.num_mel_bins = model.config.features.bins
        self.frames_per_block = block * FACTOR
        self.most_blocks = 1  # steps are captured
        self.block_s = block * model.config.frame_s
        self.state_bytes = self._pool.bytes_per_slot
        self.fingerprint = f"torch-{self._pool.fingerprint}"
        self._graphs: dict[int, _Graph] = {}  # by batch size
        on_gpu = self._pool.device.type == "cuda"
        self._memory = torch.cuda.graph_pool_handle() if on_gpu else None

    @torch.inference_mode()
    def step(self, features: FloatArray, slots: Sequence[int]) -> FloatArray:
        given, rows = torch.from_numpy(features), torch.tensor(slots)
        if self._memory is None:
            log_probs = self._step(given, rows)
        else:
            if len(slots) not in self._graphs:
                self._graphs[len(slots)] = _Graph(
                    self._step, given.shape, self._pool.device, self._memory
                )
            log_probs = self._graphs[len(slots)].replay(given, rows)
        out: FloatArray = log_probs.numpy()
        return out

    def _step(self, features: Tensor, rows: Tensor) -> Tensor:
        logits = self._model.step_(features, self._pool.state, rows)
        return self._model.log_probs(logits)

    @torch.inference_mode()
    def reset(self, slot: int) -> None:
        self._pool.reset(slot)

    def save(self, slot: int) -> bytes:
        return self._pool.save(slot)

    @torch.inference_mode()
    def load(self, slot: int, snapshot: bytes) -> None:
        self._pool.load(slot, snapshot)


class _Graph:
    """A step of M streams, captured on the null slot: what that leaves there nobody looks at."""

    def __init__(
        self,
        step: Callable[[Tensor, Tensor], Tensor],
        shape: torch.Size,
        device: torch.device,
        memory: Any,
    ) -> None:
        self._features = torch.zeros(shape, device=device)
        self._rows = torch.full(shape[:1], NULL_SLOT, device=device)
        aside = torch.cuda.Stream(device)
        aside.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(aside):  # what a first call sets up must not be captured
            for _ in range(2):
                step(self._features, self._rows)
        torch.cuda.current_stream(device).wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads may use the device meanwhile: what makes sound has one of its own.
        with torch.cuda.graph(self._graph, pool=memory, capture_error_mode="thread_local"):
            self._log_probs = step(self._features, self._rows)

    def replay(self, features: Tensor, rows: Tensor) -> Tensor:
        """The step, from tensors of the host to one of its own there."""
        self._features.copy_(features)
        self._rows.copy_(rows)
        self._graph.replay()
        # Pinned, several times as fast to copy to; torch keeps such memory for the next step.
        out = torch.empty(self._log_probs.shape, dtype=self._log_probs.dtype, pin_memory=True)
        out.copy_(self._log_probs, non_blocking=True)
        torch.cuda.current_stream(self._log_probs.device).synchronize()
        return out
