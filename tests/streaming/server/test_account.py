"""What a stream's account tells metrics and the log."""

import logging
from dataclasses import dataclass, field

import pytest

from audiomamba.streaming.protocol import AudioSettings, events
from audiomamba.streaming.server.account import MAX_MARKS, Account, Arrivals, outcome


@dataclass
class Session:
    audio: AudioSettings = field(default_factory=AudioSettings)
    received: int = 0
    decoded: int = 0


@dataclass
class Told:
    opened: list[Account] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    first_partials: list[float] = field(default_factory=list)
    finals: list[float] = field(default_factory=list)
    first_sounds: list[float] = field(default_factory=list)

    def stream_opened(self, account: Account) -> None:
        self.opened.append(account)

    def stream_ended(self, account: Account, outcome: str) -> None:
        self.ended.append(outcome)

    def first_partial(self, seconds: float) -> None:
        self.first_partials.append(seconds)

    def final(self, seconds: float) -> None:
        self.finals.append(seconds)

    def first_sound(self, seconds: float) -> None:
        self.first_sounds.append(seconds)

    def snapshot(self, result: str, seconds: float) -> None:
        pass

    def resume(self, result: str) -> None:
        pass


def opened(told: Told, *, log_text: bool = False) -> tuple[Account, Session]:
    account, session = Account("abc", "v1", told, log_text=log_text), Session()
    account.opened(session, 100.0)
    for i in range(1, 21):  # two seconds in real time, in tenths
        session.received = i * 1600
        account.fed(100.0 + i * 0.1)
    return account, session


def partial(utterance: int, start: float) -> events.Partial:
    return events.Partial(utterance, start, start + 0.2, "", "ze")


def final(end: float) -> events.Final:
    return events.Final(0, 0.5, end, "zero", 0.9, (), "endpoint")


def test_arrivals_know_when_a_sample_came_and_stay_small() -> None:
    arrivals = Arrivals(16_000)
    for i in range(100_000):
        arrivals.note(i * 160, i * 0.01)
    assert len(arrivals._marks) == MAX_MARKS
    assert arrivals.when(99_000 * 160) == pytest.approx(990.0, abs=0.11)
    assert arrivals.when(1e12) is None


def test_the_first_partial_of_an_utterance_is_timed_from_the_arrival_of_its_start() -> None:
    told = Told()
    account, _ = opened(told)
    account.said(partial(0, 0.5), 100.9)
    account.said(partial(0, 0.5), 101.5)
    account.said(partial(1, 1.5), 102.0)
    assert told.first_partials == [pytest.approx(0.4, abs=0.11), pytest.approx(0.5, abs=0.11)]


def test_a_final_is_timed_from_the_arrival_of_its_end() -> None:
    told = Told()
    account, _ = opened(told)
    account.said(final(1.0), 101.6)
    assert told.finals == [pytest.approx(0.6, abs=0.11)]
    assert account.finals == 1


def test_audio_is_counted_in_seconds() -> None:
    account, session = opened(Told())
    session.decoded = 16_000
    account.said(events.Warned("audio_dropped", "late", {"from": 0.25, "to": 0.75}), 102.0)
    assert (account.received_s, account.decoded_s, account.lag_s) == (2.0, 1.0, 1.0)
    assert account.dropped_s == 0.5


def test_sound_that_is_made_is_counted_and_its_beginning_timed() -> None:
    told = Told()
    account, _ = opened(told)
    account.said(events.GenerationStart("a", 1, 8000, "linear16", 7), 103.0)
    for first in (0, 4000):
        account.said(events.Sound(1, 8000, "linear16", first, 4000, bytes(8000)), 103.25)
    assert told.first_sounds == [0.25]
    assert account.generated_s == 1.0


def test_a_stream_that_goes_on_counts_what_came_since() -> None:
    account, session = Account("abc", "v1", Told()), Session(received=32_000, decoded=16_000)
    account.opened(session, 100.0)
    assert (account.received_s, account.decoded_s, account.lag_s) == (0.0, 0.0, 1.0)
    session.received, session.decoded = 48_000, 48_000
    assert (account.received_s, account.decoded_s, account.lag_s) == (1.0, 2.0, 0.0)


def test_start_and_end_are_a_line_each_without_what_was_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told = Told()
    with caplog.at_level(logging.INFO):
        account, _ = opened(told)
        account.said(final(1.0), 101.6)
        account.said(events.Failed("f00d"), 102.0)
        account.ended(1011, "internal", 103.5)
    start, end = (vars(record) for record in caplog.records)
    assert (start["event"], start["stream_id"], start["dialect"]) == ("stream_start", "abc", "v1")
    assert (end["event"], end["outcome"], end["code"]) == ("stream_end", "failed", 1011)
    assert (end["seconds"], end["audio_s"], end["finals"], end["ref"]) == (3.5, 2.0, 1, "f00d")
    assert told.ended == ["failed"]
    assert "zero" not in caplog.text


def test_what_was_said_is_logged_where_it_is_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        account, _ = opened(Told(), log_text=True)
        account.said(final(1.0), 101.6)
    assert "final: zero" in caplog.text


def test_a_connection_without_a_stream_is_no_stream_that_ended() -> None:
    told = Told()
    Account("abc", "v1", told).ended(4400, "bad_message", 1.0)
    assert told.ended == []


@pytest.mark.parametrize(
    ("code", "reason", "how"),
    [
        (None, "", "vanished"),
        (1000, "finished", "finished"),
        (1000, "cancelled", "cancelled"),
        (1012, "restart", "restarted"),
        (4408, "timeout", "timeout"),
        (4413, "slow_reader", "slow_reader"),
        (4429, "quota", "refused"),
    ],
)
def test_every_close_is_one_of_a_few_outcomes(code: int | None, reason: str, how: str) -> None:
    assert outcome(code, reason) == how
