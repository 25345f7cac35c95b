"""WAV files that are whole at every moment: sound is added, then the header says so.

Whoever dies between the two leaves a file whose header counts less than there is, which every
reader takes for a whole recording with something after it.
"""

import os
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audiomamba.audio.pcm import encode
from audiomamba.errors import AudioError

__all__ = ["MOST_SAMPLES", "WavWriter"]

Samples = NDArray[np.float32]

_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")
_BYTES = 2  # a sample: 16 bits
MOST_SAMPLES = (2**32 - 1 - _HEADER.size) // _BYTES
"""The header counts bytes in 32 bits: 37 hours at 16 kHz."""


class WavWriter:
    """Mono, 16 bits, in constant memory. Use it as a context manager.

    Args:
        path: The file.
        sample_rate: Hz.
        keep: Samples of an existing file to go on after; None begins a new file.

    Raises:
        AudioError: the file to go on with is not one of ours, or holds fewer samples.
        OSError: it cannot be written.
    """

    def __init__(self, path: Path, sample_rate: int, *, keep: int | None = None) -> None:
        self.path, self.sample_rate = path, sample_rate
        if keep is None:
            self._file = path.open("wb", buffering=0)
            self.samples = 0
            self._write_header()
        else:
            self._check(keep)
            self._file = path.open("r+b", buffering=0)
            self.samples = keep
            self._file.truncate(_HEADER.size + keep * _BYTES)
            self._write_header()

    def write(self, samples: Samples) -> None:
        """Add samples ``(n,)`` in -1..1.

        Raises:
            OSError: the disk is full, for example; the file keeps all that was written before.
            AudioError: the file would be longer than a WAV can be.
        """
        if self.samples + len(samples) > MOST_SAMPLES:
            raise AudioError(f"{self.path}: a WAV holds {MOST_SAMPLES} samples at most")
        self._file.seek(_HEADER.size + self.samples * _BYTES)
        rest = memoryview(encode(samples, "linear16"))
        while rest:
            rest = rest[self._file.write(rest) :]
        self.samples += len(samples)
        self._write_header()

    def close(self) -> None:
        """Leave the file as long as its header says."""
        if self._file.closed:
            return
        self._file.truncate(_HEADER.size + self.samples * _BYTES)
        self._file.close()

    def __enter__(self) -> "WavWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _write_header(self) -> None:
        # In one call of 44 bytes at the start of a block that exists: no room is needed for it.
        os.pwrite(self._file.fileno(), _header(self.samples, self.sample_rate), 0)

    def _check(self, keep: int) -> None:
        with self.path.open("rb") as file:
            head = file.read(_HEADER.size)
        if len(head) < _HEADER.size or head[:4] != b"RIFF":
            raise AudioError(f"{self.path}: cannot be gone on with, it is no WAV of ours")
        (*_, rate, _, _, bits, _, held) = _HEADER.unpack(head)
        if (rate, bits) != (self.sample_rate, 8 * _BYTES):
            raise AudioError(
                f"{self.path}: is at {rate} Hz and {bits} bits, wants {self.sample_rate} and 16"
            )
        if held // _BYTES < keep:
            raise AudioError(f"{self.path}: holds {held // _BYTES} samples, wants at least {keep}")


def _header(samples: int, rate: int) -> bytes:
    held = samples * _BYTES
    return _HEADER.pack(
        b"RIFF", _HEADER.size - 8 + held, b"WAVE", b"fmt ", 16, 1, 1, rate, rate * _BYTES, _BYTES,
        8 * _BYTES, b"data", held,
    )  # fmt: skip
