"""The recordings that one stream has asked for and that are not over."""

from audiomamba.errors import ProtocolError

__all__ = ["Generations"]

MOST = 9  # one that is made, and eight that wait


class Generations:
    """Their names, in the order asked for."""

    def __init__(self) -> None:
        self._ids: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._ids)

    def ask(self, id: str) -> None:
        """One more.

        Raises:
            ProtocolError: ``bad_value`` where the name is taken, ``busy`` where too many wait.
        """
        if id in self._ids:
            raise ProtocolError(f"generate.id: {id!r} is not over yet", code="bad_value")
        if len(self._ids) >= MOST:
            message = f"{MOST} generations are asked for and not over"
            raise ProtocolError(message, code="busy")
        self._ids.append(id)

    def check(self, id: str, message: str) -> None:
        """Raise ProtocolError where a ``message`` names none of them."""
        if id not in self._ids:
            raise ProtocolError(f"{message}.id: no generation {id!r} runs", code="bad_value")

    def over(self, id: str) -> None:
        """One less."""
        self._ids.remove(id)

    def forget(self) -> None:
        """Nobody waits for any of them."""
        self._ids.clear()
