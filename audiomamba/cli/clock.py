"""Times as people read them."""

__all__ = ["clock"]


def clock(seconds: float) -> str:
    """``m:ss``, with hours where there are any."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
