"""Forward and backward of the transcriber, replayed as CUDA graphs, one pair a shape.

A step launches thousands of kernels that are each over in microseconds, so from Python the host
would be the bottleneck. A replayed graph costs one launch. The loss stays outside: CTC wants
lengths on the host. So the outputs are handed over as leaves, the loss fills their gradients, and
the backward graph takes it from there to the flat gradient.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from audiomamba.models.transcriber import TranscriberOutput
from audiomamba.training.config import TrainConfig
from audiomamba.training.gradients import FlatGradient

__all__ = ["Encoder"]

_WARM_UP = 2  # runs before a capture: kernels compile and libraries choose


@dataclass(slots=True)
class _Captured:
    features: Tensor
    outputs: list[Tensor | None]
    gradients: list[Tensor | None]
    forward: torch.cuda.CUDAGraph
    backward: torch.cuda.CUDAGraph


class Encoder:
    """Runs ``model`` in training mode; ``forward`` then ``backward``, in turns.

    Args:
        model: A transcriber: features ``(B, F, bins)`` to ``(TranscriberOutput, state)``.
        gradient: Where the parameters' gradients go.
        config: Precision, and whether and for how many shapes graphs are used.
        alone: Held during a capture, while no other thread may use the device.
    """

    def __init__(
        self,
        model: nn.Module,
        gradient: FlatGradient,
        config: TrainConfig,
        alone: AbstractContextManager[object] | None = None,
    ) -> None:
        self._model, self._gradient = model, gradient
        self._device = gradient.flat.device
        self._bf16 = config.precision == "bf16"
        self._max_shapes = config.max_shapes if config.graphs and self._device.type == "cuda" else 0
        self._alone = alone or nullcontext()
        self._captured: dict[tuple[int, ...], _Captured] = {}
        self._pool = torch.cuda.graph_pool_handle() if self._max_shapes else None
        self._stream = torch.cuda.Stream(self._device) if self._max_shapes else None
        self._outputs: list[Tensor | None] = []
        self._leaves: list[Tensor | None] = []
        self._current: _Captured | None = None

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shapes of features that have a graph."""
        return list(self._captured)

    def forward(self, features: Tensor) -> TranscriberOutput:
        """Outputs as leaves: differentiate the loss to them, then call :meth:`backward`."""
        shape = tuple(features.shape)
        if shape not in self._captured and len(self._captured) < self._max_shapes:
            with self._alone:
                self._captured[shape] = self._capture(features)
        self._current = self._captured.get(shape)
        if self._current is None:
            self._outputs = self._run(features)
        else:
            self._current.features.copy_(features)
            self._current.forward.replay()
            self._outputs = self._current.outputs
        self._leaves = [
            None if out is None else out.detach().requires_grad_() for out in self._outputs
        ]
        return TranscriberOutput(*self._leaves)  # type: ignore[arg-type]

    def backward(self) -> None:
        """From the leaves' gradients to the flat gradient, which is overwritten."""
        if self._current is None:
            self._gradient.fill(
                self._differentiate(
                    self._outputs, [None if leaf is None else leaf.grad for leaf in self._leaves]
                )
            )
        else:
            for static, leaf in zip(self._current.gradients, self._leaves, strict=True):
                if static is not None and leaf is not None:
                    if leaf.grad is None:
                        static.zero_()
                    else:
                        static.copy_(leaf.grad)
            self._current.backward.replay()
        self._outputs, self._leaves = [], []

    def _run(self, features: Tensor) -> list[Tensor | None]:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            out, _ = self._model(features)
        return list(out)

    def _differentiate(
        self, outputs: list[Tensor | None], gradients: list[Tensor | None]
    ) -> tuple[Tensor | None, ...]:
        pairs = [
            (out, g)
            for out, g in zip(outputs, gradients, strict=True)
            if out is not None and g is not None
        ]
        return torch.autograd.grad(
            [out for out, _ in pairs],
            self._gradient.parameters,
            [g for _, g in pairs],
            allow_unused=True,
        )

    def _capture(self, features: Tensor) -> _Captured:
        """Record both graphs. They share one memory pool: replays never overlap."""
        assert self._stream is not None
        static = features.clone()
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            for _ in range(_WARM_UP):
                outputs = self._run(static)
                ones = [None if out is None else torch.ones_like(out) for out in outputs]
                self._gradient.fill(self._differentiate(outputs, ones))
                del outputs, ones
        torch.cuda.current_stream().wait_stream(self._stream)
        forward, backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        with self._recording(forward):
            outputs = self._run(static)
        gradients = [None if out is None else torch.zeros_like(out) for out in outputs]
        with self._recording(backward):
            self._gradient.fill(self._differentiate(outputs, gradients))
        # Detached, the outputs keep their own memory and free the activations' for other shapes.
        kept = [None if out is None else out.detach() for out in outputs]
        return _Captured(static, kept, gradients, forward, backward)

    def _recording(self, graph: torch.cuda.CUDAGraph) -> torch.cuda.graph:
        # Other threads go on allocating for themselves: only this one is watched.
        return torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        )
