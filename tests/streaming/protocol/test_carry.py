from hypothesis import given
from hypothesis import strategies as st

from audiomamba.streaming.protocol.carry import SampleCarry


@given(st.binary(max_size=200), st.lists(st.integers(0, 200)), st.integers(1, 32))
def test_any_cut_of_the_bytes_gives_the_same_samples(
    sent: bytes, cuts: list[int], frame_bytes: int
) -> None:
    carry = SampleCarry(frame_bytes)
    places = sorted({0, len(sent), *(cut for cut in cuts if cut <= len(sent))})
    pieces = [sent[a:b] for a, b in zip(places, places[1:], strict=False)]
    taken = [carry.take(piece) for piece in pieces]
    assert all(len(part) % frame_bytes == 0 for part in taken)
    assert b"".join(taken) == sent[: len(sent) - len(sent) % frame_bytes]
