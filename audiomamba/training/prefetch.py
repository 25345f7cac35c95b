"""Batches made ahead, by a thread on a CUDA stream of its own."""

import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from audiomamba.training.losses import Counts, Targets
from audiomamba.training.objective import Batch

__all__ = ["Prefetcher", "Prepared"]

_POLL_S = 0.1


class Prepared(NamedTuple):
    """One batch of a transcriber as the loop wants it."""

    features: Tensor  # (B, 4 T, bins), log-mel, masked
    targets: Targets
    counts: Counts
    seconds: float  # of audio, padding not counted

    def tensors(self) -> list[Tensor]:
        """All of it that may lie on the device."""
        return [self.features, *self.targets, *self.counts]


class Prefetcher:
    """Calls ``make(step)`` for one step after the other, up to ``depth`` ahead of the reader.

    Args:
        make: From a step number to its batch; must not depend on what was made before, so that a
            resumed run goes on as if it had never stopped.
        first_step: Where to begin.
        depth: Batches ahead; 0 makes each when it is asked for.
        device: Where ``make`` works.

    An exception in ``make`` is raised again by ``next``. Use it as a context manager.

    Attributes:
        idle: Lock that is held while a batch is made; hold it to have the device alone.
    """

    def __init__(
        self,
        make: Callable[[int], Batch],
        *,
        first_step: int,
        depth: int,
        device: torch.device,
        idle: threading.Lock,
    ) -> None:
        self._make, self._step, self._depth, self._device = make, first_step, depth, device
        self.idle = idle
        self._ready: queue.Queue[tuple[Batch, torch.cuda.Event | None] | BaseException]
        self._ready = queue.Queue(max(depth, 1))
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self._depth:
            self._thread = threading.Thread(target=self._work, name="batches", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def next(self) -> Any:
        """The next step's batch, usable on the current stream."""
        if self._thread is None:
            self._step += 1
            return self._make(self._step - 1)
        item = self._ready.get()
        if isinstance(item, BaseException):
            raise item
        batch, made = item
        if made is not None:
            stream = torch.cuda.current_stream()
            stream.wait_event(made)
            for tensor in batch.tensors():
                if tensor.is_cuda:
                    tensor.record_stream(stream)
        return batch

    def _work(self) -> None:
        cuda = self._device.type == "cuda"
        if cuda:
            torch.cuda.set_device(self._device)
        stream = torch.cuda.Stream(self._device) if cuda else None
        step = self._step
        while not self._stop.is_set():
            item: tuple[Batch, torch.cuda.Event | None] | BaseException
            try:
                with self.idle, torch.cuda.stream(stream):
                    batch = self._make(step)
                    made = stream.record_event() if stream is not None else None
                item = batch, made
            except BaseException as error:  # handed to the reader, whose run it ends
                item = error
            while not self._stop.is_set():
                try:
                    self._ready.put(item, timeout=_POLL_S)
                    break
                except queue.Full:
                    continue
            if isinstance(item, BaseException):
                return
            step += 1
