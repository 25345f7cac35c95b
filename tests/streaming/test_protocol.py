"""What holds for every dialect, and for the package as a whole."""

import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiomamba.errors import ProtocolError
from audiomamba.streaming.protocol import Dialect, events, requests, v1, vosk

READY = events.Ready("s", {}, {}, ())
MACHINES: dict[str, Callable[[float], Dialect]] = {"v1": v1.Machine, "vosk": vosk.Machine}
OPENING = {"v1": '{"type": "start"}', "vosk": '{"config": {"sample_rate": 16000}}'}


def samples_heard(name: str, pieces: list[bytes]) -> bytes:
    machine = MACHINES[name](0.0)
    heard = b""
    frames: list[str | bytes] = [OPENING[name], *pieces]
    for frame in frames:
        for request in machine.receive(frame, 0.0):
            if isinstance(request, requests.Open):
                machine.opened(READY, 0.0)
            if isinstance(request, requests.Audio):
                heard += request.samples
    return heard


@pytest.mark.parametrize("name", MACHINES)
@given(sent=st.binary(min_size=40, max_size=200), cuts=st.lists(st.integers(0, 200)))
def test_any_fragmentation_of_the_audio_gives_the_same_samples(
    name: str, sent: bytes, cuts: list[int]
) -> None:
    places = sorted({0, len(sent), *(cut for cut in cuts if cut <= len(sent))})
    pieces = [sent[a:b] for a, b in zip(places, places[1:], strict=False)]
    assert samples_heard(name, pieces) == samples_heard(name, [sent])


@pytest.mark.parametrize("name", MACHINES)
@given(frames=st.lists(st.text() | st.binary(), max_size=20))
def test_any_frames_are_survived_and_nothing_follows_a_close(
    name: str, frames: list[str | bytes]
) -> None:
    machine = MACHINES[name](0.0)
    for now, frame in enumerate(frames):
        closed = machine.closed
        wanted = machine.receive(frame, float(now))
        if any(isinstance(request, requests.Open) for request in wanted):
            machine.opened(READY, float(now))
        machine.tick(float(now))
        out = machine.outgoing()
        assert not (closed and (wanted or out))


@pytest.mark.parametrize("name", MACHINES)
def test_a_failed_session_closes_its_connection_with_the_code(name: str) -> None:
    machine = MACHINES[name](0.0)
    machine.receive(OPENING[name], 0.0)
    machine.receive(bytes(2), 0.0)
    if name == "v1":
        machine.opened(READY, 0.0)
    machine.fail(ProtocolError("internal error 17", code="internal", close_code=1011), 0.0)
    assert machine.closed and machine.deadline is None
    machine.emit(events.Drained(), 0.0)
    assert getattr(machine.outgoing()[-1], "code", None) == 1011


def test_nothing_but_the_standard_library_is_imported() -> None:
    code = (
        "import sys; before = set(sys.modules); import audiomamba.streaming.protocol.v1, "
        "audiomamba.streaming.protocol.vosk; print(' '.join(set(sys.modules) - before))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in out.stdout.split()}
    assert loaded <= sys.stdlib_module_names | {"audiomamba"}
