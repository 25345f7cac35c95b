"""A v1 stream over several connections: what was missed is said again, in the same words."""

import json
from typing import Any

import pytest

from audiomamba.errors import ProtocolError
from audiomamba.streaming.protocol import Close, events, requests
from audiomamba.streaming.protocol.v1 import Machine, State
from audiomamba.streaming.protocol.v1.journal import KEPT
from tests.streaming.protocol.test_v1 import FINAL, PARTIAL, READY, said, started

RESUMED = events.Ready("s1", READY.model, READY.limits, (), None, True, 8000)


def resumed(past: dict[str, Any], last_seq: int) -> Machine:
    machine = Machine(0.0)
    resume = {"token": "t", "last_seq": last_seq}
    [request] = machine.receive(json.dumps({"type": "start", "resume": resume}), 0.0)
    assert isinstance(request, requests.Open)
    assert request.settings.resume is not None and request.settings.resume.last_seq == last_seq
    machine.opened(RESUMED, 0.0, json.loads(json.dumps(past)))
    return machine


def test_what_the_client_has_not_seen_follows_ready() -> None:
    machine = started()
    machine.emit(events.SpeechStart(0.1), 0.0)
    machine.emit(FINAL, 0.0)
    machine.emit(events.Metrics(1.0, 0.5, 0.5, 0.5, 0.1, 2.0, 4, 1000), 0.0)
    machine.emit(events.Flushed("a", 1.0), 0.0)
    before = said(machine)
    for seen in (0, before[0]["seq"], before[1]["seq"], before[-1]["seq"]):
        ready, *again = said(resumed(machine.past(), seen))
        assert ready["resumed"] and ready["resume_at_sample"] == 8000
        kept = [event for event in before if event["type"] != "metrics" and event["seq"] > seen]
        assert again == kept


def test_ready_hides_nothing_from_a_client_that_loses_this_connection_too() -> None:
    machine = started()
    machine.emit(FINAL, 0.0)
    again = resumed(machine.past(), 1)
    ready, final = said(again)
    assert ready["seq"] == 1 < final["seq"]
    assert said(resumed(again.past(), ready["seq"]))[1] == final


def test_numbers_go_on_above_those_of_both_sides() -> None:
    machine = started()
    machine.emit(FINAL, 0.0)
    for seen in (0, 50):
        again = resumed(machine.past(), seen)
        said(again)
        again.emit(events.SpeechStart(2.0), 0.0)
        [event] = said(again)
        assert event["seq"] == max(2, seen) + 1


def test_the_latest_partial_of_an_open_utterance_is_said_again() -> None:
    machine = started()
    machine.emit(PARTIAL, 0.0)
    past = machine.past()
    assert [event["type"] for event in said(resumed(past, 0))] == ["ready", "partial"]
    machine.emit(FINAL, 1.0)
    assert [event["type"] for event in said(resumed(machine.past(), 0))] == ["ready", "final"]


def test_what_is_said_after_the_connection_is_kept_and_not_sent() -> None:
    machine = started()
    machine.lost()
    assert machine.state is State.SUSPENDED and machine.closed and machine.resumable
    assert machine.receive(b"\0\0", 0.0) == []
    machine.emit(FINAL, 0.0)
    assert machine.outgoing() == []
    assert said(resumed(machine.past(), 1))[1]["text"] == FINAL.text


def test_the_end_is_said_again_to_those_who_missed_it() -> None:
    machine = started()
    machine.receive('{"type": "finish"}', 0.0)
    machine.lost()
    machine.emit(FINAL, 0.0)
    machine.emit(events.Drained(), 0.0)
    assert machine.state is State.CLOSED and machine.resumable
    again = resumed(machine.past(), 1)
    out = again.outgoing()
    assert isinstance(out[-1], Close) and out[-1].code == 1000
    assert [json.loads(str(frame))["type"] for frame in out[:-1]] == ["ready", "final", "done"]
    assert again.resumable and not said(again)


@pytest.mark.parametrize("code", [1011, 1012, 1013, 4408, 4409, 4413])
def test_a_token_outlives_what_is_not_the_streams_fault(code: int) -> None:
    machine = started()
    machine.fail(ProtocolError("no", code="no", close_code=code), 0.0)
    assert machine.resumable and machine.closed
    close = machine.outgoing()[-1]
    assert isinstance(close, Close) and close.code == code


@pytest.mark.parametrize("code", [1007, 1009, 4400, 4406])
def test_it_does_not_outlive_the_clients_own(code: int) -> None:
    machine = started()
    machine.fail(ProtocolError("no", code="no", close_code=code), 0.0)
    assert machine.closed and not machine.resumable
    machine.lost()
    assert not machine.resumable


def test_a_cancelled_stream_is_over_for_good() -> None:
    machine = started()
    machine.receive('{"type": "cancel"}', 0.0)
    machine.lost()
    assert not machine.resumable


def test_what_is_kept_is_bounded() -> None:
    machine = started()
    for second in range(3 * KEPT):
        machine.emit(events.SpeechStart(float(second)), 0.0)
    assert len(said(resumed(machine.past(), 0))) == 1 + KEPT
