import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiomamba.errors import ProtocolError
from audiomamba.streaming.protocol.fields import Fields, parse_object


@pytest.mark.parametrize(
    "text",
    [
        "", "nonsense", "[]", "1", "null", '"start"', '{"a": NaN}', '{"a": 1',
        "[" * 99_999, "9" * 5000,
    ],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_what_is_not_a_json_object_is_refused_as_a_bad_message(text: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_object(text)
    assert caught.value.code == "bad_message"


@given(st.text())
def test_any_text_is_an_object_or_a_protocol_error(text: str) -> None:
    try:
        assert isinstance(parse_object(text), dict)
    except ProtocolError as error:
        assert len(str(error)) < 300


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(7999, "8000..48000"), (48_001, "8000..48000"), (16000.5, "whole"), ("16000", "whole"),
     (True, "whole"), ([], "a list"), (1e999, "inf"), ({}, "an object")],
    ids=str,
)  # fmt: skip
def test_a_wrong_value_is_refused_with_its_place_the_wish_and_the_value(
    value: Any, wanted: str
) -> None:
    fields = Fields({"sample_rate": value}, "start.audio", [], code="bad_audio")
    with pytest.raises(ProtocolError, match=r"start\.audio\.sample_rate: wants") as caught:
        fields.integer("sample_rate", 16_000, 8000, 48_000)
    assert wanted in str(caught.value)
    assert caught.value.code == "bad_audio"


def test_a_whole_number_may_be_written_with_a_point() -> None:
    assert Fields(json.loads('{"n": 16000.0}'), "m", []).integer("n", 0, 0, 48_000) == 16_000


def test_null_means_the_default() -> None:
    assert Fields({"n": None}, "m", []).integer("n", 5, 0, 9) == 5


def test_fields_nobody_asked_for_are_noted_up_to_a_bound() -> None:
    unknown: list[str] = []
    fields = Fields({"known": True, **{f"x{i}": i for i in range(100)}}, "start", unknown)
    fields.flag("known", False)
    fields.close()
    assert unknown == [f"start.x{i}" for i in range(8)]
