import itertools
import json

import numpy as np
import pytest

from audiomamba.streaming.client.outbox import Outbox


def drain(outbox: Outbox) -> list[bytes | str]:
    return list(iter(outbox.next, None))


def audio(messages: list[bytes | str]) -> bytes:
    return b"".join(m for m in messages if isinstance(m, bytes))


def test_any_chunking_gives_the_same_bytes_and_only_whole_samples() -> None:
    rng = np.random.default_rng(0)
    samples = rng.bytes(4 * 5000)
    cuts = sorted(rng.integers(0, len(samples), 300))
    outbox = Outbox(frame_bytes=4, capacity=100_000, message_bytes=600)
    for lo, hi in itertools.pairwise([0, *cuts, len(samples)]):
        outbox.feed(samples[lo:hi])
    messages = drain(outbox)
    assert audio(messages) == samples
    assert all(len(m) % 4 == 0 and 0 < len(m) <= 600 for m in messages)
    assert outbox.sent == outbox.end == 5000


def test_marks_keep_their_place_between_samples() -> None:
    outbox = Outbox(2, 1000)
    outbox.feed(b"aabb")
    outbox.flush("one")
    outbox.feed(b"cc")
    outbox.gap(7)
    outbox.finish()
    assert drain(outbox) == [
        b"aabb",
        json.dumps({"type": "flush", "id": "one"}),
        b"cc",
        json.dumps({"type": "gap", "samples": 7}),
        json.dumps({"type": "finish"}),
    ]


def test_a_rewind_sends_again_from_that_sample() -> None:
    outbox = Outbox(2, 1000)
    outbox.feed(b"aabbccdd")
    outbox.flush("open")
    outbox.flush("answered")
    outbox.finish()
    drain(outbox)
    outbox.flushed("answered")
    assert outbox.rewind(1) == 0
    messages = drain(outbox)
    assert audio(messages) == b"bbccdd"
    assert [json.loads(m)["type"] for m in messages if isinstance(m, str)] == ["flush", "finish"]


def test_samples_that_are_gone_become_silence_of_the_same_length() -> None:
    outbox = Outbox(2, capacity=4, message_bytes=4)
    for _ in range(10):
        outbox.feed(b"aabb")
        drain(outbox)
    assert outbox.kept_from == 16
    assert outbox.rewind(10) == 6
    assert outbox.next() == json.dumps({"type": "gap", "samples": 6})
    assert audio(drain(outbox)) == b"aabb" * 2
    assert outbox.sent == 20


def test_memory_is_bounded_once_audio_is_sent() -> None:
    outbox = Outbox(2, capacity=100)
    for _ in range(1000):
        outbox.feed(b"x" * 20)
        drain(outbox)
    assert outbox.end - outbox.kept_from <= 100


def test_unsent_samples_are_never_dropped() -> None:
    outbox = Outbox(2, capacity=10)
    outbox.feed(b"xy" * 50)
    assert audio(drain(outbox)) == b"xy" * 50


@pytest.mark.parametrize("sample", [0, 3, 5])
def test_what_is_acknowledged_is_forgotten(sample: int) -> None:
    outbox = Outbox(2, capacity=1000, message_bytes=2)
    outbox.feed(b"aabbccddee")
    drain(outbox)
    outbox.forget(sample)
    assert outbox.kept_from == sample


def test_what_was_not_sent_is_not_forgotten() -> None:
    outbox = Outbox(2, capacity=1000)
    outbox.feed(b"aabb")
    outbox.forget(2)
    assert audio(drain(outbox)) == b"aabb"
