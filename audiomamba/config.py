"""Plain mappings (YAML, JSON) to typed dataclasses and back.

Every configuration of the project is a dataclass with defaults, units and checks where it is used.
This module only moves values between those and the mappings that files hold: Hydra's composed tree
at the door of the command line, ``config.json`` beside a checkpoint's weights.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from audiomamba.errors import ConfigError

__all__ = ["from_mapping", "to_mapping"]

T = TypeVar("T")


def from_mapping(cls: type[T], values: Mapping[str, Any], *, where: str = "") -> T:
    """Build dataclass ``cls`` from ``values``; nested dataclasses and lists of them included.

    Args:
        cls: A dataclass type.
        values: Field names to values. Missing fields take their defaults.
        where: Dotted place of ``values`` in the whole configuration, for the message.

    Raises:
        ConfigError: an unknown key, a missing value, or a value of the wrong type.
    """
    place = where or cls.__name__
    if not isinstance(values, Mapping):
        raise ConfigError(f"{place}: wants a mapping, got {values!r}")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    unknown = [key for key in values if key not in fields]
    if unknown:
        raise ConfigError(f"{place}: unknown key {unknown[0]!r}; known: {', '.join(fields)}")
    given = {k: _convert(hints[k], v, f"{where}.{k}".lstrip(".")) for k, v in values.items()}
    try:
        return cls(**given)
    except TypeError as error:
        raise ConfigError(f"{place}: {error}") from None


def to_mapping(value: Any) -> dict[str, Any]:
    """The inverse of :func:`from_mapping`, made of JSON's own types."""
    return dataclasses.asdict(value)


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _convert(next(a for a in args if a is not type(None)), value, where)
    if origin is typing.Literal:
        if value not in args:
            raise ConfigError(f"{where}: wants one of {', '.join(map(str, args))}, got {value!r}")
        return value
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_mapping(hint, value, where=where)
    if origin in (list, tuple):
        if isinstance(value, str) or not hasattr(value, "__iter__"):
            raise ConfigError(f"{where}: wants a list, got {value!r}")
        items = [_convert(args[0], item, f"{where}[{i}]") for i, item in enumerate(value)]
        return tuple(items) if origin is tuple else items
    if origin is dict:
        return dict(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and (
        not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool)
    ):
        raise ConfigError(f"{where}: wants {hint.__name__}, got {value!r}")
    return value
