"""Whether audio comes at the rate that was declared: a wrong one makes every time wrong."""

from audiomamba.streaming.protocol import events

__all__ = ["Pace"]

COMMON = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
WINDOW_S = 10.0  # of time; two of them after another have to agree
TOLERANCE = 0.025  # of a rate; a message of 0.2 s more or less in a window is 0.02


class Pace:
    """Of one connection. Says once that what comes looks like a microphone of another rate.

    Who sends a file comes at any pace, and who is muted at less; so what comes has to be steady,
    and at the pace of another rate that sound cards have.

    Args:
        sample_rate: That was declared, Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate
        self._begun: tuple[int, float] | None = None  # samples and time where the window began
        self._suspected = 0
        self._told = False

    def look(self, received: int, now: float) -> events.Warned | None:
        """``received`` samples have come by ``now``, in seconds."""
        if self._told:
            return None
        if self._begun is None:
            self._begun = received, now
            return None
        before, since = self._begun
        if now - since < WINDOW_S:
            return None
        self._begun = received, now
        before_that, self._suspected = (
            self._suspected,
            self._nearest((received - before) / (now - since)),
        )
        if not self._suspected or self._suspected != before_that:
            return None
        self._told = True
        return events.Warned(
            "rate_mismatch",
            f"audio comes as from a microphone of {self._suspected} Hz, "
            f"start.audio.sample_rate says {self._rate}",
        )

    def _nearest(self, pace: float) -> int:
        """The common rate that so many samples a second are; 0 for none, and for what was said."""
        if abs(pace / self._rate - 1) <= TOLERANCE:
            return 0
        return next((rate for rate in COMMON if abs(pace / rate - 1) <= TOLERANCE), 0)
