"""The native engine: a small C++ library with a C interface, loaded by ctypes.

Nothing here needs torch or numpy. ``library()`` finds the library that was compiled when the
package was installed; where there is none, ``why_not()`` says so in a line.
"""

import ctypes
from functools import lru_cache
from pathlib import Path
from typing import Any

from audiomamba.errors import BackendError
from audiomamba.kernels.native.sequences import (
    Conv,
    ConvGradients,
    Lti,
    LtiGradients,
    Scan,
    ScanGradients,
    Sequence,
)

__all__ = [
    "LIBRARY",
    "BeamWidths",
    "Block",
    "Conv",
    "ConvGradients",
    "Heard",
    "Hypothesis",
    "Language",
    "Lti",
    "LtiGradients",
    "Ngrams",
    "Rate",
    "Sampling",
    "Scan",
    "ScanGradients",
    "Sequence",
    "Transcriber",
    "Wave",
    "library",
    "why_not",
]

LIBRARY = Path(__file__).parent / "libaudiomamba.so"

_FLOATS = ctypes.POINTER(ctypes.c_float)


class Block(ctypes.Structure):
    """``am_block`` of src/audiomamba.h."""

    _fields_ = [
        *((name, ctypes.c_int) for name in (
            "selective", "channels", "states", "conv_taps", "dt_rank", "hidden", "ffn_conv_taps",
            "ahead_taps",
        )),
        *((name, _FLOATS) for name in (
            "norm", "in_proj", "conv_weight", "conv_bias", "out_proj",
            "x_proj", "dt_proj", "dt_bias", "A", "B", "C", "D",
            "ahead_weight", "ahead_rest",
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
        ("ends", ctypes.c_int),
        *((name, _FLOATS) for name in ("ends_weight", "ends_bias")),
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


class Language(ctypes.Structure):
    """``am_language`` of src/audiomamba.h."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("width", "vocabulary", "blocks")),
        ("eps", ctypes.c_float),
        ("int8", ctypes.c_int),
        *((name, _FLOATS) for name in ("embedding", "norm")),
        ("block", ctypes.POINTER(Block)),
    ]


class Sampling(ctypes.Structure):
    """``am_sampling`` of src/audiomamba.h."""

    _fields_ = [(name, ctypes.c_float) for name in ("temperature", "top_p", "guidance")]


class Ngrams(ctypes.Structure):
    """``am_ngrams`` of src/audiomamba.h."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in (
            "keys", "suffixes", "has_children", "log_prob_codes", "backoff_codes",
            "log_probs", "backoffs",
        )),
        *((name, ctypes.c_longlong) for name in ("nodes", "start")),
        *((name, ctypes.c_int) for name in ("wide", "vocabulary")),
    ]  # fmt: skip


class BeamWidths(ctypes.Structure):
    """``am_beam_config`` of src/audiomamba.h."""

    _fields_ = [
        *((name, ctypes.c_double) for name in (
            "weight", "neural_weight", "piece_margin", "margin",
        )),
        *((name, ctypes.c_int) for name in ("beam", "candidates")),
    ]  # fmt: skip


class Heard(ctypes.Structure):
    """``am_heard`` of src/audiomamba.h."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("piece", "first", "last", "depth")),
        ("score", ctypes.c_double),
    ]


class Hypothesis(ctypes.Structure):
    """``am_hypothesis`` of src/audiomamba.h."""

    _fields_ = [
        ("node", ctypes.c_int),
        ("context", ctypes.c_longlong),
        *((name, ctypes.c_double) for name in ("blank", "piece", "fused")),
    ]


def why_not() -> str | None:
    """Why the native engine cannot run here, in a line; None where it can."""
    return found if isinstance(found := _found(), str) else None


def library() -> ctypes.CDLL:
    """The loaded library, its functions typed.

    Raises:
        BackendError: it was not built, or does not load here.
    """
    if isinstance(found := _found(), str):
        raise BackendError(found)
    return found


@lru_cache(maxsize=1)
def _found() -> ctypes.CDLL | str:
    """The library, or why there is none."""
    build = "python -m audiomamba.kernels.native.build"
    if not LIBRARY.is_file():
        return f"the native engine was not built (no C++ compiler at installation?): {build}"
    try:
        return _typed(ctypes.CDLL(str(LIBRARY)))
    except OSError as error:
        return f"the native engine does not load: {error}"
    except AttributeError as error:  # a function is missing
        return f"the native engine was built for another version ({error}): {build}"


def _typed(lib: ctypes.CDLL) -> ctypes.CDLL:
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
    lib.am_language_new.argtypes = [ctypes.POINTER(Language)]
    lib.am_language_new.restype = ctypes.c_void_p
    lib.am_language_next.argtypes = [
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_void_p,
    ]
    lib.am_language_next.restype = None
    _type_sequences(lib)
    _type_beam(lib)
    return lib


def _type_sequences(lib: ctypes.CDLL) -> None:
    sequence = ctypes.POINTER(Sequence)
    for name, call, gradients, results in (
        ("scan", Scan, ScanGradients, [sequence, ctypes.c_void_p]),
        ("conv", Conv, ConvGradients, [sequence, sequence]),
        ("lti", Lti, LtiGradients, [sequence, ctypes.c_void_p]),
    ):
        forward, backward = (getattr(lib, f"am_{name}_{way}") for way in ("forward", "backward"))
        forward.argtypes = [ctypes.POINTER(call), *results]
        backward.argtypes = [ctypes.POINTER(call), ctypes.POINTER(gradients)]
        forward.restype = backward.restype = None


def _type_beam(lib: ctypes.CDLL) -> None:
    beam, ints = ctypes.c_void_p, ctypes.POINTER(ctypes.c_int)
    heard, hypotheses = ctypes.POINTER(Heard), ctypes.POINTER(Hypothesis)
    lib.am_ngrams_link.argtypes = [
        ctypes.c_void_p,
        ctypes.c_longlong,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_void_p,
    ]
    lib.am_ngrams_link.restype = None
    lib.am_beam_new.argtypes = [
        ctypes.POINTER(Ngrams),
        ctypes.c_void_p,
        ctypes.POINTER(BeamWidths),
        ctypes.c_void_p,
    ]
    lib.am_beam_new.restype = beam
    signatures: dict[str, tuple[list[Any], Any]] = {
        "free": ([], None),
        "restart": ([], None),
        "rest": ([], None),
        "step": ([ctypes.c_void_p, ctypes.c_int], None),
        "empty": ([], ctypes.c_int),
        "last_heard": ([], ctypes.c_int),
        "path": ([heard, ctypes.c_int], ctypes.c_int),
        "shared": ([], ctypes.c_int),
        "keep_only": ([ctypes.c_int], None),
        "settle": ([ctypes.c_int], None),
        "save": ([heard, ints, ctypes.c_int, hypotheses, ints], ctypes.c_int),
        "said": ([ints, ctypes.c_int], ctypes.c_int),
        "load": (
            [heard, ints, ctypes.c_int, hypotheses, ctypes.c_int, ints, ctypes.c_int],
            None,
        ),
    }
    for name, (arguments, result) in signatures.items():
        function = getattr(lib, f"am_beam_{name}")
        function.argtypes, function.restype = [beam, *arguments], result
