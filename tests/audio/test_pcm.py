import numpy as np
import pytest

from audiomamba.audio.pcm import Encoding, PcmDecoder, decode, encode, sample_bytes
from audiomamba.errors import AudioError

ENCODINGS: tuple[Encoding, ...] = ("linear16", "float32", "mulaw", "alaw")


def test_every_16_bit_sample_survives_the_round_trip() -> None:
    data = np.arange(-32768, 32768).astype("<i2").tobytes()
    assert encode(decode(data, "linear16"), "linear16") == data


@pytest.mark.parametrize("encoding", ["mulaw", "alaw"])
def test_every_g711_code_decodes_to_a_level_that_encodes_to_the_same_level(
    encoding: Encoding,
) -> None:
    levels = decode(bytes(range(256)), encoding)
    np.testing.assert_array_equal(decode(encode(levels, encoding), encoding), levels)


@pytest.mark.parametrize(
    ("encoding", "code", "level"),
    [
        ("mulaw", 0x80, 32124),
        ("mulaw", 0x00, -32124),
        ("mulaw", 0xFF, 0),
        ("mulaw", 0xFE, 8),
        ("alaw", 0xAA, 32256),
        ("alaw", 0x2A, -32256),
        ("alaw", 0xD5, 8),
        ("alaw", 0x55, -8),
    ],
)
def test_g711_levels_are_those_of_the_standard(encoding: Encoding, code: int, level: int) -> None:
    assert decode(bytes([code]), encoding)[0] * 32768 == level


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encoding_picks_the_nearest_level(encoding: Encoding) -> None:
    samples = np.random.default_rng(1).uniform(-0.95, 0.95, 2000).astype(np.float32)
    error = np.abs(decode(encode(samples, encoding), encoding) - samples)
    # G.711 has 16 steps an octave at least; half a step of the loudest one it is.
    step = {"linear16": 2.0**-15, "float32": 0.0}.get(encoding, np.abs(samples) / 16 + 2.0**-11)
    assert (error <= step).all()


def test_what_is_too_loud_is_clipped() -> None:
    loud = np.array([1.0, 3.0, -1.0, -3.0], np.float32)
    assert np.frombuffer(encode(loud, "linear16"), "<i2").tolist() == [32767, 32767, -32768, -32768]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_float_samples_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(AudioError, match="finite"):
        decode(np.array([0.0, value], "<f4").tobytes(), "float32")


def test_part_of_a_sample_is_refused() -> None:
    with pytest.raises(AudioError, match="multiple of 2 bytes, got 3"):
        decode(b"abc", "linear16")


def test_an_unknown_encoding_is_refused_with_those_there_are() -> None:
    with pytest.raises(AudioError, match="linear16, float32, mulaw, alaw"):
        sample_bytes("opus")  # type: ignore[arg-type]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("step", [1, 3, 7, 1000])
def test_a_decoder_does_not_care_where_bytes_are_cut(
    encoding: Encoding, channels: int, step: int
) -> None:
    samples = np.random.default_rng(2).uniform(-1, 1, 60 * channels).astype(np.float32)
    data = encode(samples, encoding)
    whole = PcmDecoder(encoding, channels).feed(data)
    decoder, parts = PcmDecoder(encoding, channels), []
    for at in range(0, len(data), step):
        parts.append(decoder.feed(data[at : at + step]))
        fresh = PcmDecoder(encoding, channels)
        fresh.load(decoder.state())
        decoder = fresh
    assert whole.shape == ((60,) if channels == 1 else (60, channels))
    np.testing.assert_array_equal(np.concatenate(parts), whole)
