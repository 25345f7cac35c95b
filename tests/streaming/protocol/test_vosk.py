"""The vosk dialect: one reply a message, in order, in the layout its clients match on."""

import json
from typing import Any

import pytest

from audiomamba.errors import Overloaded
from audiomamba.streaming.protocol import Close, events, requests
from audiomamba.streaming.protocol.vosk import Machine, VoskDefaults
from audiomamba.streaming.protocol.vosk.wire import dump

READY = events.Ready("s", {}, {}, ())
HELLO = events.Final(
    1, 0.1, 0.9, "hello world", 0.8,
    (events.Word("hello", 0.1, 0.5, 0.9), events.Word("world", 0.5, 0.9, 0.7)), "endpoint",
)  # fmt: skip
AGAIN = events.Final(2, 1.0, 1.4, "again", 0.6, (events.Word("again", 1.0, 1.4, 0.6),), "flush")


def started(config: str | None = None) -> Machine:
    machine = Machine(0.0)
    if config is not None:
        assert machine.receive(config, 0.0) == []
    opening = machine.receive(bytes(3200), 0.0)
    assert isinstance(opening[0], requests.Open)
    machine.opened(READY, 0.0)
    machine.emit(events.Progress(1600), 0.0)
    assert replies(machine) == [{"partial": ""}]
    return machine


def replies(machine: Machine) -> list[dict[str, Any]]:
    return [json.loads(frame) for frame in machine.outgoing() if isinstance(frame, str)]


def opened_with(config: str | None) -> requests.Request:
    machine = Machine(0.0)
    if config is not None:
        machine.receive(config, 0.0)
        assert machine.outgoing() == []
    return machine.receive(bytes(2), 0.0)[0]


@pytest.mark.parametrize(
    ("config", "rate"),
    [
        (None, 8000),
        ('{ "config" : { "sample_rate" : 16000 } }', 16_000),
        ('{"config": {"sample_rate": 16000.000000, "words": 1, "phrase_list": ["a"]}}', 16_000),
        ('{"config": "nonsense"}', 8000),
        ('{"config": {"sample_rate": 44100', 8000),
    ],
)
def test_a_configuration_gets_no_reply_and_sets_the_rate(config: str | None, rate: int) -> None:
    request = opened_with(config)
    assert isinstance(request, requests.Open)
    assert request.settings.audio.sample_rate == rate


@pytest.mark.parametrize("rate", [0, -1, 1e12, '"fast"', "true", "[]", "NaN"])
def test_an_absurd_rate_closes_with_4406(rate: object) -> None:
    machine = Machine(0.0)
    machine.receive(f'{{"config": {{"sample_rate": {rate}}}}}', 0.0)
    [close] = machine.outgoing()
    assert isinstance(close, Close) and close.code == 4406


def test_every_audio_message_gets_one_reply_when_it_is_decoded() -> None:
    machine = started()
    for _ in range(3):
        machine.receive(bytes(320), 0.0)
    machine.emit(events.Partial(1, 0, 1, "hel", "lo"), 0.0)
    machine.emit(events.Progress(1600 + 160), 0.0)
    assert replies(machine) == [{"partial": "hello"}]
    machine.emit(events.Progress(1600 + 480), 0.0)
    assert replies(machine) == [{"partial": "hello"}] * 2


def test_a_reply_comes_with_the_hypothesis_of_the_moment_after_250_ms() -> None:
    machine = started()
    machine.receive(bytes(320), 10.0)
    assert machine.deadline == 10.25
    machine.tick(10.24)
    assert replies(machine) == []
    machine.tick(10.25)
    assert replies(machine) == [{"partial": ""}]
    assert machine.deadline is None


def test_a_final_waits_for_the_next_reply_and_takes_its_place() -> None:
    machine = started()
    machine.emit(HELLO, 0.0)
    assert machine.outgoing() == []
    machine.receive(bytes(320), 0.0)
    machine.emit(events.Progress(1760), 0.0)
    [reply] = replies(machine)
    assert reply["text"] == "hello world"
    assert [word["word"] for word in reply["result"]] == ["hello", "world"]


def test_several_finals_become_one_reply() -> None:
    machine = started()
    machine.emit(HELLO, 0.0)
    machine.emit(AGAIN, 0.0)
    machine.receive(b'{"eof" : 1}', 0.0)
    machine.emit(events.Drained(), 0.0)
    [reply] = replies(machine)
    assert reply["text"] == "hello world again"
    assert len(reply["result"]) == 3


@pytest.mark.parametrize(
    "eof", ['{"eof" : 1}', '{"eof": 1}', '{"eof" : 1 }', b'{"eof" : 1}', '{"eof": true}'], ids=str
)
def test_eof_drains_replies_with_the_rest_and_closes(eof: str | bytes) -> None:
    machine = started()
    assert machine.receive(eof, 0.0) == [requests.Finish()]
    assert machine.outgoing() == []
    machine.emit(HELLO, 0.0)
    machine.emit(events.Drained(), 0.0)
    out = machine.outgoing()
    assert json.loads(str(out[0]))["text"] == "hello world"
    assert out[1:] == [Close(1000)]


def test_eof_answers_the_audio_before_it_first() -> None:
    machine = started()
    machine.receive(bytes(320), 0.0)
    machine.receive('{"eof" : 1}', 0.0)
    machine.emit(events.Drained(), 0.0)
    assert replies(machine) == [{"partial": ""}, {"text": ""}]


def test_eof_before_any_audio_is_an_empty_result() -> None:
    machine = Machine(0.0)
    assert machine.receive('{"eof" : 1}', 0.0) == []
    assert machine.outgoing() == ['{\n  "text" : ""\n}', Close(1000)]


def test_reset_is_a_final_result_and_the_stream_goes_on() -> None:
    machine = started()
    assert machine.receive('{"reset" : 1}', 0.0) == [requests.Flush(None)]
    machine.emit(AGAIN, 0.0)
    machine.emit(events.Flushed(None, 1.0), 0.0)
    assert [reply["text"] for reply in replies(machine)] == ["again"]
    machine.receive(bytes(320), 0.0)
    machine.emit(events.Progress(1760), 0.0)
    assert replies(machine) == [{"partial": ""}]


@pytest.mark.parametrize("text", ["hello", "{}", "[1]", '{"other": 1}'])
def test_other_text_gets_an_empty_partial(text: str) -> None:
    machine = started()
    machine.receive(text, 0.0)
    assert replies(machine) == [{"partial": ""}]
    assert not machine.closed


def test_words_can_be_switched_off() -> None:
    machine = started('{"config": {"words": 0}}')
    machine.emit(HELLO, 0.0)
    machine.receive(bytes(320), 0.0)
    machine.emit(events.Progress(1760), 0.0)
    assert replies(machine) == [{"text": "hello world"}]


def test_alternatives_have_their_own_form_also_when_empty() -> None:
    machine = started('{"config": {"max_alternatives": 2}}')
    machine.emit(HELLO, 0.0)
    machine.receive(bytes(320), 0.0)
    machine.emit(events.Progress(1760), 0.0)
    [[best]] = [reply["alternatives"] for reply in replies(machine)]
    assert best["text"] == "hello world"
    assert set(best["result"][0]) == {"end", "start", "word"}
    machine.receive('{"eof" : 1}', 0.0)
    machine.emit(events.Drained(), 0.0)
    assert replies(machine) == [{"alternatives": [{"confidence": 1.0, "text": ""}]}]


def test_the_layout_is_the_one_that_clients_match_on() -> None:
    lines = dump({"text": "a", "result": [{"word": "a", "end": 0.5}]}).splitlines()
    assert lines == [
        "{",
        '  "result" : [{',
        '      "end" : 0.500000,',
        '      "word" : "a"',
        "    }],",
        '  "text" : "a"',
        "}",
    ]


def test_overload_is_a_close_code() -> None:
    machine = Machine(0.0)
    machine.receive(bytes(2), 0.0)
    machine.fail(Overloaded("full", retry_after_s=1.0), 0.0)
    assert machine.outgoing() == [Close(1013, "full")]


def test_defaults_are_the_servers_choice() -> None:
    machine = Machine(0.0, VoskDefaults(sample_rate=16_000))
    [request, _] = machine.receive(bytes(2), 0.0)
    assert isinstance(request, requests.Open)
    assert request.settings.audio.sample_rate == 16_000
