"""Recordings over v1: asked for, paid for with credit, cancelled; sound in binary frames."""

import json
import struct
from typing import Any

import pytest

from audiomamba.streaming.protocol import Close, events, requests
from audiomamba.streaming.protocol.v1 import Machine, State
from tests.streaming.protocol.test_v1 import READY, check, said

SOUND = events.Sound(1, 8000, "linear16", 640, 320, bytes(640), last=True)


def started(task: str = "generate") -> Machine:
    machine = Machine(0.0)
    machine.receive(json.dumps({"type": "start", "task": task}), 0.0)
    machine.opened(READY, 0.0)
    machine.outgoing()
    return machine


def ask(machine: Machine, **fields: Any) -> list[requests.Request]:
    message = json.dumps({"type": "generate", "id": "a", **fields})
    check("client", message)
    return machine.receive(message, 0.0)


def codes(machine: Machine) -> list[str]:
    return [event["code"] for event in said(machine) if event["type"] == "error"]


def test_what_is_asked_for_is_read_with_its_defaults() -> None:
    [request] = ask(started(), input={"label": "seven"}, seed=4, pace="realtime")
    assert isinstance(request, requests.Generate)
    asked = request.settings
    assert (asked.id, asked.label, asked.seed, asked.pace) == ("a", "seven", 4, "realtime")
    assert (asked.credit_s, asked.max_s, asked.sample_rate, asked.temperature) == (
        10,
        10,
        None,
        None,
    )


@pytest.mark.parametrize(
    ("given", "credit_s"), [({}, 10.0), ({"credit_s": None}, None), ({"credit_s": 2}, 2.0)]
)
def test_no_credit_is_not_the_same_as_any(given: dict[str, Any], credit_s: float | None) -> None:
    [request] = ask(started(), **given)
    assert isinstance(request, requests.Generate) and request.settings.credit_s == credit_s


@pytest.mark.parametrize(
    "wrong",
    [{"id": ""}, {"id": 3}, {"max_s": 0}, {"seed": -1}, {"top_p": 0}, {"pace": "slow"},
     {"audio": {"encoding": "mp3"}}, {"audio": {"sample_rate": 1}},
     {"input": {"prompt": "stream"}}],
    ids=str,
)  # fmt: skip
def test_a_wrong_wish_is_refused_and_the_stream_goes_on(wrong: dict[str, Any]) -> None:
    machine = started()
    assert machine.receive(json.dumps({"type": "generate", "id": "a", **wrong}), 0.0) == []
    assert codes(machine) == ["bad_value"] and machine.state is State.RUN


def test_sound_goes_out_with_its_header() -> None:
    machine = started()
    ask(machine)
    machine.emit(events.GenerationStart("a", 1, 8000, "linear16", 7), 0.0)
    machine.emit(SOUND, 0.0)
    text, frame = machine.outgoing()
    check("server", str(text))
    assert isinstance(frame, bytes) and len(frame) == 32 + 640
    fields = struct.unpack("<HBBHBBIHHQII", frame[:32])
    assert fields == (0x4D41, 1, 1, 1, 1, 1, 8000, 1, 32, 640, 320, 0)


def test_a_stream_that_makes_nothing_is_told_so() -> None:
    machine = started("transcribe")
    assert ask(machine) == [] and codes(machine) == ["not_offered"]


@pytest.mark.parametrize("frame", [b"\0\0", '{"type": "gap", "samples": 3}', '{"type": "flush"}'])
def test_a_stream_that_hears_nothing_takes_no_audio(frame: str | bytes) -> None:
    machine = started()
    assert machine.receive(frame, 0.0) == []
    assert codes(machine) == ["not_offered"] and machine.state is State.RUN


def test_names_are_taken_until_their_end_and_no_more_than_nine_wait() -> None:
    machine = started()
    ask(machine)
    assert ask(machine) == [] and codes(machine) == ["bad_value"]
    for i in range(8):
        assert ask(machine, id=f"b{i}")
    assert ask(machine, id="c") == [] and codes(machine) == ["busy"]
    machine.emit(events.GenerationEnd("a", 320, "complete"), 0.0)
    assert said(machine)[0]["samples"] == 320
    assert ask(machine)


def test_credit_and_cancel_name_what_runs() -> None:
    machine = started()
    ask(machine)
    credit = machine.receive('{"type": "credit", "id": "a", "seconds": 2.5}', 0.0)
    assert credit == [requests.Credit("a", 2.5)]
    assert machine.receive('{"type": "cancel", "id": "a"}', 0.0) == [requests.CancelGeneration("a")]
    for message in ("credit", "cancel"):
        assert machine.receive(json.dumps({"type": message, "id": "b"}), 0.0) == []
    assert codes(machine) == ["bad_value", "bad_value"] and machine.state is State.RUN


def test_the_stream_is_done_when_the_last_recording_is() -> None:
    machine = started("both")
    ask(machine)
    machine.receive('{"type": "finish"}', 0.0)
    assert ask(machine, id="b") == [] and codes(machine) == ["after_finish"]
    machine.emit(events.Drained(), 0.0)
    assert machine.state is State.DRAIN and not machine.outgoing()
    assert machine.receive('{"type": "credit", "id": "a", "seconds": 1}', 0.0)
    machine.emit(events.GenerationEnd("a", 0, "complete"), 0.0)
    end, done, close = machine.outgoing()
    assert [json.loads(str(frame))["type"] for frame in (end, done)] == ["generation_end", "done"]
    assert isinstance(close, Close) and close.code == 1000


def test_a_stream_of_recordings_ends_with_its_connection() -> None:
    alone, both = started(), started("both")
    for machine in (alone, both):
        ask(machine)
        machine.lost()
    assert not alone.resumable and both.resumable
    both.emit(events.Drained(), 0.0)
    assert both.past()["done"]
