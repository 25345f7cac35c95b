"""Any sequence of frames, events and time: the protocol's promises hold, and nothing breaks."""

import json
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from audiomamba.errors import Overloaded, ProtocolError
from audiomamba.streaming import protocol
from audiomamba.streaming.protocol import Close, Dialect, events, requests, v1, vosk
from audiomamba.streaming.protocol.vosk.machine import State
from tests.streaming.protocol.mutations import V1, VOSK, mutations
from tests.streaming.protocol.test_v1 import MESSAGES, READY

SCHEMA = json.loads((Path(protocol.__file__).parent / "v1.schema.json").read_text())
SERVER = jsonschema.Draft202012Validator({**SCHEMA, "$ref": "#/$defs/server"})
HALF_A_SECOND = bytes(16_000)


@dataclass
class Session:
    """Behaves as a session must: what is stable only grows, times go on, finals come in order."""

    utterance: int = 0
    heard_s: float = 0.0
    begun_s: float = 0.0
    words: list[str] = field(default_factory=list)
    stable: int = 0
    finished: bool = False

    def partial(self, more: int, settle: int) -> events.Partial:
        self.words += [f"w{self.utterance}.{len(self.words) + i}" for i in range(more)]
        self.stable = min(len(self.words), self.stable + settle)
        stable = "".join(word + " " for word in self.words[: self.stable])
        unstable = " ".join(self.words[self.stable :])
        return events.Partial(self.utterance, self.begun_s, self.heard_s, stable, unstable)

    def final(self, reason: Any) -> events.Final:
        text = " ".join(self.words)
        final = events.Final(self.utterance, self.begun_s, self.heard_s, text, 0.9, (), reason)
        self.utterance, self.begun_s = self.utterance + 1, self.heard_s
        self.words, self.stable = [], 0
        return final


class Conversation(RuleBasedStateMachine):
    """A client, the v1 machine and a session, in any order the three can get into."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.machine = v1.Machine(self.now)
        self.session: Session | None = None
        self.sent: list[dict[str, Any]] = []
        self.close: Close | None = None
        self.asked: list[requests.Request] = []
        self.sent_bytes = 0
        self.fed_bytes = 0

    @rule(frame=st.sampled_from([*MESSAGES.values()]))
    def client_says(self, frame: str | bytes) -> None:
        running = self.machine.state is v1.State.RUN
        if isinstance(frame, bytes) and running:
            self.sent_bytes += len(frame)
        self.act(self.machine.receive(frame, self.now))

    @rule(size=st.integers(0, 5000))
    @precondition(lambda self: self.machine.state is v1.State.RUN)
    def client_sends_audio(self, size: int) -> None:
        self.sent_bytes += size
        self.act(self.machine.receive(bytes(size), self.now))

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.3, 2.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.act(self.machine.tick(self.now))

    @rule(more=st.integers(0, 3), settle=st.integers(0, 3))
    @precondition(lambda self: self.session is not None)
    def session_has_a_hypothesis(self, more: int, settle: int) -> None:
        assert self.session is not None
        self.session.heard_s += 0.2
        self.machine.emit(self.session.partial(more, settle), self.now)

    @rule()
    @precondition(lambda self: self.session is not None and self.session.words)
    def session_ends_an_utterance(self) -> None:
        assert self.session is not None
        self.machine.emit(self.session.final("endpoint"), self.now)

    @rule()
    @precondition(lambda self: self.session is not None and self.session.finished)
    def session_drains(self) -> None:
        assert self.session is not None
        if self.session.words:
            self.machine.emit(self.session.final("finish"), self.now)
        self.machine.emit(events.Drained(), self.now)
        self.session = None

    @rule(other=st.sampled_from(["warned", "go_away", "failed", "overloaded", "refused"]))
    def something_else_happens(self, other: str) -> None:
        match other:
            case "warned":
                self.machine.emit(events.Warned("lagging", "2.0 s wait"), self.now)
            case "go_away":
                self.machine.emit(events.GoAway("drain", 5.0), self.now)
            case "failed" if self.session is not None:
                self.machine.emit(events.Failed("f00d"), self.now)
            case "overloaded" if self.session is not None:
                self.machine.fail(Overloaded("no room", retry_after_s=1.0), self.now)
            case "refused" if self.session is not None:
                self.machine.fail(ProtocolError("not now", code="busy"), self.now)

    def act(self, wanted: list[requests.Request]) -> None:
        for request in wanted:
            self.asked.append(request)
            match request:
                case requests.Open():
                    self.session = Session()
                    self.machine.opened(READY, self.now)
                case requests.Audio(samples):
                    self.fed_bytes += len(samples)
                case requests.Finish():
                    assert self.session is not None
                    self.session.finished = True
                case requests.Cancel():
                    self.session = None
                case requests.Report():
                    figures = events.Metrics(1.0, 0.5, 0.5, 0.5, 0.1, 2.0, 4, 1000)
                    self.machine.emit(figures, self.now)

    @invariant()
    def what_is_sent_keeps_every_promise(self) -> None:
        for frame in self.machine.outgoing():
            assert self.close is None, "nothing follows a close"
            if isinstance(frame, Close):
                self.close = frame
                continue
            message = json.loads(frame)
            SERVER.validate(message)
            self.sent.append(message)
        self._numbers_and_ends()
        self._texts()

    def _numbers_and_ends(self) -> None:
        assert [message["seq"] for message in self.sent] == list(range(1, len(self.sent) + 1))
        assert self._kinds().count("ready") <= 1
        fatal = [m["code"] for m in self.sent if m["type"] == "error" and m["fatal"]]
        assert len(fatal) <= 1
        if self.close is not None:
            last = self.sent[-1]
            assert last["type"] == ("done" if self.close.code == 1000 else "error")
            assert (self.close.code == 1000) == (not fatal)
            assert self._kinds().count("done") == (self.close.code == 1000)
            assert self.machine.closed
        else:
            assert not fatal and "done" not in self._kinds()

    def _texts(self) -> None:
        shown = [m for m in self.sent if m["type"] in ("partial", "final")]
        stable, utterance, end_of_final = "", 0, 0.0
        for message in shown:
            assert message["utterance"] >= utterance
            if message["utterance"] != utterance:
                stable, utterance = "", message["utterance"]
            text = message.get("stable", message.get("text", ""))
            assert text.startswith(stable.rstrip())
            assert message["start"] >= end_of_final
            stable = text
            if message["type"] == "final":
                end_of_final = message["end"]
        finals = [m["utterance"] for m in shown if m["type"] == "final"]
        assert all(a < b for a, b in pairwise(finals)), "finals in order, none twice"
        done = [m for m in self.sent if m["type"] == "done"]
        assert not done or done[0]["finals"] == len(finals)

    @invariant()
    def the_session_is_asked_what_the_client_asked(self) -> None:
        kinds = [type(request) for request in self.asked]
        assert kinds.count(requests.Open) <= 1 and kinds.count(requests.Finish) <= 1
        assert not kinds or kinds[0] is requests.Open
        assert self.sent_bytes - self.fed_bytes in range(2)  # half a sample may wait

    def _kinds(self) -> list[str]:
        return [message["type"] for message in self.sent]


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


class VoskConversation(RuleBasedStateMachine):
    """A vosk client and the machine: one reply to one message, whatever the session does when."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.machine = vosk.Machine(self.now)
        self.session: Session | None = None
        self.decoded = self.received = 0
        self.flushes = 0
        self.owed = 0
        self.replies: list[dict[str, Any]] = []
        self.finals: list[str] = []
        self.close: Close | None = None

    @rule(size=st.sampled_from([2, 640, 6400]))
    def client_sends_audio(self, size: int) -> None:
        self.say(bytes(size))
        self.received += size // 2

    @rule(frame=st.sampled_from(['{"config":{"sample_rate":16000}}', '{"reset":1}', '{"eof" : 1}']))
    def client_says(self, frame: str) -> None:
        self.say(frame)

    @rule(seconds=st.sampled_from([0.01, 0.1, 0.3]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.machine.tick(self.now)

    @rule(ends=st.booleans())
    @precondition(lambda self: self.session is not None)
    def session_decodes(self, ends: bool) -> None:
        assert self.session is not None
        self.decoded = self.received
        self.session.heard_s += 0.1
        self.emit(self.session.partial(1, 1))
        if ends:
            self.emit_final("endpoint")
        self.emit(events.Progress(self.decoded))

    @rule()
    @precondition(lambda self: self.session is not None and self.flushes)
    def session_flushes(self) -> None:
        self.flushes -= 1
        self.emit_final("flush")
        self.emit(events.Flushed(None, 1.0))

    @rule()
    @precondition(lambda self: self.session and self.session.finished and not self.flushes)
    def session_drains(self) -> None:
        self.emit_final("finish")
        self.emit(events.Drained())
        self.session = None

    def say(self, frame: str | bytes) -> None:
        if self.machine.state in (State.CLOSED, State.DRAIN):
            return
        self.owed += isinstance(frame, bytes) or "config" not in frame
        for request in self.machine.receive(frame, self.now):
            match request:
                case requests.Open():
                    self.session = Session()
                    self.machine.opened(READY, self.now)
                case requests.Flush():
                    self.flushes += 1
                case requests.Finish():
                    assert self.session is not None
                    self.session.finished = True

    def emit(self, event: events.Event) -> None:
        self.machine.emit(event, self.now)

    def emit_final(self, reason: str) -> None:
        assert self.session is not None
        if self.session.words:
            final = self.session.final(reason)
            self.finals.append(final.text)
            self.emit(final)

    @invariant()
    def one_reply_a_message_and_no_final_lost(self) -> None:
        for frame in self.machine.outgoing():
            assert self.close is None
            if isinstance(frame, Close):
                self.close = frame
            else:
                self.replies.append(json.loads(frame))
        assert len(self.replies) <= self.owed
        said = " ".join(reply["text"] for reply in self.replies if reply.get("text"))
        assert " ".join(self.finals).startswith(said)
        if self.close is not None:
            assert self.close.code == 1000 and len(self.replies) == self.owed
            assert said == " ".join(self.finals)


TestVoskConversation = VoskConversation.TestCase
TestVoskConversation.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def drive(machine: Dialect, frame: str | bytes, now: float) -> None:
    """One frame in, its requests answered, and whatever comes out looked at."""
    for request in machine.receive(frame, now):
        match request:
            case requests.Open():
                machine.opened(READY, now)
            case requests.Flush(id):
                machine.emit(events.Flushed(id, now), now)
            case requests.Finish():
                machine.emit(events.Drained(), now)
            case requests.Audio(samples):
                assert samples
            case requests.Gap(samples):
                assert samples > 0
    for request in machine.tick(now):
        assert isinstance(request, requests.Report)
    for out in machine.outgoing():
        assert isinstance(out, Close) or json.loads(out) is not None


@pytest.mark.slow
def test_a_hundred_thousand_mutated_frames_break_no_machine() -> None:
    count, opened = 0, 0
    for make, frames, seed in ((v1.Machine, V1, 1), (vosk.Machine, VOSK, 2)):
        machine: Dialect = make(0.0)
        for frame in mutations(frames, 50_000, seed):
            count += 1
            if machine.closed or count % 200 == 0:
                machine = make(0.0)
                # Half of them begin well, so that the frames meet a stream that runs.
                if count % 2:
                    opened += 1
                    drive(machine, frames[0], 0.0)
            drive(machine, frame, count * 0.001)
    assert count == 100_000 and opened > 1000
