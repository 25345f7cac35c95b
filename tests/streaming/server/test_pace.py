"""A microphone at another rate than it says is told of; files and mutes are not."""

from collections.abc import Sequence

import pytest

from audiomamba.streaming.server.pace import Pace


def warned(declared: int, pace: Sequence[float], *, frame_s: float = 0.1) -> list[tuple[int, str]]:
    """When, in seconds, and what: audio at ``pace`` samples a second, one number a second."""
    look, received, found = Pace(declared), 0.0, []
    frames = round(1 / frame_s)
    for second, rate in enumerate(pace):
        for frame in range(frames):
            received += rate * frame_s
            told = look.look(round(received), second + frame * frame_s)
            if told is not None:
                found.append((second, told.code))
                assert str(declared) in told.message
    return found


@pytest.mark.parametrize(
    ("declared", "real"), [(16_000, 48_000), (48_000, 44_100), (16_000, 8_000), (44_100, 16_000)]
)
@pytest.mark.parametrize("frame_s", [0.02, 0.2])
def test_a_microphone_of_another_rate_is_told_of_once(
    declared: int, real: int, frame_s: float
) -> None:
    [(when, code)] = warned(declared, [real] * 60, frame_s=frame_s)
    assert code == "rate_mismatch" and 19 <= when <= 22


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_the_rate_that_was_said_is_right(rate: int) -> None:
    assert warned(rate, [rate * 1.01] * 60) == []


def test_files_and_mutes_are_no_microphones() -> None:
    assert warned(16_000, [200_000] * 60) == []  # faster than any
    assert warned(16_000, [16_000, 0, 0] * 20) == []  # 5,300 a second is no rate
    assert warned(16_000, ([48_000] * 10 + [16_000] * 10) * 3) == []  # not steady
