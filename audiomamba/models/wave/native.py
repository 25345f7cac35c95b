"""A waveform model on the native CPU engine: numpy in, numpy out, no torch."""

import ctypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiomamba.audio.mulaw import CLASSES
from audiomamba.config import to_mapping
from audiomamba.errors import ModelError, ShapeError, StateError
from audiomamba.kernels import native
from audiomamba.models.checkpoint_files import digest, read_weights
from audiomamba.models.native_weights import Pointers, Weights, describe_block
from audiomamba.models.wave.config import ConditionedBlock, WaveConfig
from audiomamba.models.wave.engine import Codes, Floats, Ids, Seeds
from audiomamba.models.wave.sampling import Sampling

__all__ = ["NativeWave"]


class NativeWave:
    """See :class:`~audiomamba.models.wave.engine.WaveEngine`; one C++ call draws many samples.

    Args:
        config: Shape of the model.
        weights: Names and arrays of the checkpoint.
        int8: Keep linear maps as int8 with 14-bit activations, several times faster; else float32.
        checkpoint: Digest of where the weights come from.

    Raises:
        BackendError: the engine was not built.
        ModelError: a weight is missing, or a size is not supported by the engine.
    """

    engine = "native"

    def __init__(
        self, config: WaveConfig, weights: Weights, *, int8: bool = True, checkpoint: str = ""
    ) -> None:
        self._library = native.library()
        self._config, self._weights = config, weights
        self._condition = config.condition_size
        _check_tables(config, weights)
        keep: list[Floats] = []  # what the C side reads while it copies
        description = _describe(config, Pointers(weights, keep), int8)
        self._model = self._library.am_wave_new(ctypes.byref(description))
        if not self._model:
            raise ModelError(f"native engine: {self._library.am_error().decode()}")
        self._floats = int(self._library.am_state_floats(self._model))
        precision = "int8" if int8 else "float32"
        isa = self._library.am_instruction_set().decode()
        self.identity = f"{checkpoint}/native/{precision}/{isa}"

    def __del__(self) -> None:
        if getattr(self, "_model", None):
            self._library.am_free(self._model)

    @classmethod
    def from_folder(cls, folder: Path, config: WaveConfig, *, int8: bool = True) -> "NativeWave":
        """Load a checkpoint folder of that shape."""
        return cls(config, read_weights(folder), int8=int8, checkpoint=digest(folder))

    def begin(self, labels: Sequence[int], speakers: Sequence[int]) -> Floats:
        states = np.zeros((len(labels), self._floats), np.float32)
        self.tell(states, np.arange(len(labels)), labels, speakers)
        return states

    def tell(self, state: Floats, rows: NDArray[np.intp], labels: Ids, speakers: Ids) -> None:
        if not self._condition:
            return
        out = self._weights["conditioning.out.weight"]
        tables = [self._weights[f"conditioning.{name}.weight"] for name in ("label", "speaker")]
        for row, *ids in zip(rows, labels, speakers, strict=True):
            own = state[row, 1 : 1 + self._condition]
            own[:] = 0.0
            for table, number in zip(tables, ids, strict=True):
                if number >= 0:
                    own += out @ table[number]

    def feed(self, state: Floats, codes: Codes) -> None:
        self._feed(state, codes, None)

    def logits(self, state: Floats, codes: Codes) -> Floats:
        out = np.empty((*codes.shape, CLASSES), np.float32)
        self._feed(state, codes, out.ctypes.data)
        return out

    def draw(
        self,
        state: Floats,
        last: Codes,
        how: Sampling,
        seeds: Seeds,
        first: NDArray[np.int64],
        samples: int,
    ) -> Codes:
        M = len(last)
        if not (len(seeds) == len(first) == M and last.dtype == np.uint8 and last.ndim == 1):
            raise ShapeError(f"native: wants seeds and indices of {M} streams and their uint8")
        pointers = self._pointers(state, M if how.guidance == 1 else 2 * M)
        out = np.empty((M, samples), np.uint8)
        sampling = native.Sampling(how.temperature, how.top_p, how.guidance)
        seeds = np.ascontiguousarray(seeds, np.uint64)
        index = np.ascontiguousarray(first, np.uint64)
        self._library.am_wave_draw(
            self._model, ctypes.byref(sampling), last.ctypes.data, M, samples, pointers,
            seeds.ctypes.data, index.ctypes.data, out.ctypes.data,
        )  # fmt: skip
        return out

    def dump(self, state: Floats) -> dict[str, NDArray[Any]]:
        return {"state": state.copy()}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> Floats:
        state = arrays.get("state")
        if state is None or state.ndim != 2 or state.shape[1] != self._floats:
            found = None if state is None else state.shape
            raise StateError(f"state must be (streams, {self._floats}), got {found}")
        return np.ascontiguousarray(state, np.float32).copy()

    def take(self, state: Floats, rows: NDArray[np.intp]) -> Floats:
        return state[rows]

    def put(self, state: Floats, rows: NDArray[np.intp], part: Floats) -> None:
        state[rows] = part

    def phase(self, state: Floats) -> int:
        return 0  # each row knows its own

    def prepare(self, how: Sampling) -> None:
        """Nothing: all is compiled."""

    def state_bytes(self, state: Floats) -> int:
        return int(state.nbytes)

    def _feed(self, state: Floats, codes: Codes, logits: int | None) -> None:
        codes = np.ascontiguousarray(codes, np.uint8)
        pointers = self._pointers(state, len(codes))
        self._library.am_wave_feed(self._model, codes.ctypes.data, *codes.shape, pointers, logits)

    def _pointers(self, state: Floats, rows: int) -> Any:
        """Addresses of the rows; what is past these checks is written to by address."""
        if (
            state.shape != (rows, self._floats)
            or state.dtype != np.float32
            or not state.flags.c_contiguous
        ):
            raise ShapeError(
                f"native: state must be contiguous float32 ({rows}, {self._floats}), "
                f"got {state.dtype} {state.shape}"
            )
        first, stride = state.ctypes.data, state.strides[0]
        return (ctypes.c_void_p * rows)(*(first + row * stride for row in range(rows)))


def _check_tables(config: WaveConfig, weights: Weights) -> None:
    """What C++ is not given and so cannot check: the tables of labels and speakers."""
    if not config.is_conditional:
        return
    rows = {"label": config.label_rows, "speaker": len(config.speakers)}
    for name, count in rows.items():
        found = np.shape(weights[f"conditioning.{name}.weight"])
        wanted = max(1, count), config.condition_width
        if found != wanted:
            raise ModelError(
                f"the table of {name}s has the shape {found}, config.json says {wanted}"
            )


def _describe(config: WaveConfig, take: Pointers, int8: bool) -> native.Wave:
    width = config.stages[0].width
    rates = [_rate(config, depth, take) for depth in range(len(config.stages))]
    return native.Wave(
        rates=len(rates),
        condition=config.condition_size,
        eps=config.norm_eps,
        int8=int(int8),
        embedding=take("embedding.weight", CLASSES, width),
        norm=take("norm.weight", width),
        head_weight=take("head.weight", CLASSES, width),
        head_bias=take("head.bias", CLASSES),
        rate=(native.Rate * len(rates))(*rates),
    )


def _rate(config: WaveConfig, depth: int, take: Pointers) -> native.Rate:
    stage, prefix = config.stages[depth], f"net.{'inner.' * depth}"
    blocks = config.blocks()
    rate = native.Rate(width=stage.width, blocks=len(stage.each()))
    rate.down = _side(blocks, prefix + "down.", take)
    if depth < len(config.pools):
        group, slower = config.pools[depth] * stage.width, config.stages[depth + 1].width
        rate.pool = config.pools[depth]
        rate.up = _side(blocks, prefix + "up.", take)
        rate.shrink_weight = take(prefix + "shrink.weight", slower, group)
        rate.shrink_bias = take(prefix + "shrink.bias", slower)
        rate.grow_weight = take(prefix + "grow.weight", group, slower)
        rate.grow_bias = take(prefix + "grow.bias", group)
    return rate


def _side(blocks: list[ConditionedBlock], prefix: str, take: Pointers) -> Any:
    described = [
        describe_block(to_mapping(block.layer), block.width, take.under(block.prefix))
        for block in blocks
        if block.prefix.startswith(prefix)
    ]
    return (native.Block * len(described))(*described)
