"""A waveform model run by PyTorch, on any device it knows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audiomamba.errors import BackendError, StateError
from audiomamba.kernels.launching import warmup
from audiomamba.models.checkpoint import fill
from audiomamba.models.checkpoint_files import digest
from audiomamba.models.wave.config import WaveConfig
from audiomamba.models.wave.engine import Codes, Floats, Ids, Seeds
from audiomamba.models.wave.model import Wave, WaveState
from audiomamba.models.wave.persistent import Persistent, lacks
from audiomamba.models.wave.sampling import Sampling, uniforms
from audiomamba.nn import flatten, gather, map_state, scatter_

__all__ = ["TorchWave", "check_device", "choose", "load_wave"]

_CHUNK = 4096  # samples fed at once


def load_wave(folder: Path, config: WaveConfig, *, device: str | torch.device = "cpu") -> Wave:
    """Load a checkpoint's weights as a module of that shape, in evaluation mode.

    Raises:
        ModelError: a file is missing or damaged, or the weights are of another shape.
    """
    return fill(Wave(config), folder).to(device)


def check_device(device: str) -> None:
    """Whether PyTorch has that device here.

    Raises:
        BackendError: it does not know it, or there is none.
    """
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise BackendError(f"device {device!r}: {str(error).splitlines()[0]}") from None


def choose(logits: Tensor, how: Sampling, u: Tensor) -> Tensor:
    """Classes ``(M,)`` int64 drawn from ``logits (M, 256)`` by numbers ``u (M,)`` in [0, 1)."""
    if how.temperature == 0:
        return logits.argmax(-1)
    weights = torch.softmax(logits.float() / how.temperature, -1)
    if how.top_p < 1:
        ordered = weights.sort(-1, descending=True).values
        held = ordered.cumsum(-1)
        inside = (held - ordered < how.top_p * held[:, -1:]).sum(-1, keepdim=True)
        least = ordered.gather(-1, inside - 1)
        weights = torch.where(weights >= least, weights, 0.0)
    below = weights.double().cumsum(-1)
    at = (below <= u.double()[:, None] * below[:, -1:]).sum(-1)
    return at.clamp(max=logits.shape[-1] - 1)


@dataclass(slots=True)
class _Streams:
    """States of M streams in step with each other; row 0 of the pool is the null slot."""

    pool: WaveState
    slots: Tensor  # (M,)
    position: int = 0  # samples taken, modulo the period


class TorchWave:
    """See :class:`~audiomamba.models.wave.engine.WaveEngine`.

    On a GPU a call of ``draw`` is one launch where the model's shape allows it
    (:mod:`~audiomamba.models.wave.persistent`). Where not, each kind of step (as many kinds as
    there are rates) is captured once a batch size as a graph and replayed: a step is some hundred
    kernels that are over in microseconds. Graphs write to tensors of their own; states are copied
    there for a call and back after it.

    Args:
        model: In evaluation mode.
        checkpoint: What its weights are called in ``identity``.
        graphs: Whether steps on a GPU may be captured.
        persistent: Whether a GPU may draw in one launch.
    """

    engine = "torch"

    def __init__(
        self, model: Wave, *, checkpoint: str = "", graphs: bool = True, persistent: bool = True
    ) -> None:
        self.model = model
        self._device = next(model.parameters()).device
        in_one = persistent and self._device.type == "cuda" and lacks(model.config) is None
        self._persistent = Persistent(model) if in_one else None
        self._captures = graphs and self._device.type == "cuda"
        self._graphs: dict[tuple[int, Sampling], _Graphs] = {}
        way = "persistent/bfloat16" if in_one else "torch/float32"
        self.identity = f"{checkpoint}/{way}/{self._device.type}"

    @classmethod
    def from_folder(cls, folder: Path, config: WaveConfig, *, device: str = "cpu") -> "TorchWave":
        """Load a checkpoint folder of that shape."""
        return cls(load_wave(folder, config, device=device), checkpoint=digest(folder))

    @torch.inference_mode()
    def begin(self, labels: Sequence[int], speakers: Sequence[int]) -> _Streams:
        streams = self._streams(len(labels))
        self.tell(streams, np.arange(len(labels)), labels, speakers)
        return streams

    @torch.inference_mode()
    def tell(self, state: _Streams, rows: NDArray[np.intp], labels: Ids, speakers: Ids) -> None:
        ids = (torch.tensor(list(numbers), device=self._device) for numbers in (labels, speakers))
        state.pool.condition[state.slots[self._index(rows)]] = self.model.condition(*ids)

    @torch.inference_mode()
    def feed(self, state: _Streams, codes: Codes) -> None:
        for _ in self._fed(state, codes):
            pass

    @torch.inference_mode()
    def logits(self, state: _Streams, codes: Codes) -> Floats:
        parts = [out.float().cpu().numpy() for out in self._fed(state, codes)]
        return np.concatenate(parts, 1)

    @torch.inference_mode()
    def draw(
        self,
        state: _Streams,
        last: Codes,
        how: Sampling,
        seeds: Seeds,
        first: NDArray[np.int64],
        samples: int,
    ) -> Codes:
        if not samples:
            return np.zeros((len(last), 0), np.uint8)
        chance = torch.from_numpy(uniforms(seeds, first, samples)).to(self._device)
        code = torch.from_numpy(last.astype(np.int64)).to(self._device)
        if self._persistent is not None:
            drawn = self._persistent.draw(
                state.pool, state.slots, how, code, chance, state.position
            )
            state.position = (state.position + samples) % self.model.config.period
        else:
            drawn = self._stepped(state, how, code, chance)
        out: Codes = drawn.cpu().numpy()
        last[:] = out[:, -1]
        return out

    def _stepped(self, state: _Streams, how: Sampling, code: Tensor, chance: Tensor) -> Tensor:
        """Sample by sample, ``(M, samples)`` uint8."""
        drawn = torch.empty(chance.shape, dtype=torch.uint8, device=self._device)
        step = partial(self._step, state.pool, state.slots, how)
        graphs = self._graphs_of(state, how) if self._captures else None
        for t in range(chance.shape[1]):
            whole = self._advance(state)
            if graphs is None:
                code = step(whole, code, chance[:, t])
            else:
                code = graphs.replay(whole, code, chance[:, t])
            drawn[:, t] = code
        if graphs is not None:
            graphs.give(state.pool)
        return drawn

    @torch.inference_mode()
    def prepare(self, how: Sampling) -> None:
        if self._persistent is None:
            return
        state = self._streams(1 if how.guidance == 1 else 2)
        code = torch.zeros(1, dtype=torch.int64, device=self._device)
        draw = partial(self._persistent.draw, state.pool, state.slots, how, code)
        warmup(partial(draw, chance=code[:, None].float(), position=0), workers=1)

    def dump(self, state: _Streams) -> dict[str, NDArray[Any]]:
        return {name: tensor[1:].cpu().numpy().copy() for name, tensor in flatten(state.pool)}

    @torch.inference_mode()
    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> _Streams:
        if "position" not in arrays:
            raise StateError("state is damaged: it has no position")
        streams = self._streams(len(arrays["position"]))
        for name, tensor in flatten(streams.pool):
            found = arrays.get(name)
            if found is None or found.shape != tensor[1:].shape:
                shape = None if found is None else found.shape
                raise StateError(f"state {name} must be {tuple(tensor[1:].shape)}, got {shape}")
            tensor[1:] = torch.from_numpy(found).to(tensor)
        streams.position = int(arrays["position"][0, 0]) if len(arrays["position"]) else 0
        return streams

    @torch.inference_mode()
    def take(self, state: _Streams, rows: NDArray[np.intp]) -> _Streams:
        part = self._streams(len(rows))
        self._copy(part, part.slots, state, state.slots[self._index(rows)])
        part.position = state.position
        return part

    @torch.inference_mode()
    def put(self, state: _Streams, rows: NDArray[np.intp], part: _Streams) -> None:
        self._copy(state, state.slots[self._index(rows)], part, part.slots)

    def _index(self, rows: NDArray[np.intp]) -> Tensor:
        return torch.from_numpy(np.asarray(rows, np.int64)).to(self._device)

    def _copy(self, to: _Streams, there: Tensor, source: _Streams, here: Tensor) -> None:
        scatter_(to.pool, there, gather(source.pool, here))

    def phase(self, state: _Streams) -> int:
        return state.position

    def state_bytes(self, state: _Streams) -> int:
        return sum(tensor[1:].nbytes for _, tensor in flatten(state.pool))

    def _streams(self, streams: int) -> _Streams:
        pool = self.model.init_state(streams + 1, device=self._device)
        return _Streams(pool, torch.arange(1, streams + 1, device=self._device))

    def _fed(self, state: _Streams, codes: Codes) -> Iterator[Tensor]:
        whole = torch.from_numpy(np.asarray(codes, np.int64)).to(self._device)
        for chunk in whole.split(_CHUNK, 1):
            out, after = self.model(chunk, gather(state.pool, state.slots), position=state.position)
            scatter_(state.pool, state.slots, after)
            state.position = (state.position + chunk.shape[1]) % self.model.config.period
            yield out

    def _advance(self, state: _Streams) -> int:
        """One sample further; pools whose group ends with it."""
        place, whole, product = state.position + 1, 0, 1
        for pool in self.model.config.pools:
            product *= pool
            whole += place % product == 0
        state.position = place % self.model.config.period
        return whole

    def _step(
        self, pool: WaveState, slots: Tensor, how: Sampling, whole: int, code: Tensor, u: Tensor
    ) -> Tensor:
        """One sample of every stream."""
        guided = how.guidance != 1
        codes = code.repeat(2) if guided else code
        logits = self.model.step_(codes[:, None], pool, slots, whole=whole)[:, 0]
        if guided:
            asked, free = logits.chunk(2)
            logits = free + how.guidance * (asked - free)
        return choose(logits, how, u)

    def _graphs_of(self, state: _Streams, how: Sampling) -> "_Graphs":
        """The graphs of that many streams, with the state in their tensors."""
        key = (len(state.slots), how)
        if key not in self._graphs:
            own = self._streams(len(state.slots))
            step = partial(self._step, own.pool, own.slots, how)
            rows = len(state.slots) // (1 if how.guidance == 1 else 2)
            self._graphs[key] = _Graphs(step, own.pool, rows, len(self.model.config.pools))
        self._graphs[key].take(state.pool)
        return self._graphs[key]


class _Graphs:
    """One captured step a kind, all over the same tensors."""

    def __init__(
        self, step: Callable[[int, Tensor, Tensor], Tensor], pool: WaveState, rows: int, pools: int
    ) -> None:
        self._pool, self._step = pool, step  # the step holds the slots, which the graphs read
        device = pool.position.device
        self._code = torch.zeros(rows, dtype=torch.int64, device=device)
        self._u = torch.zeros(rows, device=device)
        self._out: list[Tensor] = []
        self._replays: list[torch.cuda.CUDAGraph] = []
        side = torch.cuda.Stream()
        for whole in range(pools + 1):
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):  # kernels compile and libraries choose
                for _ in range(2):
                    step(whole, self._code, self._u)
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._out.append(step(whole, self._code, self._u))
            self._replays.append(graph)

    def take(self, pool: WaveState) -> None:
        """Copy a state in."""
        map_state(lambda own, given: own.copy_(given), self._pool, pool)

    def give(self, pool: WaveState) -> None:
        """Copy the state out."""
        map_state(lambda given, own: given.copy_(own), pool, self._pool)

    def replay(self, whole: int, code: Tensor, u: Tensor) -> Tensor:
        self._code.copy_(code)
        self._u.copy_(u)
        self._replays[whole].replay()
        return self._out[whole]
