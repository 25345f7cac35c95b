"""Mappings become typed dataclasses, or one clear error."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from audiomamba.config import from_mapping, to_mapping
from audiomamba.errors import ConfigError


@dataclass
class Inner:
    rate: float = 1.0
    kind: Literal["a", "b"] = "a"


@dataclass
class Outer:
    name: str
    count: int = 1
    inner: Inner = field(default_factory=Inner)
    many: list[Inner] = field(default_factory=list)
    maybe: int | None = None


def test_a_mapping_becomes_the_dataclass_and_back() -> None:
    values = {"name": "x", "inner": {"rate": 2}, "many": [{"kind": "b"}], "maybe": 3}
    built = from_mapping(Outer, values)
    assert built == Outer("x", 1, Inner(2.0), [Inner(kind="b")], 3)
    assert from_mapping(Outer, to_mapping(built)) == built


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "x", "inner": {"rat": 1}}, "inner: unknown key 'rat'"),
        ({"name": 3}, "name: wants str"),
        ({"name": "x", "count": True}, "count: wants int"),
        ({"name": "x", "inner": {"kind": "c"}}, "inner.kind: wants one of a, b"),
        ({"name": "x", "many": "no"}, "many: wants a list"),
        ({"name": "x", "many": [{"rate": "fast"}]}, r"many\[0\].rate: wants float"),
        ({}, "Outer: .*name"),
    ],
)
def test_a_wrong_value_is_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_mapping(Outer, values)
