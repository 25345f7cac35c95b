"""Whole samples out of bytes that may be cut anywhere."""

__all__ = ["SampleCarry"]


class SampleCarry:
    """Keeps the bytes of a split sample for the next frame.

    Args:
        frame_bytes: Bytes of one sample of all channels.
    """

    def __init__(self, frame_bytes: int) -> None:
        self._frame_bytes = frame_bytes
        self._rest = b""

    def take(self, received: bytes) -> bytes:
        """All whole samples so far not handed out; may be empty."""
        joined = self._rest + received if self._rest else received
        whole = len(joined) - len(joined) % self._frame_bytes
        self._rest = joined[whole:]
        return joined[:whole]
