"""WAV as it comes through a pipe: read in order, of a length that its header does not know.

libsndfile wants to seek, which a pipe cannot. Recorders that write to one put 0, 0xFFFFFFFF or
nearly 2 GiB where the length belongs; then the samples end where the stream does.

Source: Microsoft and IBM, "Multimedia Programming Interface and Data Specifications 1.0", 1991, and
Microsoft's WAVEFORMATEXTENSIBLE.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from audiomamba.audio.pcm import decode
from audiomamba.errors import AudioError

__all__ = ["is_wav", "stream"]

Samples = NDArray[np.float32]

PCM, FLOAT, ALAW, MULAW, EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
UNKNOWN_FROM = 0x7FFF0000  # a length of this or more is a recorder's "until the end"
MOST_HEADER = 1 << 20  # bytes of a chunk that is skipped or read as a header


@dataclass(frozen=True, slots=True)
class _Format:
    rate: int
    channels: int
    sample_bytes: int
    decode: Callable[[bytes], Samples]


def is_wav(head: bytes) -> bool:
    """Whether the first 12 bytes of a stream are those of a WAV file."""
    return head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE"


def stream(source: BinaryIO, block_s: float) -> Iterator[tuple[int, Samples]]:
    """Rate in Hz and blocks ``(n, channels)`` float32 of at most ``block_s`` seconds, in order.

    Blocks come as soon as the source has any samples, so that a recorder at its other end is
    heard at once.

    Raises:
        AudioError: not a WAV stream, of an encoding that is not known, or cut within its header.
    """
    if not is_wav(_exactly(source, 12)):
        raise AudioError("wants a WAV stream, which begins with RIFF and WAVE")
    wave: _Format | None = None
    while True:
        name, size = struct.unpack("<4sI", _exactly(source, 8))
        if name == b"data":
            break
        if size > MOST_HEADER:
            raise AudioError(f"WAV: chunk {name!r} of {size} bytes before the samples")
        body = _exactly(source, size + size % 2)  # chunks are padded to even lengths
        if name == b"fmt ":
            wave = _format(body)
    if wave is None:
        raise AudioError("WAV: samples come before their format")
    left = None if size == 0 or size >= UNKNOWN_FROM else size
    for data in _pieces(source, left, wave, block_s):
        yield wave.rate, wave.decode(data).reshape(-1, wave.channels)


def _pieces(source: BinaryIO, left: int | None, wave: _Format, block_s: float) -> Iterator[bytes]:
    """What follows, cut between frames; half a frame at the end is dropped."""
    frame = wave.channels * wave.sample_bytes
    most = max(1, round(block_s * wave.rate)) * frame
    read = getattr(source, "read1", source.read)  # what is there, rather than all that was asked
    rest = b""
    while left is None or left > 0:
        data = read(most if left is None else min(most, left))
        if not data:
            return
        if left is not None:
            left -= len(data)
        data = rest + data
        whole = len(data) - len(data) % frame
        rest = data[whole:]
        if whole:
            yield data[:whole]


def _format(body: bytes) -> _Format:
    if len(body) < 16:
        raise AudioError(f"WAV: format of {len(body)} bytes, wanted 16 or more")
    tag, channels, rate, _, _, bits = struct.unpack("<HHIIHH", body[:16])
    if tag == EXTENSIBLE and len(body) >= 26:
        (tag,) = struct.unpack("<H", body[24:26])
    decoder = _DECODERS.get((tag, bits))
    if decoder is None:
        raise AudioError(f"WAV: samples of format {tag} with {bits} bits cannot be read")
    if not channels or not rate:
        raise AudioError(f"WAV: {channels} channels at {rate} Hz")
    return _Format(rate, channels, bits // 8, decoder)


def _exactly(source: BinaryIO, count: int) -> bytes:
    data = source.read(count)
    while 0 < len(data) < count and (more := source.read(count - len(data))):
        data += more
    if len(data) < count:
        raise AudioError("WAV: the stream ends within its header")
    return data


def _unsigned8(data: bytes) -> Samples:
    return (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / np.float32(128)


def _signed24(data: bytes) -> Samples:
    parts = np.frombuffer(data, np.uint8).reshape(-1, 3)
    wide = np.zeros((len(parts), 4), np.uint8)
    wide[:, 1:] = parts  # the upper three bytes of a 32-bit integer keep the sign
    samples: Samples = wide.view("<i4")[:, 0].astype(np.float32) / np.float32(1 << 31)
    return samples


def _signed32(data: bytes) -> Samples:
    return np.frombuffer(data, "<i4").astype(np.float32) / np.float32(1 << 31)


def _float64(data: bytes) -> Samples:
    return decode(np.frombuffer(data, "<f8").astype("<f4").tobytes(), "float32")


_DECODERS: dict[tuple[int, int], Callable[[bytes], Samples]] = {
    (PCM, 8): _unsigned8,
    (PCM, 16): lambda data: decode(data, "linear16"),
    (PCM, 24): _signed24,
    (PCM, 32): _signed32,
    (FLOAT, 32): lambda data: decode(data, "float32"),
    (FLOAT, 64): _float64,
    (ALAW, 8): lambda data: decode(data, "alaw"),
    (MULAW, 8): lambda data: decode(data, "mulaw"),
}
