"""Turns: at each, every stream that has a block ready moves on by one, in one batch."""

import logging
import secrets
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from audiomamba.errors import Overloaded
from audiomamba.streaming.engine.model import FloatArray, Recognizer, StepModel
from audiomamba.streaming.engine.session import Session, SessionLimits
from audiomamba.streaming.protocol.events import Metrics
from audiomamba.streaming.protocol.settings import AudioSettings, Overflow

__all__ = ["Engine"]

log = logging.getLogger(__name__)

NULL_SLOT = 0
RETRY_AFTER_S = 2.0
GATHER_S, GATHER_EACH_S = 0.02, 0.002
"""From the start of a turn to that of the next, 2 ms a stream and at most so long, unless
a stream is behind: blocks that come meanwhile share a step, for half of what a step each costs."""
Ready = list[tuple[Session, FloatArray]]


class Engine:
    """One model, one thread, many sessions.

    Args:
        model: Touched by the engine's thread alone.
        limits: Of each session.
        max_batch: Streams of one step; 0 = all slots.
    """

    def __init__(
        self, model: StepModel, *, limits: SessionLimits | None = None, max_batch: int = 0
    ) -> None:
        self.model = model
        self.limits = limits or SessionLimits()
        self._max_batch = min(max_batch or model.slots, model.slots)
        self._buckets = _buckets(self._max_batch)
        self._free = list(range(model.slots, NULL_SLOT, -1))
        self._sessions: set[Session] = set()
        self._due: set[Session] = set()  # sessions with something to do
        self._wanted = threading.Condition()
        self._stopping = False
        self._warm = False
        self._thread = threading.Thread(target=self._run, name="audiomamba-engine", daemon=True)
        # Seconds, streams, blocks of all of them.
        self._steps: deque[tuple[float, int, int]] = deque(maxlen=256)
        self._due_since = 0.0
        self._more: Ready = []  # of the streams that took the last steps, what waited already
        self._turned_at = 0.0  # when the last turn began
        self.on_phase: Callable[[str, float, int], None] | None = None
        """For metrics: ``queue``, ``features``, ``model`` or ``text``, its seconds, the streams in
        it. Called on the engine's thread."""

    @property
    def ready(self) -> bool:
        """Warmed up and running."""
        return self._warm and self._thread.is_alive() and not self._stopping

    @property
    def free(self) -> int:
        """Slots that can still be handed out."""
        return len(self._free)

    @property
    def live(self) -> int:
        """Sessions that hold a slot."""
        return len(self._sessions)

    def start(self) -> None:
        """Warm up and take turns from now on; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; sessions that are still open are closed without a word."""
        with self._wanted:
            self._stopping = True
            self._wanted.notify()
        if self._thread.is_alive():
            self._thread.join()

    def warmup(self) -> None:
        """Run every batch size once, on the null slot, so that no client waits for a first time."""
        for size in reversed(self._buckets):  # the smaller ones then fit the memory of the largest
            features = np.zeros((size, *self._block_shape), np.float32)
            self.model.step(features, [NULL_SLOT] * size)
        self._warm = True

    def open(
        self,
        recognizer: Recognizer,
        audio: AudioSettings,
        *,
        overflow: Overflow = "block",
        progress: bool = True,
        notify: Callable[[], None] = lambda: None,
        state: dict[str, Any] | None = None,
    ) -> Session:
        """Admit a stream, or one that goes on from the ``state`` of a checkpoint.

        Raises:
            Overloaded: every slot is taken.
            StateError: ``state`` belongs to another model, or to audio of another form.
        """
        with self._wanted:
            if self._stopping or not self._free:
                raise Overloaded(
                    f"all {self.model.slots} streams are taken", retry_after_s=RETRY_AFTER_S
                )
            session = Session(
                slot=self._free[-1],
                model=self.model,
                recognizer=recognizer,
                audio=audio,
                overflow=overflow,
                progress=progress,
                limits=self.limits,
                wake=self._wake,
                notify=notify,
                state=state,
            )
            self._free.pop()
            self._sessions.add(session)
        return session

    def metrics(self, session: Session) -> Metrics:
        """Figures of a session and of the engine, for its client."""
        rate = session.audio.sample_rate
        steps = list(self._steps)
        times = [seconds for seconds, _, _ in steps]
        audio_s = sum(blocks for _, _, blocks in steps) * self.model.block_s
        return Metrics(
            received_s=session.received / rate,
            decoded_s=session.decoded / rate,
            lag_s=max(session.lag_s, 0.0),
            buffered_s=session.buffered_s,
            rtf=sum(times) / audio_s if steps else 0.0,
            step_ms_p50=statistics.median(times) * 1e3 if steps else 0.0,
            batch=steps[-1][1] if steps else 0,
            state_bytes=self.model.state_bytes,
        )

    @property
    def _block_shape(self) -> tuple[int, int]:
        return self.model.frames_per_block, self.model.num_mel_bins

    def _wake(self, session: Session) -> None:
        with self._wanted:
            if not self._due:
                self._due_since = time.perf_counter()
            self._due.add(session)
            self._wanted.notify()

    def _run(self) -> None:
        try:
            self.warmup()
        except Exception:
            log.exception("engine: warm-up failed; the server stays unready")
            return
        while (due := self._wait()) is not None:
            self._turn(due)

    def _wait(self) -> list[Session] | None:
        """Sessions to look after now; None when the engine stops."""
        with self._wanted:
            while not (self._due or self._more or self._stopping):
                self._wanted.wait()
        gather_s = min(GATHER_S, GATHER_EACH_S * self.live)
        early = self._turned_at + gather_s - time.perf_counter()
        if early > 0 and not self._more:
            time.sleep(early)
        self._turned_at = time.perf_counter()
        with self._wanted:
            if self._stopping:
                return None
            due = sorted(self._due, key=lambda session: session.slot)
            self._due.clear()
        if due:
            self._note("queue", self._due_since, len(due))
        return due

    def _turn(self, due: list[Session]) -> None:
        began = time.perf_counter()
        ready = [(session, blocks) for session, blocks in self._more if not session.cancelled]
        held = {session for session, _ in ready}
        ready += self._advance(session for session in due if session not in held)
        self._note("features", began, len(ready))
        for together in _of_one_length(ready):
            for first in range(0, len(together), self._max_batch):
                self._step(together[first : first + self._max_batch])
        self._more = self._advance(session for session, _ in ready if session in self._sessions)

    def _advance(self, sessions: Iterable[Session]) -> Ready:
        """Blocks of those that have some; those that are over are let go."""
        ready: Ready = []
        for session in sessions:
            block = self._guarded(session, session.advance) if not session.cancelled else None
            if session.cancelled or session.over:
                self._release(session)
            elif block is not None:
                ready.append((session, block))
        return ready

    def _step(self, ready: Ready) -> None:
        try:
            log_probs = self._batch(ready)
        except Exception:
            if len(ready) == 1:
                self._fail(ready[0][0])
                return
            for one in ready:  # a step that raised has moved no stream: find the one it was
                self._step([one])
            return
        began = time.perf_counter()
        for (session, _), row in zip(ready, log_probs, strict=True):
            self._guarded(session, partial(_accept, session, row))
        self._note("text", began, len(ready))

    def _batch(self, ready: Ready) -> FloatArray:
        """Log-probabilities ``(M, T, V)`` of M blocks, padded to a bucket on the way."""
        size = next(bucket for bucket in self._buckets if bucket >= len(ready))
        features = np.zeros((size, *ready[0][1].shape), np.float32)
        slots = [NULL_SLOT] * size
        for row, (session, block) in enumerate(ready):
            features[row] = block
            slots[row] = session.slot
        began = time.perf_counter()
        log_probs = self.model.step(features, slots)
        blocks = features.shape[1] // self.model.frames_per_block
        seconds = self._note("model", began, len(ready))
        self._steps.append((seconds, len(ready), len(ready) * blocks))
        return log_probs[: len(ready)]

    def _guarded(
        self, session: Session, work: Callable[[], FloatArray | None]
    ) -> FloatArray | None:
        """Do something for one session; what goes wrong there is its own end alone."""
        try:
            return work()
        except Exception:
            self._fail(session)
            return None

    def _fail(self, session: Session) -> None:
        """Called while an exception is handled."""
        ref = secrets.token_hex(4)
        log.exception("engine: session in slot %d failed, reference %s", session.slot, ref)
        session.fail(ref)
        self._release(session)

    def _release(self, session: Session) -> None:
        session.close()
        if session not in self._sessions:
            return
        self.model.reset(session.slot)  # its memory is wanted back as well
        with self._wanted:
            self._due.discard(session)
            self._sessions.remove(session)
            self._free.append(session.slot)

    def _note(self, phase: str, began: float, batch: int) -> float:
        """Report a phase that ends now; returns its seconds."""
        seconds = time.perf_counter() - began
        if self.on_phase is not None:
            self.on_phase(phase, seconds, batch)
        return seconds


def _accept(session: Session, log_probs: FloatArray) -> None:
    if np.isnan(log_probs).any():
        raise FloatingPointError("the model's output is not a number")
    session.accept(log_probs)


def _of_one_length(ready: Ready) -> list[Ready]:
    """The same, apart by how many blocks there are of each."""
    apart: dict[int, Ready] = {}
    for session, blocks in ready:
        apart.setdefault(len(blocks), []).append((session, blocks))
    return list(apart.values())


def _buckets(largest: int) -> list[int]:
    """Batch sizes that are run: powers of two, and the largest there can be."""
    sizes = [1 << i for i in range(largest.bit_length()) if 1 << i < largest]
    return [*sizes, largest]
