"""Several engines share the streams out, and each stream stays what it is."""

import time
from collections.abc import Iterator

import pytest

from audiomamba.errors import Overloaded
from audiomamba.streaming.engine import Engine, Engines
from audiomamba.streaming.protocol import events
from tests.streaming.energy import EnergyModel, Listener, bursts, linear16, spoken


@pytest.fixture
def models() -> list[EnergyModel]:
    return [EnergyModel(slots=2), EnergyModel(slots=1)]


@pytest.fixture
def engines(models: list[EnergyModel]) -> Iterator[Engines]:
    engines = Engines([Engine(model) for model in models])
    engines.start()
    yield engines
    engines.stop()


def test_streams_go_where_the_fewest_are_until_all_is_taken(
    engines: Engines, models: list[EnergyModel]
) -> None:
    listeners = [Listener(engines) for _ in range(3)]
    assert [listener.session.model for listener in listeners] == [models[0], models[1], models[0]]
    assert (engines.slots, engines.live, engines.free) == (3, 3, 0)
    with pytest.raises(Overloaded, match="all 3 streams"):
        Listener(engines)
    for count, listener in enumerate(listeners, start=1):
        listener.feed(linear16(bursts(count)))
        listener.session.finish()
    for count, listener in enumerate(listeners, start=1):
        listener.until(events.Drained)
        assert listener.text() == spoken(count)


def test_a_stream_goes_on_on_another_engine(engines: Engines, models: list[EnergyModel]) -> None:
    sent = linear16(bursts(4, pause_s=0.8))
    listener = Listener(engines)
    listener.feed(sent[:60_000])
    listener.session.park()
    heard = listener.until(events.Parked)
    while engines.live:  # the slot comes back after the last word
        time.sleep(0.001)
    saved = next(event for event in heard if isinstance(event, events.Checkpoint))
    Listener(engines)  # takes the place on the first engine
    elsewhere = Listener(engines, state=saved.state)
    assert listener.session.model is models[0] and elsewhere.session.model is models[1]
    elsewhere.feed(sent[60_000:])
    elsewhere.session.finish()
    elsewhere.until(events.Drained)
    assert f"{listener.text()} {elsewhere.text()}".strip() == spoken(4)


def test_figures_are_those_of_the_streams_own_engine(engines: Engines) -> None:
    first, second = Listener(engines), Listener(engines)
    second.feed(linear16(bursts(2)))
    second.until(events.Progress)
    assert engines.metrics(first.session).batch == 0
    assert engines.metrics(second.session).batch == 1
    assert engines.metrics(second.session).received_s == pytest.approx(0.96)


def test_all_engines_tell_the_same_observer(models: list[EnergyModel]) -> None:
    noted: list[str] = []
    engines = Engines([Engine(model) for model in models])
    engines.observe(lambda phase, seconds, streams: noted.append(phase))
    assert not engines.ready
    engines.start()
    for listener in [Listener(engines) for _ in range(2)]:
        listener.feed(linear16(bursts(1)))
        listener.until(events.Progress)
    engines.stop()
    assert noted.count("model") >= 2
