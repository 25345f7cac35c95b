"""WAV through a pipe: what libsndfile wrote is read alike, whatever the header says of its end."""

import io
import struct
from typing import Any

import numpy as np
import pytest
import soundfile

from audiomamba.audio import wav_stream
from audiomamba.errors import AudioError

RATE = 22_050
SUBTYPES = ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"]


class Pipe:
    """Bytes in pieces of any size, without a way back."""

    def __init__(self, data: bytes, seed: int = 0) -> None:
        self._data, self._rng = io.BytesIO(data), np.random.default_rng(seed)

    def read(self, count: int) -> bytes:
        return self._data.read(int(self._rng.integers(1, count + 1)))


def written(subtype: str = "PCM_16", channels: int = 2, form: str = "WAV") -> bytes:
    samples = np.random.default_rng(1).uniform(-0.9, 0.9, (1001, channels))
    out = io.BytesIO()
    soundfile.write(out, samples, RATE, subtype, format=form)
    return out.getvalue()


def streamed(data: bytes) -> "np.ndarray[Any, Any]":
    blocks = list(wav_stream.stream(Pipe(data), 0.01))  # type: ignore[arg-type]
    assert all(rate == RATE and len(block) <= round(RATE * 0.01) for rate, block in blocks)
    return np.concatenate([block for _, block in blocks])


def with_length(data: bytes, length: int) -> bytes:
    """The file with ``length`` written where its header tells how many bytes of samples follow."""
    at = data.index(b"data") + 4
    return data[:at] + struct.pack("<I", length) + data[at + 4 :]


@pytest.mark.parametrize("form", ["WAV", "WAVEX"])
@pytest.mark.parametrize("subtype", SUBTYPES)
def test_a_pipe_is_read_as_the_file_would_be(subtype: str, form: str) -> None:
    data = written(subtype, form=form)
    want, _ = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    np.testing.assert_allclose(streamed(data), want, atol=1e-7)


@pytest.mark.parametrize("length", [0, 0x7FFFF000, 0xFFFFFFFF, 0x7FFF0000])
def test_a_length_that_is_not_known_means_until_the_end(length: int) -> None:
    data = written()
    np.testing.assert_array_equal(streamed(with_length(data, length)), streamed(data))


def test_what_follows_the_samples_is_not_sound() -> None:
    data = written("PCM_16", 1)
    np.testing.assert_array_equal(streamed(data + b"LIST" + bytes(64)), streamed(data))


def test_chunks_before_the_samples_are_passed_over() -> None:
    data = written()
    more = data[:12] + b"LIST" + struct.pack("<I", 5) + b"abcde\0" + data[12:]
    np.testing.assert_array_equal(streamed(more), streamed(data))


def test_half_a_frame_at_the_end_is_dropped() -> None:
    data = with_length(written(), 0xFFFFFFFF)
    np.testing.assert_array_equal(streamed(data[:-3]), streamed(data)[:-1])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "ends within its header"),
        (b"OggS" + bytes(60), "wants a WAV stream"),
        (written()[:30], "ends within its header"),
        (written().replace(b"fmt ", b"junk"), "before their format"),
        (written()[:20] + b"\x55" + written()[21:], "format 85 with 16 bits"),
        (written()[:16] + struct.pack("<I", 1 << 30) + written()[20:], "1073741824 bytes"),
    ],
    ids=["empty", "ogg", "cut", "no format", "mp3 inside", "absurd chunk"],
)
def test_what_is_no_wav_is_refused_in_words(data: bytes, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        list(wav_stream.stream(io.BytesIO(data), 1.0))
