"""Arguments of the native library's ops over whole sequences, as src/audiomamba.h has them."""

from ctypes import Structure, c_int, c_longlong, c_void_p

__all__ = ["Conv", "ConvGradients", "Lti", "LtiGradients", "Scan", "ScanGradients", "Sequence"]


class Sequence(Structure):
    """``am_sequence`` of src/audiomamba.h."""

    _fields_ = [
        ("at", c_void_p),
        *((name, c_longlong) for name in ("row", "step", "channel")),
    ]


class Scan(Structure):
    """``am_scan`` of src/audiomamba.h."""

    _fields_ = [
        *((name, c_longlong) for name in ("rows", "steps", "channels")),
        *((name, c_int) for name in ("groups", "states", "softplus", "reverse", "threads")),
        *((name, Sequence) for name in ("u", "delta", "z", "B", "C")),
        *((name, c_void_p) for name in (
            "A", "D", "delta_bias", "initial", "resets", "checkpoints",
        )),
        ("checkpoint_row", c_longlong),
    ]  # fmt: skip


class ScanGradients(Structure):
    """``am_scan_gradients`` of src/audiomamba.h."""

    _fields_ = [
        *((name, Sequence) for name in ("dout", "du", "ddelta", "dz")),
        *((name, c_void_p) for name in (
            "dlast", "dA", "dB", "dC", "dD", "dbias", "dinitial",
        )),
    ]  # fmt: skip


class Conv(Structure):
    """``am_conv`` of src/audiomamba.h."""

    _fields_ = [
        *((name, c_longlong) for name in ("rows", "steps", "channels")),
        *((name, c_int) for name in ("taps", "silu", "reverse", "threads")),
        *((name, Sequence) for name in ("x", "initial")),
        *((name, c_void_p) for name in ("weight", "bias", "resets")),
    ]


class ConvGradients(Structure):
    """``am_conv_gradients`` of src/audiomamba.h."""

    _fields_ = [
        *((name, Sequence) for name in ("dy", "dlast", "dx", "dinitial")),
        *((name, c_void_p) for name in ("dweight", "dbias")),
    ]


class Lti(Structure):
    """``am_lti`` of src/audiomamba.h."""

    _fields_ = [
        *((name, c_longlong) for name in ("rows", "steps", "channels")),
        *((name, c_int) for name in ("pairs", "threads")),
        ("u", Sequence),
        *((name, c_void_p) for name in ("a", "b", "c", "skip", "initial", "resets")),
    ]


class LtiGradients(Structure):
    """``am_lti_gradients`` of src/audiomamba.h."""

    _fields_ = [
        *((name, Sequence) for name in ("dy", "du")),
        *((name, c_void_p) for name in ("dlast", "da", "db", "dc", "dskip", "dinitial")),
    ]
