"""What a client shows to go on with its stream: the stream's name, signed."""

import hashlib
import hmac
import secrets

__all__ = ["KEY_BYTES", "Tokens", "new_key"]

KEY_BYTES = 32


def new_key() -> bytes:
    """A key that nobody can guess."""
    return secrets.token_bytes(KEY_BYTES)


class Tokens:
    """Makes tokens and reads them; they hold no state, so they stay good with the key.

    Args:
        key: Secret of all servers that are to know each other's tokens.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._key_id = hashlib.sha256(key).hexdigest()[:8]

    def sign(self, stream_id: str) -> str:
        """The token of a stream."""
        return f"{self._key_id}.{stream_id}.{self._signature(stream_id)}"

    def read(self, token: str) -> str | None:
        """Name of the token's stream; None when it was not signed with this key."""
        key_id, _, rest = token.partition(".")
        stream_id, _, signature = rest.partition(".")
        right = self._signature(stream_id).encode()
        if key_id != self._key_id or not hmac.compare_digest(signature.encode(), right):
            return None
        return stream_id

    def _signature(self, stream_id: str) -> str:
        return hmac.new(self._key, stream_id.encode(), hashlib.sha256).hexdigest()[:32]
