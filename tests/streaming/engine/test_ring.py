import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiomamba.errors import Overloaded
from audiomamba.streaming.engine.ring import MAX_COMMANDS, InputRing, Silence, Skip


@given(st.lists(st.binary(max_size=40), max_size=20), st.integers(1, 9))
def test_what_goes_in_comes_out_in_order(pieces: list[bytes], step: int) -> None:
    ring = InputRing(capacity=10_000, frame_bytes=1)
    for piece in pieces:
        assert ring.offer(piece) == len(piece)
    out = b""
    while (item := ring.take(step)) is not None:
        assert isinstance(item, bytes) and 0 < len(item) <= step
        out += item
    assert out == b"".join(pieces)
    assert ring.held == 0


def test_a_full_ring_takes_only_whole_samples_it_has_room_for() -> None:
    ring = InputRing(capacity=3, frame_bytes=2)
    assert ring.offer(b"12345678") == 6
    assert ring.offer(b"9") == 0
    assert ring.take(1) == b"12"
    assert ring.offer(b"90ab") == 2


def test_requests_keep_their_place_in_the_audio() -> None:
    ring = InputRing(capacity=10, frame_bytes=1)
    ring.offer(b"ab")
    ring.put("flush")
    ring.offer(b"cd")
    assert [ring.take(8) for _ in range(4)] == [b"ab", "flush", b"cd", None]


def test_silence_is_taken_in_pieces() -> None:
    ring = InputRing(capacity=10, frame_bytes=1)
    ring.put(Silence(5))
    assert [ring.take(2) for _ in range(4)] == [Silence(2), Silence(2), Silence(1), None]


def test_dropped_audio_leaves_a_skip_of_its_length() -> None:
    ring = InputRing(capacity=4, frame_bytes=1)
    ring.offer(b"abcd")
    assert ring.drop_oldest(1) == 1
    assert ring.drop_oldest(2) == 2
    assert ring.held == 1
    assert [ring.take(9) for _ in range(3)] == [Skip(3, lost=True), b"d", None]


def test_dropping_all_of_an_item_leaves_what_comes_after() -> None:
    ring = InputRing(capacity=4, frame_bytes=1)
    ring.offer(b"ab")
    ring.put("flush")
    assert ring.drop_oldest(9) == 2
    assert ring.drop_oldest(9) == 0
    assert [ring.take(9) for _ in range(3)] == [Skip(2, lost=True), "flush", None]


def test_the_number_of_waiting_requests_is_bounded() -> None:
    ring = InputRing(capacity=4, frame_bytes=1)
    for _ in range(MAX_COMMANDS):
        ring.put("flush")
    with pytest.raises(Overloaded):
        ring.put("flush")


def test_one_sample_frames_cost_no_more_memory_than_large_ones() -> None:
    ring = InputRing(capacity=100_000, frame_bytes=2)
    for _ in range(100_000):
        ring.offer(b"ab")
    assert len(ring._items) == 1


def test_audio_is_lacking_until_it_is_there_or_something_else_is_or_no_room_for_it() -> None:
    ring = InputRing(capacity=10, frame_bytes=2)
    assert ring.lacks(4)
    ring.offer(b"123456")
    assert ring.lacks(4) and not ring.lacks(3)
    ring.offer(bytes(14))
    assert not ring.lacks(99)  # it is full: waiting would be for ever
    ring.take(9)
    assert ring.lacks(2)
    ring.put("finish")
    assert not ring.lacks(2)
