"""Idle clients: warned, then closed; one that answers pings is not idle."""

import pytest

from audiomamba.errors import ConfigError, ProtocolError
from audiomamba.streaming.protocol import events
from audiomamba.streaming.server.limits import IdleWatch, LimitsConfig

LIMITS = LimitsConfig(idle_s=300, idle_warning_s=240)


def test_silence_is_warned_of_once_and_then_ends_the_connection() -> None:
    watch = IdleWatch(LIMITS, lambda: 1000.0)
    assert watch.deadline == 1240.0
    assert watch.look(1239.0) is None
    warning = watch.look(1240.0)
    assert isinstance(warning, events.Warned) and warning.code == "idle"
    assert "closing in 60" in warning.message
    assert watch.deadline == 1300.0
    assert watch.look(1299.0) is None
    end = watch.look(1300.0)
    assert isinstance(end, ProtocolError) and end.close_code == 4408


def test_a_sign_of_life_starts_the_time_again() -> None:
    heard = [1000.0]
    watch = IdleWatch(LIMITS, lambda: heard[0])
    assert watch.look(1240.0) is not None
    heard[0] = 1250.0
    assert watch.deadline == 1490.0
    assert watch.look(1300.0) is None
    assert isinstance(watch.look(1490.0), events.Warned)


@pytest.mark.parametrize(
    "wrong", [{"idle_s": 10.0}, {"unread_s": 0.0}, {"room_s": -1.0}, {"connections": -1}], ids=str
)
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="limits"):
        LimitsConfig(**wrong)  # type: ignore[arg-type]
