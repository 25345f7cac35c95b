"""The tree of errors.

::

    Error
    ├── ShapeError      (ValueError)   a tensor does not have the shape or dtype the contract names
    ├── AudioError      (ValueError)   a file or a block of samples cannot be read as audio
    ├── ModelError      (ValueError)   a model is unknown, damaged or of another kind
    ├── StateError      (ValueError)   a saved state belongs to another model, version or dtype
    ├── ProtocolError   (ValueError)   a peer broke the wire protocol; carries its close code
    ├── ConfigError     (ValueError)   a setting is unknown or out of range
    ├── BackendError    (RuntimeError) an implementation was asked for that cannot run here
    ├── ConnectionLost  (ConnectionError) a server cannot be reached, refused or went away
    └── Overloaded      (RuntimeError) no capacity now; says when to try again

A message is one line: who, what was wanted, what came, and the cure if there is one.
"""

__all__ = [
    "AudioError",
    "BackendError",
    "ConfigError",
    "ConnectionLost",
    "Error",
    "ModelError",
    "Overloaded",
    "ProtocolError",
    "ShapeError",
    "StateError",
]


class Error(Exception):
    """Root of everything audiomamba raises on purpose."""


class ShapeError(Error, ValueError):
    """A tensor does not have the shape or dtype the contract names."""


class AudioError(Error, ValueError):
    """A file or a block of samples cannot be read as audio."""


class ModelError(Error, ValueError):
    """A model is unknown, damaged or of another kind."""


class StateError(Error, ValueError):
    """A saved state belongs to another model, version or dtype."""


class ProtocolError(Error, ValueError):
    """A peer broke the wire protocol.

    Args:
        message: One line for the peer.
        code: Machine-readable name, for example ``bad_message``.
        close_code: WebSocket close code, or None where the stream goes on.
    """

    def __init__(self, message: str, *, code: str, close_code: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.close_code = close_code


class ConfigError(Error, ValueError):
    """A setting is unknown or out of range."""


class BackendError(Error, RuntimeError):
    """An implementation was asked for that cannot run here."""


class ConnectionLost(Error, ConnectionError):
    """A server cannot be reached, refused or went away.

    Args:
        message: One line for the caller.
        close_code: WebSocket close code, 1006 where the connection ended without one.
    """

    def __init__(self, message: str, *, close_code: int) -> None:
        super().__init__(message)
        self.close_code = close_code


class Overloaded(Error, RuntimeError):
    """No capacity now.

    Args:
        message: One line for the caller.
        retry_after_s: Seconds after which another try makes sense.
    """

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
