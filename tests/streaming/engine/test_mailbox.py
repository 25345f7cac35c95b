from audiomamba.streaming.engine.mailbox import Mailbox
from audiomamba.streaming.protocol.events import Checkpoint, Final, Partial, Progress, SpeechStart


def partial(unstable: str) -> Partial:
    return Partial(0, 0.0, 1.0, "", unstable)


FINAL = Final(0, 0.0, 1.0, "a", 1.0, (), "endpoint")


def test_a_partial_is_replaced_by_a_newer_one() -> None:
    box = Mailbox()
    box.put(partial("a"))
    box.put(partial("ab"))
    assert box.take() == [partial("ab")]
    assert box.take() == []


def test_a_final_takes_the_partials_place_and_is_never_dropped() -> None:
    box = Mailbox(limit=2)
    for _ in range(5):
        box.put(partial("a"))
        box.put(FINAL)
    assert box.full
    assert box.take() == [FINAL] * 5
    assert not box.full


def test_progress_comes_after_what_was_said_of_it() -> None:
    box = Mailbox()
    box.put(Progress(1))
    box.put(SpeechStart(0.0))
    box.put(partial("a"))
    box.put(Progress(2))
    assert box.take() == [SpeechStart(0.0), partial("a"), Progress(2)]


def test_a_newer_checkpoint_takes_the_place_of_an_older_one_and_its_request() -> None:
    box = Mailbox()
    box.put(Checkpoint({"n": 1}, 1, requested=True))
    box.put(FINAL, Checkpoint({"n": 2}, 2))
    assert box.take() == [FINAL, Checkpoint({"n": 2}, 2, requested=True)]
