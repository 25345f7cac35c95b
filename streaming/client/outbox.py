"""What is to be sent, and what may have to be sent again.

A line of segments (samples, or a count of silence) and marks (``flush``, ``finish``), addressed
by sample number, with a cursor. Pure: no socket, no clock. Memory is bounded by ``capacity``
samples: what was sent and not yet acknowledged is dropped first, what was not sent never.
"""

import json
from collections import deque
from dataclasses import dataclass

__all__ = ["Outbox"]


@dataclass(frozen=True, slots=True)
class _Segment:
    start: int  # sample number, all channels together counting as one
    count: int
    samples: bytes | None  # None: silence that is only counted (``gap``)

    @property
    def end(self) -> int:
        return self.start + self.count

    def cut(self, at: int, frame_bytes: int) -> "_Segment":
        """The part from sample ``at`` on."""
        skip = max(0, at - self.start)
        rest = None if self.samples is None else self.samples[skip * frame_bytes :]
        return _Segment(self.start + skip, self.count - skip, rest)


class Outbox:
    """Audio and marks in order, with the place up to which they were sent.

    Args:
        frame_bytes: Bytes of one sample of all channels.
        capacity: Samples kept at most, sent and unsent together (silence counts too).
        message_bytes: The largest binary message to make.
    """

    def __init__(self, frame_bytes: int, capacity: int, message_bytes: int = 32_768) -> None:
        self._frame_bytes = frame_bytes
        self._capacity = capacity
        self._message_frames = max(1, message_bytes // frame_bytes)
        self._segments: deque[_Segment] = deque()
        self._carry = b""  # a sample that was cut by the caller's chunking
        self._marks: dict[str, int] = {}  # flush id -> sample number it stands at
        self._marks_sent: set[str] = set()
        self._finish_sent = False
        self.finished = False
        self.end = 0  # samples fed
        self.sent = 0  # samples handed out by `next`

    @property
    def unsent(self) -> int:
        return self.end - self.sent

    @property
    def kept_from(self) -> int:
        """The first sample that could be sent again."""
        return self._segments[0].start if self._segments else self.end

    def feed(self, samples: bytes) -> None:
        """Append interleaved samples; any number of bytes."""
        samples = self._carry + samples
        whole = len(samples) - len(samples) % self._frame_bytes
        self._carry = samples[whole:]
        step = self._message_frames * self._frame_bytes
        for at in range(0, whole, step):
            part = samples[at : min(at + step, whole)]
            self._append(_Segment(self.end, len(part) // self._frame_bytes, part))

    def gap(self, count: int) -> None:
        """Append ``count`` samples of silence, which cost one short message."""
        if count > 0:
            self._append(_Segment(self.end, count, None))

    def flush(self, flush_id: str) -> None:
        self._marks[flush_id] = self.end

    def finish(self) -> None:
        self.finished = True

    def flushed(self, flush_id: str) -> None:
        """The server answered this flush."""
        self._marks.pop(flush_id, None)
        self._marks_sent.discard(flush_id)

    def next(self) -> bytes | str | None:
        """The next message in order, or None when all was sent; moves the cursor."""
        due = [m for m, at in self._marks.items() if at <= self.sent and m not in self._marks_sent]
        if due:
            self._marks_sent.add(due[0])
            return json.dumps({"type": "flush", "id": due[0]})
        waiting = [at for m, at in self._marks.items() if m not in self._marks_sent]
        for segment in self._segments:
            if segment.end <= self.sent:
                continue
            part = segment.cut(self.sent, self._frame_bytes)
            stop = min([part.end, *waiting])
            self.sent = stop
            if part.samples is None:
                return json.dumps({"type": "gap", "samples": stop - part.start})
            return part.samples[: (stop - part.start) * self._frame_bytes]
        if self.finished and not self._finish_sent:
            self._finish_sent = True
            return json.dumps({"type": "finish"})
        return None

    def forget(self, sample: int) -> None:
        """Audio before ``sample`` will not be asked for again."""
        while self._segments and self._segments[0].end <= min(sample, self.sent):
            self._segments.popleft()

    def rewind(self, sample: int) -> int:
        """Send again from ``sample`` on, as after a reconnect.

        Returns:
            Samples that are no longer kept; they are replaced by counted silence, so that the
            time of everything after them stays right.
        """
        lost = max(0, min(self.kept_from, self.sent) - sample)
        if lost:
            self._segments.appendleft(_Segment(sample, lost, None))
        self.sent = min(sample, self.sent)
        self._marks_sent.clear()
        self._finish_sent = False
        return lost

    def _append(self, segment: _Segment) -> None:
        self._segments.append(segment)
        self.end = segment.end
        while self._segments[0].end <= min(self.sent, self.end - self._capacity):
            self._segments.popleft()
