"""Protocol v1: the table of moves, the words of every event, and what a stranger may send."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiomamba.errors import Overloaded, ProtocolError
from audiomamba.streaming import protocol
from audiomamba.streaming.protocol import Close, events, requests
from audiomamba.streaming.protocol.v1 import REFUSALS, TRANSITIONS, Input, Machine, State

SCHEMA = json.loads((Path(protocol.__file__).parent / "v1.schema.json").read_text())
READY = events.Ready(
    "s1",
    {"name": "fake", "hash": "0", "sample_rate": 16_000, "frame_ms": 40, "look_ahead_ms": [0]},
    {"audio_frame_bytes": 1 << 20},
    ("flush",),
)
WORD = events.Word("hello", 0.1, 0.5, 0.9)
PARTIAL = events.Partial(1, 0.0, 0.5, "hello", " wor", (WORD, replace(WORD, stable=False)))
FINAL = events.Final(1, 0.0, 0.5, "hello", 0.9, (WORD,), "endpoint")
SAID: list[events.Event] = [
    PARTIAL,
    FINAL,
    events.SpeechStart(0.1),
    events.SpeechEnd(0.5),
    events.Flushed("a", 1.0),
    events.Flushed(None, 1.0),
    events.Snapshot("t", 16_000, 120.0),
    events.Metrics(1.0, 0.5, 0.5, 0.5, 0.1, 2.0, 4, 1000),
    events.Warned("audio_dropped", "late", {"from": 1.0, "to": 2.0}),
    events.GoAway("drain", 5.0, "t"),
    events.GenerationStart("g", 1, 8000, "linear16", 7),
    events.Pong(1.0),
]
MESSAGES: dict[Input, str | bytes] = {
    Input.START: '{"type": "start"}',
    Input.AUDIO: b"\0\0",
    Input.GAP: '{"type": "gap", "samples": 160}',
    Input.UPDATE: '{"type": "update", "endpointing": {"silence_ms": 300}}',
    Input.FLUSH: '{"type": "flush", "id": "a"}',
    Input.FINISH: '{"type": "finish"}',
    Input.CANCEL: '{"type": "cancel"}',
    Input.SNAPSHOT: '{"type": "snapshot"}',
    Input.PING: '{"type": "ping", "t": 1.5}',
    Input.GENERATE: '{"type": "generate", "id": "g"}',
    Input.CREDIT: '{"type": "credit", "id": "g", "seconds": 1}',
}


def check(side: str, message: str) -> None:
    schema = {**SCHEMA, "$ref": f"#/$defs/{side}"}
    jsonschema.Draft202012Validator(schema).validate(json.loads(message))


def started(start: str = '{"type": "start"}') -> Machine:
    machine = Machine(0.0)
    [request] = machine.receive(start, 0.0)
    assert isinstance(request, requests.Open)
    machine.opened(READY, 0.0)
    machine.outgoing()
    return machine


def in_state(state: State) -> Machine:
    machine = Machine(0.0) if state is State.NEW else started()
    if state is State.DRAIN:
        machine.receive(MESSAGES[Input.FINISH], 0.0)
    if state is State.CLOSED:
        machine.receive(MESSAGES[Input.CANCEL], 0.0)
        machine.outgoing()
    return machine


def said(machine: Machine) -> list[dict[str, Any]]:
    out = [json.loads(frame) for frame in machine.outgoing() if isinstance(frame, str)]
    for message in out:
        check("server", json.dumps(message))
    return out


STATES = [State.NEW, State.RUN, State.DRAIN, State.CLOSED]
CLIENT_MOVES = [move for move in Input if move.from_client]


@pytest.mark.parametrize("move", CLIENT_MOVES, ids=str)
@pytest.mark.parametrize("state", STATES, ids=str)
def test_every_move_goes_where_the_table_says_or_is_refused(state: State, move: Input) -> None:
    machine = in_state(state)
    machine.receive(MESSAGES[move], 0.0)
    target = TRANSITIONS[state].get(move)
    out = machine.outgoing()
    if target is not None:
        assert machine.state is target
    elif state is State.CLOSED:
        assert not out
    else:
        code, _ = REFUSALS.get((state, move), ("bad_message", None))
        refusal = json.loads(str(out[0]))
        assert (refusal["type"], refusal["code"]) == ("error", code)
        assert refusal["fatal"] == (state is State.NEW)
        assert machine.state is (State.CLOSED if state is State.NEW else state)


def test_every_state_that_is_not_the_end_can_fail() -> None:
    for state, moves in TRANSITIONS.items():
        assert (Input.FATAL in moves) == (state is not State.CLOSED)


@pytest.mark.parametrize("move", [m for m in CLIENT_MOVES if m is not Input.AUDIO], ids=str)
def test_the_schema_accepts_what_the_machine_accepts(move: Input) -> None:
    check("client", str(MESSAGES[move]))


@pytest.mark.parametrize("event", SAID, ids=lambda event: type(event).__name__)
def test_every_event_is_said_in_the_words_of_the_schema(event: events.Event) -> None:
    machine = started()
    machine.emit(event, 1.0)
    assert len(said(machine)) == 1


def test_ready_carries_the_fields_of_the_schema() -> None:
    machine = Machine(0.0)
    machine.receive('{"type": "start"}', 0.0)
    machine.opened(replace(READY, resume={"token": "t", "ttl_s": 120.0}), 0.0)
    [ready] = said(machine)
    assert ready["model"]["name"] == "fake"
    assert ready["resume"]["token"] == "t"


def test_the_defaults_of_the_schema_are_those_of_the_machine() -> None:
    machine = started()
    defined = SCHEMA["$defs"]
    for name, settings in [("results", machine.settings.results),
                           ("endpointing", machine.settings.endpointing)]:  # fmt: skip
        for field, rule in defined[name]["properties"].items():
            if "default" in rule:
                assert getattr(settings, field) == rule["default"], f"{name}.{field}"
    for field, rule in defined["client.start"]["properties"]["audio"]["properties"].items():
        assert getattr(machine.settings.audio, field) == rule["default"]


@pytest.mark.parametrize(
    ("start", "code", "close_code"),
    [
        ({"audio": {"sample_rate": 7999}}, "bad_audio", 4406),
        ({"audio": {"sample_rate": 10**12}}, "bad_audio", 4406),
        ({"audio": {"sample_rate": -1}}, "bad_audio", 4406),
        ({"audio": {"sample_rate": "fast"}}, "bad_audio", 4406),
        ({"audio": {"encoding": "mp3"}}, "bad_audio", 4406),
        ({"audio": {"channels": 0}}, "bad_audio", 4406),
        ({"audio": {"channels": 9}}, "bad_audio", 4406),
        ({"audio": []}, "bad_audio", 4406),
        ({"protocol": "2.0"}, "bad_message", 4400),
        ({"task": "dance"}, "bad_value", 4400),
        ({"overflow": "explode"}, "bad_value", 4400),
        ({"endpointing": {"silence_ms": -5}}, "bad_value", 4400),
        ({"client_id": "x" * 129}, "bad_value", 4400),
    ],
    ids=str,
)
def test_a_wrong_start_gets_one_fatal_error_and_its_close_code(
    start: dict[str, Any], code: str, close_code: int
) -> None:
    machine = Machine(0.0)
    assert machine.receive(json.dumps({"type": "start", **start}), 0.0) == []
    error, close = machine.outgoing()
    message = json.loads(str(error))
    assert (message["code"], message["fatal"]) == (code, True)
    assert isinstance(close, Close) and close.code == close_code
    with pytest.raises(jsonschema.ValidationError):
        check("client", json.dumps({"type": "start", **start}))


def test_an_unknown_field_is_warned_of_and_ignored() -> None:
    machine = Machine(0.0)
    machine.receive('{"type": "start", "colour": "red", "audio": {"depth": 3}}', 0.0)
    machine.opened(READY, 0.0)
    kinds = [(m["type"], m.get("code"), m.get("message")) for m in said(machine)]
    assert kinds[0][0] == "ready"
    assert [kind[:2] for kind in kinds[1:]] == [("warning", "unknown_field")] * 2
    assert "start.audio.depth" in str(kinds)


def test_no_start_within_ten_seconds_is_a_timeout() -> None:
    machine = Machine(100.0)
    assert machine.deadline == 110.0
    machine.tick(109.9)
    assert not machine.outgoing()
    machine.tick(110.0)
    assert machine.outgoing()[-1] == Close(4408, "timeout")


def test_a_text_frame_past_64_kib_closes_with_1009() -> None:
    machine = started()
    machine.receive('{"type": "ping", "x": "' + "y" * 70_000 + '"}', 0.0)
    assert machine.outgoing()[-1] == Close(1009, "too_big")


def test_binary_before_start_closes_with_1003() -> None:
    machine = Machine(0.0)
    machine.receive(b"\0\0", 0.0)
    assert machine.outgoing()[-1] == Close(1003, "binary_before_start")


def test_audio_after_finish_is_an_error_and_the_stream_still_ends_well() -> None:
    machine = in_state(State.DRAIN)
    assert machine.receive(b"\0\0", 0.0) == []
    machine.emit(FINAL, 0.0)
    machine.emit(events.Drained(), 0.0)
    out = machine.outgoing()
    kinds = [json.loads(frame)["type"] for frame in out if isinstance(frame, str)]
    assert kinds == ["error", "final", "done"]
    assert out[-1] == Close(1000, "finished")


def test_finish_twice_asks_the_session_once() -> None:
    machine = started()
    first = machine.receive('{"type": "finish"}', 0.0)
    assert [*first, *machine.receive('{"type": "finish"}', 0.0)] == [requests.Finish()]


def test_done_counts_the_audio_with_its_gaps_and_the_finals() -> None:
    machine = started('{"type": "start", "audio": {"sample_rate": 8000}}')
    machine.receive(bytes(8000), 0.0)
    machine.receive('{"type": "gap", "samples": 8000}', 0.0)
    machine.receive('{"type": "finish"}', 0.0)
    machine.emit(FINAL, 0.0)
    machine.emit(events.Drained(), 0.0)
    done = said(machine)[-1]
    assert (done["reason"], done["audio_s"], done["finals"]) == ("finished", 1.5, 1)


def test_after_cancel_nothing_more_is_said() -> None:
    machine = started()
    assert machine.receive('{"type": "cancel"}', 0.0) == [requests.Cancel()]
    machine.emit(FINAL, 0.0)
    machine.emit(events.Drained(), 0.0)
    assert [m["type"] for m in said(machine)] == ["done"]


def test_partials_come_no_oftener_than_asked_and_the_newest_wins() -> None:
    machine = started('{"type": "start", "metrics_ms": 0, "results": {"interim_ms": 200}}')
    for i in range(10):
        machine.emit(replace(PARTIAL, unstable=str(i)), i * 0.01)
    assert [m["unstable"] for m in said(machine)] == ["0"]
    assert machine.deadline == pytest.approx(0.2)
    machine.tick(0.2)
    assert [m["unstable"] for m in said(machine)] == ["9"]
    assert machine.deadline is None


def test_a_final_takes_the_place_of_a_partial_that_waits() -> None:
    machine = started()
    machine.emit(PARTIAL, 0.0)
    machine.emit(PARTIAL, 0.01)
    machine.emit(FINAL, 0.02)
    machine.tick(0.5)
    assert [m["type"] for m in said(machine)] == ["partial", "final"]


def test_results_can_be_changed_on_the_way() -> None:
    machine = started()
    off = '{"type": "update", "results": {"interim": false, "words": false, "confidence": false}}'
    assert machine.receive(off, 0.0) == []
    machine.emit(PARTIAL, 1.0)
    machine.emit(FINAL, 1.0)
    [final] = said(machine)
    assert not {"words", "confidence"} & final.keys()


def test_an_update_keeps_what_it_does_not_name() -> None:
    machine = started('{"type": "start", "endpointing": {"threshold": 0.7}}')
    [update] = machine.receive('{"type": "update", "endpointing": {"silence_ms": 300}}', 0.0)
    assert isinstance(update, requests.Update)
    assert (update.endpointing.silence_ms, update.endpointing.threshold) == (300, 0.7)
    [update] = machine.receive('{"type": "update", "endpointing": {"threshold": 0.6}}', 0.0)
    assert isinstance(update, requests.Update)
    assert (update.endpointing.silence_ms, update.endpointing.threshold) == (300, 0.6)
    assert started().settings.endpointing.silence_ms is None


def test_a_wrong_update_changes_nothing() -> None:
    machine = started()
    before = machine.settings
    assert machine.receive('{"type": "update", "endpointing": {"silence_ms": "x"}}', 0.0) == []
    assert machine.settings == before
    assert said(machine)[0]["code"] == "bad_value"


def test_metrics_are_asked_for_at_the_interval() -> None:
    machine = started('{"type": "start", "metrics_ms": 500}')
    assert machine.tick(0.4) == []
    assert machine.tick(0.5) == [requests.Report()]
    assert machine.deadline == 1.0


def test_overload_says_when_to_come_again() -> None:
    machine = Machine(0.0)
    machine.receive('{"type": "start"}', 0.0)
    machine.fail(Overloaded("all 64 slots are taken", retry_after_s=2.0), 0.0)
    error, close = machine.outgoing()
    assert json.loads(str(error))["retry_after_s"] == 2.0
    assert close == Close(1013, "overloaded")


def test_a_failure_without_a_close_code_lets_the_stream_go_on() -> None:
    machine = started()
    machine.fail(ProtocolError("no snapshot now", code="busy"), 0.0)
    assert machine.state is State.RUN
    assert said(machine)[0]["fatal"] is False


def test_a_driver_that_opens_twice_is_told_so() -> None:
    with pytest.raises(RuntimeError, match="driver"):
        started().opened(READY, 0.0)


@given(st.lists(st.sampled_from(list(MESSAGES.values())) | st.text() | st.binary(), max_size=30))
def test_no_sequence_of_frames_breaks_the_machine(frames: list[str | bytes]) -> None:
    machine = Machine(0.0)
    sequence: list[int] = []
    for now, frame in enumerate(frames):
        for request in machine.receive(frame, float(now)):
            if isinstance(request, requests.Open):
                machine.opened(READY, float(now))
            if isinstance(request, requests.Finish):
                machine.emit(events.Drained(), float(now))
        out = machine.outgoing()
        assert not any(isinstance(frame, Close) for frame in out[:-1])
        sequence += [json.loads(frame)["seq"] for frame in out if isinstance(frame, str)]
        if machine.closed:
            break
    assert sequence == list(range(1, len(sequence) + 1))
