"""The native engine: a small C++ library with a C interface, loaded by ctypes.

Nothing here needs torch or numpy. ``library()`` finds the library that was compiled when the
package was installed; where there is none, ``why_not()`` says so in a line.
"""

import ctypes
from functools import lru_cache
from pathlib import Path

from audiomamba.errors import BackendError

__all__ = ["LIBRARY", "Block", "Rate", "Sampling", "Transcriber", "Wave", "library", "why_not"]

LIBRARY = Path(__file__).parent / "libaudiomamba.so"

_FLOATS = ctypes.POINTER(ctypes.c_float)


class Block(ctypes.Structure):
    """``am_block`` of src/audiomamba.h."""

    _fields_ = [
        *((name, ctypes.c_int) for name in (
            "selective", "channels", "states", "conv_taps", "dt_rank", "hidden", "ffn_conv_taps",
        )),
        *((name, _FLOATS) for name in (
            "norm", "in_proj", "conv_weight", "conv_bias", "out_proj",
            "x_proj", "dt_proj", "dt_bias", "A", "B", "C", "D",
            "ffn_norm", "ffn_in_proj", "ffn_conv_weight", "ffn_conv_bias", "ffn_out_proj",
        )),
    ]  # fmt: skip


class Transcriber(ctypes.Structure):
    """``am_transcriber`` of src/audiomamba.h."""

    _fields_ = [
        ("bins", ctypes.c_int),
        ("channels", ctypes.c_int * 2),
        ("width", ctypes.c_int),
        ("vocabulary", ctypes.c_int),
        ("blocks", ctypes.c_int),
        ("eps", ctypes.c_float),
        ("int8", ctypes.c_int),
        *((name, _FLOATS) for name in (
            "mel_mean", "mel_scale", "first_weight", "first_bias", "second_weight", "second_bias",
            "project_weight", "project_bias", "norm", "out_weight", "out_bias",
        )),
        ("block", ctypes.POINTER(Block)),
    ]  # fmt: skip


class Rate(ctypes.Structure):
    """``am_rate`` of src/audiomamba.h."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("width", "pool", "blocks")),
        *((name, ctypes.POINTER(Block)) for name in ("down", "up")),
        *((name, _FLOATS) for name in (
            "shrink_weight", "shrink_bias", "grow_weight", "grow_bias",
        )),
    ]  # fmt: skip


class Wave(ctypes.Structure):
    """``am_wave`` of src/audiomamba.h."""

    _fields_ = [
        ("rates", ctypes.c_int),
        ("condition", ctypes.c_int),
        ("eps", ctypes.c_float),
        ("int8", ctypes.c_int),
        *((name, _FLOATS) for name in ("embedding", "norm", "head_weight", "head_bias")),
        ("rate", ctypes.POINTER(Rate)),
    ]


class Sampling(ctypes.Structure):
    """``am_sampling`` of src/audiomamba.h."""

    _fields_ = [(name, ctypes.c_float) for name in ("temperature", "top_p", "guidance")]


def why_not() -> str | None:
    """Why the native engine cannot run here, in a line; None where it can."""
    if not LIBRARY.is_file():
        return (
            "the native engine was not built (no C++ compiler at installation?): "
            "python -m audiomamba.kernels.native.build"
        )
    return None


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL:
    """The loaded library, its functions typed.

    Raises:
        BackendError: it was not built, or does not load here.
    """
    if (reason := why_not()) is not None:
        raise BackendError(reason)
    try:
        lib = ctypes.CDLL(str(LIBRARY))
    except OSError as error:
        raise BackendError(f"the native engine does not load: {error}") from None
    lib.am_transcriber_new.argtypes = [ctypes.POINTER(Transcriber)]
    lib.am_transcriber_new.restype = ctypes.c_void_p
    lib.am_transcriber_add.argtypes = [ctypes.c_void_p, ctypes.POINTER(Block)]
    lib.am_transcriber_add.restype = ctypes.c_int
    lib.am_free.argtypes = [ctypes.c_void_p]
    lib.am_free.restype = None
    lib.am_error.restype = ctypes.c_char_p
    lib.am_instruction_set.restype = ctypes.c_char_p
    lib.am_state_floats.argtypes = [ctypes.c_void_p]
    lib.am_state_floats.restype = ctypes.c_size_t
    lib.am_transcribe.argtypes = [
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_void_p,
    ]
    lib.am_transcribe.restype = None
    lib.am_wave_new.argtypes = [ctypes.POINTER(Wave)]
    lib.am_wave_new.restype = ctypes.c_void_p
    lib.am_wave_feed.argtypes = [
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_void_p,
    ]
    lib.am_wave_feed.restype = None
    lib.am_wave_draw.argtypes = [
        ctypes.c_void_p,
        ctypes.POINTER(Sampling),
        ctypes.c_void_p,
        ctypes.c_int,
        ctypes.c_int,
        *[ctypes.c_void_p] * 4,
    ]
    lib.am_wave_draw.restype = None
    return lib
