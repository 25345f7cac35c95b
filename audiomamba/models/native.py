"""A transcriber on the native CPU engine: numpy in, numpy out, no torch."""

import ctypes
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiomamba.errors import ModelError, ShapeError
from audiomamba.kernels import native
from audiomamba.models.checkpoint_files import read_config, read_weights

__all__ = ["NativeTranscriber"]

Floats = NDArray[np.float32]
Weights = Mapping[str, Floats]


class NativeTranscriber:
    """Runs the stack of a :class:`~audiomamba.models.transcriber.Transcriber` in one C++ call.

    Args:
        config: The ``model`` part of a checkpoint's ``config.json``.
        weights: Names and arrays of the checkpoint.
        int8: Keep linear maps as int8 with 14-bit activations, several times faster; else float32.

    Raises:
        BackendError: the engine was not built.
        ModelError: a weight is missing, or a size is not supported by the engine.
    """

    def __init__(self, config: Mapping[str, Any], weights: Weights, *, int8: bool = True) -> None:
        self._library = native.library()
        self.bins = int(config["mel"]["bins"])
        self.vocabulary = int(config["vocabulary"])
        self._keep: list[Floats] = []  # what the C side reads while it copies
        description = self._describe(config, weights, int8)
        self._model = self._library.am_transcriber_new(ctypes.byref(description))
        self._keep.clear()
        if not self._model:
            raise ModelError(f"native engine: {self._library.am_error().decode()}")
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
        """What the engine runs on: ``avx2`` or ``plain``."""
        return str(self._library.am_instruction_set().decode())

    def init_state(self, streams: int) -> Floats:
        """States before the first frame, one row a stream: ``(streams, state_floats)``."""
        return np.zeros((streams, self.state_floats), np.float32)

    def transcribe(self, features: Floats, states: Floats, rows: NDArray[np.intp]) -> Floats:
        """Log-probabilities ``(M, T, vocabulary)`` of ``features (M, 4 T, bins)``.

        Rows ``rows (M,)``, all different, of ``states`` advance in place.

        Raises:
            ShapeError: shapes do not fit, or ``states`` is not a contiguous float32 array.
        """
        M, frames, bins = features.shape
        if frames % 4 or bins != self.bins or len(rows) != M:
            raise ShapeError(
                f"native: wants (M, 4 T, {self.bins}) for {len(rows)} rows, got {features.shape}"
            )
        if states.dtype != np.float32 or not states.flags.c_contiguous:
            raise ShapeError("native: states must be a contiguous float32 array")
        features = np.ascontiguousarray(features, np.float32)
        out = np.empty((M, frames // 4, self.vocabulary), np.float32)
        stride = states.strides[0]
        pointers = (ctypes.c_void_p * M)(*(states.ctypes.data + int(row) * stride for row in rows))
        self._library.am_transcribe(
            self._model, features.ctypes.data, M, frames // 4, pointers, out.ctypes.data
        )
        return out

    def _describe(
        self, config: Mapping[str, Any], weights: Weights, int8: bool
    ) -> native.Transcriber:
        def pointer(array: Floats) -> Any:
            array = np.ascontiguousarray(array, np.float32)
            self._keep.append(array)
            return array.ctypes.data_as(ctypes.POINTER(ctypes.c_float))

        def weight(name: str) -> Floats:
            try:
                return weights[name]
            except KeyError:
                raise ModelError(f"native engine: checkpoint has no weight {name!r}") from None

        stack = config["stack"]
        layers = [layer for layer in stack["layers"] for _ in range(layer["count"])]
        blocks = (native.Block * len(layers))(
            *(
                _block(layer, lambda name, i=i: weight(f"stack.blocks.{i}.{name}"), pointer)
                for i, layer in enumerate(layers)
            )
        )
        return native.Transcriber(
            bins=self.bins,
            channels=(ctypes.c_int * 2)(*config["subsample_channels"]),
            width=stack["width"],
            vocabulary=self.vocabulary,
            blocks=len(layers),
            eps=stack["norm_eps"],
            int8=int(int8),
            mel_mean=pointer(weight("mel_mean")),
            mel_scale=pointer(weight("mel_scale")),
            first_weight=pointer(weight("subsample.first.weight")),
            first_bias=pointer(weight("subsample.first.bias")),
            second_weight=pointer(weight("subsample.second.weight")),
            second_bias=pointer(weight("subsample.second.bias")),
            project_weight=pointer(weight("subsample.project.weight")),
            project_bias=pointer(weight("subsample.project.bias")),
            norm=pointer(weight("stack.norm.weight")),
            out_weight=pointer(weight("out.weight")),
            out_bias=pointer(weight("out.bias")),
            block=blocks,
        )


def _block(
    layer: Mapping[str, Any], weight: Callable[[str], Floats], pointer: Callable[[Floats], Any]
) -> native.Block:
    selective = layer["dynamics"] == "selective"
    in_proj = weight("mixer.in_proj.weight")
    block = native.Block(
        selective=int(selective),
        channels=in_proj.shape[0] // 2,
        states=layer["state_size"],
        conv_taps=layer["conv_taps"],
        norm=pointer(weight("norm.weight")),
        in_proj=pointer(in_proj),
        conv_weight=pointer(weight("mixer.conv_weight")),
        conv_bias=pointer(weight("mixer.conv_bias")),
        out_proj=pointer(weight("mixer.out_proj.weight")),
        D=pointer(weight("mixer.dynamics.D")),
    )
    if selective:
        dt_proj = weight("mixer.dynamics.dt_proj.weight")
        block.dt_rank = dt_proj.shape[1]
        block.dt_proj = pointer(dt_proj)
        block.dt_bias = pointer(weight("mixer.dynamics.dt_proj.bias"))
        block.x_proj = pointer(weight("mixer.dynamics.x_proj.weight"))
        block.A = pointer(-np.exp(weight("mixer.dynamics.A_log")))
    else:
        A, B = _discretise(weight, layer["discretization"])
        block.A, block.B = pointer(_interleave(A)), pointer(_interleave(B))
        block.C = pointer(weight("mixer.dynamics.C"))
    if layer["ffn"] > 0:
        ffn_in = weight("ffn.in_proj.weight")
        block.hidden = ffn_in.shape[0] // 2
        block.ffn_norm = pointer(weight("ffn_norm.weight"))
        block.ffn_in_proj = pointer(ffn_in)
        block.ffn_out_proj = pointer(weight("ffn.out_proj.weight"))
        block.ffn_conv_taps = layer["ffn_conv_taps"]
        if layer["ffn_conv_taps"]:
            block.ffn_conv_weight = pointer(weight("ffn.conv_weight"))
            block.ffn_conv_bias = pointer(weight("ffn.conv_bias"))
    return block


def _discretise(
    weight: Callable[[str], Floats], method: str
) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """The discrete A and B of an LTI layer, as kernels.lti defines them; B = 1 before."""
    A = -np.exp(weight("mixer.dynamics.A_log_real").astype(np.float64)) + 1j * weight(
        "mixer.dynamics.A_imag"
    ).astype(np.float64)
    dt = np.exp(weight("mixer.dynamics.log_dt").astype(np.float64))[:, None]
    if method == "bilinear":
        return (1 + dt * A / 2) / (1 - dt * A / 2), dt / (1 - dt * A / 2)
    return np.exp(dt * A), np.expm1(dt * A) / A


def _interleave(z: NDArray[np.complex128]) -> Floats:
    return np.stack([z.real, z.imag], -1).astype(np.float32)
