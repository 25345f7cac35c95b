"""The neural language model that a search asks for the next piece: native, or PyTorch."""

import ctypes
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiomamba.errors import ModelError
from audiomamba.kernels import native
from audiomamba.models.checkpoint_files import digest, read_config, read_weights
from audiomamba.models.native_weights import (
    DYNAMICS,
    Floats,
    Pointers,
    Weights,
    describe_block,
)
from audiomamba.text.beam import PieceLanguage

__all__ = ["KIND", "NativePieceLanguage", "load_piece_language"]

KIND = "language"
"""``kind`` in the ``config.json`` of such a model."""


class NativePieceLanguage:
    """A :class:`~audiomamba.text.beam.PieceLanguage` on the native engine.

    Args:
        config: The ``model`` part of a checkpoint's ``config.json``.
        weights: Names and arrays of the checkpoint.
        fingerprint: Tells it from other models.

    Raises:
        BackendError: the engine was not built.
        ModelError: a weight is missing, or a size is not supported by the engine.
    """

    def __init__(self, config: Mapping[str, Any], weights: Weights, fingerprint: int) -> None:
        self._library = native.library()
        self.fingerprint = fingerprint
        self.vocabulary, width = int(config["vocabulary"]), int(config["stack"]["width"])
        keep: list[Floats] = []  # what the C side reads while it copies
        take = Pointers(weights, keep)
        layers = [layer for layer in config["stack"]["layers"] for _ in range(int(layer["count"]))]
        blocks = [
            describe_block(layer, width, take.under(f"stack.blocks.{i}."))
            for i, layer in enumerate(layers)
        ]
        described = native.Language(
            width=width,
            vocabulary=self.vocabulary,
            blocks=len(blocks),
            eps=config["stack"]["norm_eps"],
            int8=1,
            embedding=take("embedding.weight", self.vocabulary, width),
            norm=take("stack.norm.weight", width),
            block=(native.Block * len(blocks))(*blocks),
        )
        self.native: int | None = self._library.am_language_new(ctypes.byref(described))
        if not self.native:
            raise ModelError(f"native engine: {self._library.am_error().decode()}")
        self._floats = int(self._library.am_state_floats(self.native))

    def __del__(self) -> None:
        if getattr(self, "native", None):
            self._library.am_free(self.native)

    def init_state(self, rows: int) -> Floats:
        return np.zeros((rows, self._floats), np.float32)

    def next(self, pieces: NDArray[np.intp], states: Floats) -> Floats:
        rows = len(pieces)
        # Both are read, and states written, by address.
        assert states.shape == (rows, self._floats) and states.flags.c_contiguous
        assert rows == 0 or 0 <= pieces.min() <= pieces.max() < self.vocabulary
        first, stride = states.ctypes.data, states.strides[0]
        pointers = (ctypes.c_void_p * rows)(*(first + row * stride for row in range(rows)))
        codes = np.ascontiguousarray(pieces, np.intc)
        out = np.empty((rows, self.vocabulary), np.float32)
        self._library.am_language_next(
            self.native, codes.ctypes.data, rows, pointers, out.ctypes.data
        )
        return out


def load_piece_language(folder: Path, pieces: int) -> PieceLanguage:
    """Load a checkpoint folder; PyTorch runs it where the native engine cannot.

    Args:
        folder: Written by ``audiomamba.training.language``.
        pieces: Of the transcriber's vocabulary.

    Raises:
        ModelError: a file is missing or damaged, or the model is of another kind or vocabulary.
    """
    config = read_config(folder)
    if config.get("kind") != KIND:
        raise ModelError(f"{folder}: wants a language model, got kind {config.get('kind')!r}")
    try:
        model = config["model"]
        vocabulary, tied = model["vocabulary"], model["tie_embeddings"]
        known = all(layer["dynamics"] in DYNAMICS for layer in model["stack"]["layers"])
    except (KeyError, TypeError) as error:
        raise ModelError(f"{folder}/config.json: damaged (no {error})") from None
    if vocabulary != pieces:
        raise ModelError(f"{folder}: is over {vocabulary} pieces, the transcriber has {pieces}")
    fingerprint = zlib.crc32(digest(folder).encode())
    if known and tied and native.why_not() is None:
        return NativePieceLanguage(model, read_weights(folder), fingerprint)
    from audiomamba.models.torch_piece_language import TorchPieceLanguage  # late: imports torch

    return TorchPieceLanguage.from_folder(folder, fingerprint)
