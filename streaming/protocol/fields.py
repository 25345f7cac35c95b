"""Reading JSON objects of a stranger: typed fields, ranges, and one clear line when wrong."""

import json
from collections.abc import Sequence
from typing import Any, NoReturn, TypeVar

from audiomamba.errors import ProtocolError

__all__ = ["Fields", "parse_object"]

Choice = TypeVar("Choice", bound=str)


def parse_object(text: str) -> dict[str, Any]:
    """One JSON object.

    Raises:
        ProtocolError: ``bad_message``: not JSON, or not an object.
    """
    try:
        values = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"message is not JSON: {error}", code="bad_message") from None
    if not isinstance(values, dict):
        raise ProtocolError(
            f"message must be a JSON object, got {_show(values)}", code="bad_message"
        )
    return values


class Fields:
    """One JSON object being read.

    Args:
        values: The object.
        where: Its place in the message, for the error's text.
        unknown: Collects the places of fields that nobody asked for (see :meth:`close`).
        code: Machine-readable name of what is wrong when a field is.
    """

    def __init__(
        self,
        values: dict[str, Any],
        where: str,
        unknown: list[str],
        *,
        code: str = "bad_value",
    ) -> None:
        self._values = values
        self._where = where
        self._unknown = unknown
        self._code = code
        self._asked: set[str] = set()

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        self._asked.add(name)
        return self._values.get(name) is not None

    def given(self, name: str) -> bool:
        """Whether the field is there, be it null."""
        self._asked.add(name)
        return name in self._values

    def flag(self, name: str, default: bool) -> bool:
        value = self._get(name, default)
        if not isinstance(value, bool):
            self.refuse(name, "true or false")
        return value

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        value = self._get(name, default)
        if isinstance(value, float) and value.is_integer():  # JSON knows one kind of number
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.refuse(name, f"a whole number in {low}..{high}")
        return value

    def number(self, name: str, default: float, low: float, high: float) -> float:
        value = self._get(name, default)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not low <= value <= high
        ):
            self.refuse(name, f"a number in {low}..{high}")
        return float(value)

    def choice(self, name: str, default: Choice, choices: Sequence[Choice]) -> Choice:
        value = self._get(name, default)
        for choice in choices:
            if value == choice:
                return choice
        self.refuse(name, f"one of {', '.join(choices)}")

    def text(self, name: str, *, max_length: int = 128) -> str | None:
        """A string, or None where there is none."""
        if not self.has(name):
            return None
        value = self._values[name]
        if not isinstance(value, str) or len(value) > max_length:
            self.refuse(name, f"a string of at most {max_length} characters")
        return value

    def texts(self, name: str, *, max_items: int, max_length: int) -> tuple[str, ...]:
        value = self._get(name, [])
        if (
            not isinstance(value, list)
            or len(value) > max_items
            or not all(isinstance(item, str) and len(item) <= max_length for item in value)
        ):
            self.refuse(name, f"a list of at most {max_items} strings")
        return tuple(value)

    def object(self, name: str, *, code: str | None = None) -> "Fields":
        """A nested object; an empty one where there is none."""
        value = self._get(name, {})
        if not isinstance(value, dict):
            self.refuse(name, "an object", code=code)
        return Fields(value, f"{self._where}.{name}", self._unknown, code=code or self._code)

    def close(self) -> None:
        """Note the fields nobody asked for; a bounded number of them, cut to a bounded length."""
        for name in self._values:
            if name not in self._asked and len(self._unknown) < 8:
                self._unknown.append(f"{self._where}.{name[:64]}")

    def refuse(self, name: str, wanted: str, *, code: str | None = None) -> NoReturn:
        """Raise ProtocolError: field ``name`` is not as ``wanted``."""
        raise ProtocolError(
            f"{self._where}.{name}: wants {wanted}, got {_show(self._values.get(name))}",
            code=code or self._code,
        )

    def _get(self, name: str, default: Any) -> Any:
        return self._values[name] if self.has(name) else default


def _show(value: Any) -> str:
    """A stranger's value, in a length that can be shown."""
    if isinstance(value, list | dict):  # not spelled out: it may be nested a thousand deep
        return "a list" if isinstance(value, list) else "an object"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")
