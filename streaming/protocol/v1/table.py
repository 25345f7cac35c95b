"""The legal moves of one v1 connection.

What is not listed is answered with an ``error`` and changes nothing, except in NEW, where it is
fatal. The document's diagram and the test that tries every illegal move are made from this table.
"""

from enum import Enum, auto

__all__ = ["REFUSALS", "TRANSITIONS", "Input", "State"]


class State(Enum):
    NEW = auto()  # nothing came yet
    OPENING = auto()  # `start` came, the session is being opened
    RUN = auto()
    DRAIN = auto()  # `finish` came, the last finals are on their way
    SUSPENDED = auto()  # the connection is gone, what is said is kept for the next
    CLOSED = auto()


class Input(Enum):
    """What can happen to a connection; the first part comes from the client."""

    START = "start"
    AUDIO = "audio"
    GAP = "gap"
    UPDATE = "update"
    FLUSH = "flush"
    FINISH = "finish"
    CANCEL = "cancel"
    SNAPSHOT = "snapshot"
    PING = "ping"
    GENERATE = "generate"
    CREDIT = "credit"
    OPENED = "(opened)"
    EVENT = "(event)"
    DRAINED = "(drained)"
    LOST = "(lost)"
    FATAL = "(fatal)"

    @property
    def from_client(self) -> bool:
        return not self.value.startswith("(")


TRANSITIONS: dict[State, dict[Input, State]] = {
    State.NEW: {
        Input.START: State.OPENING,
        Input.FATAL: State.CLOSED,
    },
    State.OPENING: {
        Input.OPENED: State.RUN,
        Input.FATAL: State.CLOSED,
    },
    State.RUN: {
        Input.AUDIO: State.RUN,
        Input.GAP: State.RUN,
        Input.UPDATE: State.RUN,
        Input.FLUSH: State.RUN,
        Input.SNAPSHOT: State.RUN,
        Input.PING: State.RUN,
        Input.GENERATE: State.RUN,
        Input.CREDIT: State.RUN,
        Input.EVENT: State.RUN,
        Input.FINISH: State.DRAIN,
        Input.CANCEL: State.CLOSED,
        Input.LOST: State.SUSPENDED,
        Input.FATAL: State.CLOSED,
    },
    State.DRAIN: {
        Input.FLUSH: State.DRAIN,
        Input.FINISH: State.DRAIN,
        Input.PING: State.DRAIN,
        Input.CREDIT: State.DRAIN,
        Input.EVENT: State.DRAIN,
        Input.CANCEL: State.CLOSED,
        Input.DRAINED: State.CLOSED,
        Input.LOST: State.SUSPENDED,
        Input.FATAL: State.CLOSED,
    },
    State.SUSPENDED: {
        Input.EVENT: State.SUSPENDED,
        Input.DRAINED: State.CLOSED,
        Input.FATAL: State.CLOSED,
    },
    State.CLOSED: {},
}

REFUSALS: dict[tuple[State, Input], tuple[str, int | None]] = {
    (State.NEW, Input.AUDIO): ("binary_before_start", 1003),
    (State.RUN, Input.START): ("already_started", None),
    (State.DRAIN, Input.START): ("already_started", None),
    (State.DRAIN, Input.GENERATE): ("after_finish", None),
    (State.DRAIN, Input.AUDIO): ("after_finish", None),
    (State.DRAIN, Input.GAP): ("after_finish", None),
    (State.DRAIN, Input.UPDATE): ("after_finish", None),
    (State.DRAIN, Input.SNAPSHOT): ("after_finish", None),
}
"""Moves not in the table that deserve a better word than ``bad_message``: code, close code."""
