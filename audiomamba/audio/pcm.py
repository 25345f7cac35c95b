"""Sample formats of the wire and of files without a header: bytes to float32 and back."""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from audiomamba.errors import AudioError

__all__ = ["Encoding", "PcmDecoder", "decode", "encode", "sample_bytes"]

Encoding = Literal["linear16", "float32", "mulaw", "alaw"]
Samples = NDArray[np.float32]

_BYTES = {"linear16": 2, "float32": 4, "mulaw": 1, "alaw": 1}
_LOUDEST = 8.0  # float32 beyond this is no audio in -1..1 with headroom: it is clipped


def sample_bytes(encoding: Encoding) -> int:
    """Bytes of one sample.

    Raises:
        AudioError: no such encoding.
    """
    if encoding not in _BYTES:
        known = ", ".join(get_args(Encoding))
        raise AudioError(f"encoding {encoding!r} is not known; there are {known}")
    return _BYTES[encoding]


def _mulaw_table() -> Samples:
    """ITU-T G.711 table 2a, byte to sample in -1..1."""
    code = ~np.arange(256, dtype=np.uint8)
    exponent, mantissa = (code >> 4) & 7, code & 15
    magnitude = (((mantissa.astype(np.int32) << 3) + 0x84) << exponent) - 0x84
    table: Samples = (np.where(code & 0x80, -magnitude, magnitude) / 32768).astype(np.float32)
    return table


def _alaw_table() -> Samples:
    """ITU-T G.711 table 1a, byte to sample in -1..1."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent, mantissa = ((code >> 4) & 7).astype(np.int32), (code & 15).astype(np.int32)
    low = (mantissa << 4) + 8
    magnitude = np.where(exponent == 0, low, (low + 0x100) << np.maximum(exponent - 1, 0))
    table: Samples = (np.where(code & 0x80, magnitude, -magnitude) / 32768).astype(np.float32)
    return table


_TABLES = {"mulaw": _mulaw_table(), "alaw": _alaw_table()}


def decode(data: bytes, encoding: Encoding) -> Samples:
    """Little-endian samples to float32 in -1..1.

    Raises:
        AudioError: an unknown encoding, part of a sample, or float samples that are not finite.
    """
    size = sample_bytes(encoding)
    if len(data) % size:
        raise AudioError(f"{encoding}: wants a multiple of {size} bytes, got {len(data)}")
    if encoding == "linear16":
        return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)
    if encoding == "float32":
        samples = np.frombuffer(data, "<f4").astype(np.float32)
        if not np.isfinite(samples).all():
            raise AudioError("float32: samples must be finite, got NaN or infinity")
        return np.clip(samples, -_LOUDEST, _LOUDEST)
    return _TABLES[encoding][np.frombuffer(data, np.uint8)]


def encode(samples: Samples, encoding: Encoding) -> bytes:
    """Float32 in -1..1 to little-endian samples; what is louder is clipped."""
    sample_bytes(encoding)
    clipped = np.clip(samples, -1.0, 1.0)
    if encoding == "linear16":
        # The scale of decode, so that a round trip is exact; +1.0 is one step too loud for it.
        return np.minimum(np.rint(clipped * 32768), 32767).astype("<i2").tobytes()
    if encoding == "float32":
        return np.asarray(samples, "<f4").tobytes()
    table = _TABLES[encoding]
    order = np.argsort(table, kind="stable")
    edges = (table[order][1:] + table[order][:-1]) / 2
    return order[np.searchsorted(edges, clipped)].astype(np.uint8).tobytes()


class PcmDecoder:
    """Decodes a stream of byte strings of any length; a split sample waits for its other half."""

    def __init__(self, encoding: Encoding, channels: int = 1) -> None:
        self.encoding, self.channels = encoding, channels
        self.frame_bytes = sample_bytes(encoding) * channels
        self._rest = b""

    def feed(self, data: bytes) -> Samples:
        """The samples that are whole now: ``(n,)``, or ``(n, channels)`` of several channels.

        Raises:
            AudioError: as of ``decode``; the bytes of that call are lost, no others.
        """
        data = self._rest + data
        whole = len(data) - len(data) % self.frame_bytes
        self._rest = data[whole:]
        samples = decode(data[:whole], self.encoding)
        return samples if self.channels == 1 else samples.reshape(-1, self.channels)

    def state(self) -> dict[str, bytes]:
        """All that is needed to go on elsewhere."""
        return {"rest": self._rest}

    def load(self, state: dict[str, bytes]) -> None:
        """Go on from a state."""
        self._rest = state["rest"]
