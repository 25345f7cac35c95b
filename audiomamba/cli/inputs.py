"""What ``transcribe`` is given: files, and standard input with or without a header."""

import io
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast, get_args

import numpy as np
from numpy.typing import NDArray

from audiomamba.audio.pcm import Encoding, PcmDecoder
from audiomamba.errors import AudioError, ConfigError

__all__ = ["STANDARD_INPUT", "Input", "Raw", "open_input"]

STANDARD_INPUT = "-"
BLOCK_S = 5.0
HEAD = 12  # bytes by which WAV is known
Blocks = Iterator[tuple[int, NDArray[np.float32]]]


@dataclass(frozen=True, slots=True)
class Raw:
    """Samples without a header: what a header would say.

    Raises:
        ConfigError: the encoding is not known, or a number is out of range.
    """

    encoding: str
    sample_rate: int
    channels: int

    def __post_init__(self) -> None:
        if self.encoding not in get_args(Encoding):
            known = ", ".join(get_args(Encoding))
            raise ConfigError(f"--raw: wanted one of {known}, got {self.encoding!r}")
        if not 8000 <= self.sample_rate <= 48_000:
            raise ConfigError(f"--rate: wanted 8000 to 48000 Hz, got {self.sample_rate}")
        if not 1 <= self.channels <= 8:
            raise ConfigError(f"--channels: wanted 1 to 8, got {self.channels}")

    def blocks(self, source: BinaryIO) -> Blocks:
        """Rate and samples, as soon as there are any."""
        decoder = PcmDecoder(cast(Encoding, self.encoding), self.channels)
        read = getattr(source, "read1", source.read)
        while data := read(1 << 18):
            if len(samples := decoder.feed(data)):
                yield self.sample_rate, samples


@dataclass(frozen=True, slots=True)
class Input:
    """Something to transcribe: its name, its length in seconds where that is known, its sound."""

    name: str
    seconds: float | None
    blocks: Blocks


def open_input(name: str, raw: Raw | None = None) -> Input:
    """A file, or standard input for ``-``; nothing is read of it but its head.

    Raises:
        AudioError: there is no such file, or it is not audio that can be read; where only its end
            is damaged, from ``blocks``.
    """
    if name == STANDARD_INPUT:
        source = sys.stdin.buffer
        return Input(name, None, raw.blocks(source) if raw else _unknown(source))
    if raw:
        size = Path(name).stat().st_size if Path(name).is_file() else 0
        frame = PcmDecoder(cast(Encoding, raw.encoding), raw.channels)
        seconds = size / frame.frame_bytes / raw.sample_rate
        return Input(name, seconds, _raw_file(name, raw))
    return Input(name, _seconds(name), _file(name))


def _file(name: str) -> Blocks:
    from audiomamba.audio import files

    yield from files.stream(name, BLOCK_S)


def _raw_file(name: str, raw: Raw) -> Blocks:
    try:
        with open(name, "rb") as file:
            yield from raw.blocks(file)
    except OSError as error:
        raise AudioError(f"{name}: {error.strerror}") from None


def _unknown(source: BinaryIO) -> Blocks:
    """Sound of any format; WAV is heard as it comes, other formats once they are whole."""
    from audiomamba.audio import files, wav_stream

    head = source.read(HEAD)
    if not head:
        raise AudioError("standard input: nothing came")
    if wav_stream.is_wav(head):
        yield from wav_stream.stream(cast(BinaryIO, _Rejoined(head, source)), BLOCK_S)
        return
    with tempfile.TemporaryFile() as whole:
        whole.write(head)
        while data := source.read(1 << 20):
            whole.write(data)
        whole.seek(0)
        try:
            yield from files.stream(cast(BinaryIO, whole), BLOCK_S)
        except AudioError:
            raise AudioError(
                "standard input: neither WAV nor another format that can be read; samples without "
                "a header want --raw ENCODING --rate HZ"
            ) from None


class _Rejoined:
    """A stream whose first bytes were read already."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head, self._rest = io.BytesIO(head), rest

    def read(self, count: int) -> bytes:
        return self._head.read(count) or self._rest.read(count)

    def read1(self, count: int) -> bytes:
        read = getattr(self._rest, "read1", self._rest.read)
        return self._head.read(count) or bytes(read(count))


def _seconds(name: str) -> float | None:
    """Length of a file by its header; None where that does not say, or cannot be read."""
    import soundfile

    try:
        info = soundfile.info(name)
    except (soundfile.LibsndfileError, RuntimeError):
        return None
    return float(info.duration) if 0 < info.frames < 1 << 40 else None
