"""A transcriber on the native CPU engine: numpy in, numpy out, no torch."""

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiomamba.errors import BackendError, ModelError, ShapeError
from audiomamba.kernels import native
from audiomamba.models.checkpoint_files import read_config, read_weights
from audiomamba.models.native_weights import Floats, Pointers, Weights, describe_block

__all__ = ["NativeTranscriber", "why_not"]

FACTOR = 4  # feature frames to one frame of the encoder; part of the engine's C interface


def why_not(config: Mapping[str, Any]) -> str | None:
    """What keeps the engine, where it was built, from a model of this configuration."""
    front_end = config.get("front_end", "mel")
    return None if front_end == "mel" else f"the native engine has no {front_end} front end"


class NativeTranscriber:
    """Runs the stack of a :class:`~audiomamba.models.transcriber.Transcriber` in one C++ call.

    Args:
        config: The ``model`` part of a checkpoint's ``config.json``.
        weights: Names and arrays of the checkpoint.
        int8: Keep linear maps as int8 with 14-bit activations, several times faster; else float32.

    Raises:
        BackendError: the engine was not built, or has no such front end.
        ModelError: a weight is missing, or a size is not supported by the engine.
    """

    def __init__(self, config: Mapping[str, Any], weights: Weights, *, int8: bool = True) -> None:
        if (reason := why_not(config)) is not None:
            raise BackendError(f"{reason}; use the torch engine")
        self._library = native.library()
        self.bins = int(config["mel"]["bins"])
        self.vocabulary = int(config["vocabulary"])
        self.outputs = self.vocabulary + len(config.get("ends", ()))
        self._model = self._build(config, weights, int8)
        self.state_floats = int(self._library.am_state_floats(self._model))

    def __del__(self) -> None:
        if getattr(self, "_model", None):
            self._library.am_free(self._model)

    @classmethod
    def from_folder(cls, folder: Path, *, int8: bool = True) -> "NativeTranscriber":
        """Load a checkpoint folder."""
        config = read_config(folder)
        if config.get("kind") != "transcriber":
            raise ModelError(f"{folder}: wants a transcriber, got kind {config.get('kind')!r}")
        return cls(config["model"], read_weights(folder), int8=int8)

    @property
    def instruction_set(self) -> str:
        """What the engine runs on: ``avx512``, ``avx2`` or ``plain``."""
        return str(self._library.am_instruction_set().decode())

    def init_state(self, streams: int) -> Floats:
        """States before the first frame, one row a stream: ``(streams, state_floats)``."""
        return np.zeros((streams, self.state_floats), np.float32)

    def transcribe(self, features: Floats, states: Floats, rows: NDArray[np.intp]) -> Floats:
        """Log-probabilities ``(M, T, outputs)`` of ``features (M, 4 T, bins)``.

        Of the pieces, then of each of the configuration's ``ends``. Rows ``rows (M,)``, all
        different, of ``states`` advance in place.

        Raises:
            ShapeError: shapes do not fit, or ``states`` is not float32 with rows in one piece.
        """
        M, frames, bins = features.shape
        at = [int(row) for row in rows]
        if frames % FACTOR or bins != self.bins or len(at) != M:
            raise ShapeError(
                f"native: wants (M, {FACTOR} T, {self.bins}) for {len(at)} rows, "
                f"got {features.shape}"
            )
        if (
            states.dtype != np.float32
            or states.shape[1:] != (self.state_floats,)
            or states.strides[1] != states.itemsize
        ):
            raise ShapeError(
                f"native: states must be float32 (rows, {self.state_floats}), a row in one piece, "
                f"got {states.dtype} {states.shape}"
            )
        # What is past these checks is written to by address.
        if len(set(at)) != M or not all(0 <= row < len(states) for row in at):
            raise ShapeError(f"native: wants different rows of {len(states)}, got {at}")
        features = np.ascontiguousarray(features, np.float32)
        out = np.empty((M, frames // FACTOR, self.outputs), np.float32)
        first, stride = states.ctypes.data, states.strides[0]
        pointers = (ctypes.c_void_p * M)(*(first + row * stride for row in at))
        self._library.am_transcribe(
            self._model, features.ctypes.data, M, frames // FACTOR, pointers, out.ctypes.data
        )
        return out

    def _build(self, config: Mapping[str, Any], weights: Weights, int8: bool) -> int:
        """A block at a time, so that no more of them than one is there in float32."""
        stack = config["stack"]
        layers = [layer for layer in stack["layers"] for _ in range(layer["count"])]
        keep: list[Floats] = []  # what the C side reads while it copies
        take = Pointers(weights, keep)
        frame = self._describe(config, take, blocks=len(layers), int8=int8)
        model: int = self._library.am_transcriber_new(ctypes.byref(frame))
        if not model:
            raise ModelError(f"native engine: {self._library.am_error().decode()}")
        try:
            for i, layer in enumerate(layers):
                keep.clear()
                block = describe_block(layer, int(stack["width"]), take.under(f"stack.blocks.{i}."))
                if not self._library.am_transcriber_add(model, ctypes.byref(block)):
                    raise ModelError(f"native engine: {self._library.am_error().decode()}")
        except ModelError:
            self._library.am_free(model)
            raise
        return model

    def _describe(
        self, config: Mapping[str, Any], take: Pointers, *, blocks: int, int8: bool
    ) -> native.Transcriber:
        """All but the blocks."""
        width, bins, vocabulary = int(config["stack"]["width"]), self.bins, self.vocabulary
        first, second = (int(channels) for channels in config["subsample_channels"])
        ends = self.outputs - vocabulary
        described = native.Transcriber(
            bins=bins,
            channels=(ctypes.c_int * 2)(first, second),
            width=width,
            vocabulary=vocabulary,
            blocks=blocks,
            eps=config["stack"]["norm_eps"],
            int8=int(int8),
            mel_mean=take("mel_mean", bins),
            mel_scale=take("mel_scale", bins),
            first_weight=take("subsample.first.weight", first, 1, 3, 3),
            first_bias=take("subsample.first.bias", first),
            second_weight=take("subsample.second.weight", second, first, 3, 3),
            second_bias=take("subsample.second.bias", second),
            project_weight=take("subsample.project.weight", width, second * (bins // 4)),
            project_bias=take("subsample.project.bias", width),
            norm=take("stack.norm.weight", width),
            out_weight=take("out.weight", vocabulary, width),
            out_bias=take("out.bias", vocabulary),
            ends=ends,
        )
        if ends:
            described.ends_weight = take("ends.weight", ends, width)
            described.ends_bias = take("ends.bias", ends)
        return described
