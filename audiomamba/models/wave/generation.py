"""Recordings that are being made, block by block, under the eyes of the guard."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiomamba.audio.mulaw import SILENCE, expand
from audiomamba.config import from_mapping
from audiomamba.errors import ConfigError, ShapeError, StateError
from audiomamba.models.wave.config import WaveConfig
from audiomamba.models.wave.engine import WaveEngine
from audiomamba.models.wave.guard import COOLER, ENDLESS, Incident, Verdict
from audiomamba.models.wave.sampling import Sampling, other_seed
from audiomamba.models.wave.saving import pack, part, unpack
from audiomamba.models.wave.schedule import Schedule, dumped, restored
from audiomamba.models.wave.watch import Watch

__all__ = ["Generation"]

Samples = NDArray[np.float32]
Codes = NDArray[np.uint8]

log = logging.getLogger(__name__)


class Generation:
    """Recordings that are being made, from ``Synthesizer.start``; memory does not grow.

    Attributes:
        streams: How many are made together.
        position: Samples of each given out so far; a prompt does not count.
        sampling: How samples are drawn; the guard may lower the temperature for a while.
    """

    def __init__(
        self,
        engine: WaveEngine,
        state: Any,
        sampling: Sampling,
        seeds: NDArray[np.uint64],
        last: Codes,
        position: int = 0,
        *,
        watch: Watch | None = None,
        schedules: Sequence[Schedule] = (),
    ) -> None:
        self._engine, self._state, self._seeds, self._last = engine, state, seeds, last
        self.sampling = sampling
        self.streams = len(seeds)
        self.position = position
        self._watch = watch
        self._schedules = list(schedules)  # of each stream, or none at all
        if watch is not None and watch.back is None:
            watch.back = engine.take(state, self._rows(np.arange(self.streams)))
            watch.back_last[:] = last

    @property
    def planned(self) -> list[int]:
        """Samples of each until all of its words are said; 0 of one that has no end."""
        return [own.samples for own in self._schedules] or [0] * self.streams

    @property
    def state_bytes(self) -> int:
        """Size of what is remembered: the same at any time."""
        own = self._engine.state_bytes(self._state)
        return own if self._watch is None else 2 * own + self._watch.nbytes

    @property
    def phase(self) -> int:
        """Where in its period the model is, if only equal phases can be made together; else 0."""
        return self._engine.phase(self._state)

    @property
    def incidents(self) -> list[Incident]:
        """The guard's latest interventions, oldest first; those before a resume are not kept."""
        return [] if self._watch is None else list(self._watch.incidents)

    @property
    def interventions(self) -> dict[str, int]:
        """How often the guard stepped in, by kind, from the first sample on."""
        return {} if self._watch is None else dict(self._watch.guard.counts)

    def next(self, samples: int) -> Samples:
        """The next samples of every recording, ``(streams, samples)`` in -1..1.

        Any cut into calls gives the same samples.
        """
        return Generation.together([self], samples)[0]

    @staticmethod
    def together(made: "Sequence[Generation]", samples: int) -> list[Samples]:
        """The next ``samples`` of several generations, each ``(streams, samples)``.

        The same that each would give alone, with the weights read once for all. Their states are
        put side by side for the call and taken apart after it, which costs a copy of each: a call
        should be for a block, not for a sample.

        Args:
            made: Of one synthesizer, with equal ``sampling`` and ``phase``.
            samples: How many.

        Raises:
            ShapeError: their sampling or phase differs.
        """
        if any(one.sampling != made[0].sampling or one.phase != made[0].phase for one in made):
            raise ShapeError("generations made together must have the same sampling and phase")
        out = [np.empty((one.streams, samples), np.uint8) for one in made]
        held = [0] * len(made)
        while True:
            for number, one in enumerate(made):
                held[number] += one._hand_out(out[number][:, held[number] :])
            wanting = [n for n, have in enumerate(held) if have < samples]
            if not wanting:
                return [expand(codes) for codes in out]
            free = [n for n in wanting if made[n]._watch is None]
            for number, codes in zip(
                free, _draw_jointly([made[n] for n in free], samples), strict=True
            ):
                out[number][:] = codes
                held[number] = samples
            watched = [made[n] for n in wanting if made[n]._watch is not None]
            calm = [one for one in watched if not one._is_cooled]
            if calm:
                block = _watched(calm[0]).block
                for one, codes in zip(calm, _draw_jointly(calm, block), strict=True):
                    one._take(codes)
            for one in watched:
                if one not in calm:
                    one._take(one._draw_cooled())

    def save(self) -> bytes:
        """All that is needed to go on to the same samples: ``Synthesizer.resume`` takes it."""
        about: dict[str, Any] = {"position": self.position, "sampling": asdict(self.sampling)}
        arrays = {f"state.{name}": array for name, array in self._engine.dump(self._state).items()}
        if self._watch is not None:
            about["counts"] = self._watch.guard.counts
            back = self._engine.dump(self._watch.back)
            arrays |= {f"back.{name}": array for name, array in back.items()}
            arrays |= {f"watch.{name}": array for name, array in self._watch.dump().items()}
        if self._schedules:
            arrays |= {f"plan.{name}": array for name, array in dumped(self._schedules).items()}
        arrays |= {"seeds": self._seeds.view(np.int64), "last": self._last}
        return pack(arrays, self._engine.identity, about)

    @classmethod
    def restore(
        cls,
        saved: bytes,
        engine: WaveEngine,
        config: WaveConfig,
        watch: Callable[[NDArray[np.int64]], Watch],
    ) -> "Generation":
        """Go on with what :meth:`save` saved.

        Args:
            saved: The bytes.
            engine: That of the model.
            config: The model's.
            watch: Makes an empty watch over streams of which these ids were asked for.

        Raises:
            StateError: it is damaged, or belongs to another model, engine or precision.
        """
        arrays, about = unpack(saved, engine.identity)
        try:
            made = cls(
                engine,
                engine.restore(part(arrays, "state.")),
                from_mapping(Sampling, about["sampling"]),
                arrays["seeds"].view(np.uint64).copy(),
                arrays["last"].copy(),
                int(about["position"]),
            )
            if plan := part(arrays, "plan."):
                made._schedules = restored(plan, config)
                if len(made._schedules) != made.streams:
                    raise ValueError(f"{len(made._schedules)} schedules of {made.streams} streams")
            if "counts" in about:
                own = part(arrays, "watch.")
                made._watch = watch(own["asked"])
                made._watch.restore(own)
                made._watch.back = engine.restore(part(arrays, "back."))
                made._watch.guard.counts.update(about["counts"])
        except (ConfigError, ValueError, KeyError, TypeError, IndexError) as error:
            if isinstance(error, StateError):
                raise
            raise StateError(f"state is damaged ({error})") from None
        return made

    @property
    def _is_cooled(self) -> bool:
        return bool(self._watch is not None and self._watch.guard.cooling.any())

    @property
    def _drawn(self) -> NDArray[np.int64]:
        """Samples drawn of each stream."""
        ahead = 0 if self._watch is None else self._watch.filled
        return np.full(self.streams, self.position, np.int64) + ahead

    def _rows(self, streams: NDArray[np.intp]) -> NDArray[np.intp]:
        """Rows of the engine's state; with guidance there is a second half, asked for nobody."""
        if self.sampling.guidance == 1:
            return streams
        return np.concatenate([streams, self.streams + streams])

    def _hand_out(self, room: Codes) -> int:
        """Give out what may be, as far as there is room; returns how many samples."""
        if self._watch is None:
            return 0
        samples: int = min(room.shape[1], int(self._watch.clear.min()))
        room[:, :samples] = self._watch.give(samples)
        self.position += samples
        return samples

    def _draw_alone(self, stream: int) -> Codes:
        """A block ``(1, block)`` of one stream, at the temperature that the guard allows it."""
        watch, own = _watched(self), np.array([stream])
        how = self.sampling
        if cooling := int(watch.guard.cooling[stream]):
            how = replace(how, temperature=how.temperature * COOLER**cooling)
        part, last = self._engine.take(self._state, self._rows(own)), self._last[own]
        asked = self._schedules[stream : stream + 1]
        seeds, first = self._seeds[own], self._drawn[own]
        codes = _draw(self._engine, part, last, how, seeds, first, watch.block, asked)
        self._engine.put(self._state, self._rows(own), part)
        self._last[own] = last
        return codes

    def _draw_cooled(self) -> Codes:
        """A block of every stream, where the guard wants some of them cooler.

        Those are drawn again one by one: an engine that keeps a graph a batch size meets but two.
        """
        cooled = np.flatnonzero(_watched(self).guard.cooling)
        rows = self._rows(cooled)
        before, last = self._engine.take(self._state, rows), self._last[cooled]
        codes = _draw_jointly([self], _watched(self).block)[0]
        self._engine.put(self._state, rows, before)
        self._last[cooled] = last
        for stream in cooled:
            codes[stream] = self._draw_alone(int(stream))[0]
        return codes

    def _take(self, codes: Codes) -> None:
        """Put a block of every stream in, and do what the guard thinks right."""
        watch = _watched(self)
        everyone = np.arange(self.streams)
        verdicts = self._judge(codes, everyone)
        calm = everyone[[verdict is Verdict.CALM for verdict in verdicts]]
        self._mark(calm)
        wanted = int(watch.filled.max())
        for stream, verdict in enumerate(verdicts):
            if verdict is Verdict.RUNAWAY:
                self._settle(stream, wanted)
            elif verdict is Verdict.ENDLESS:
                self._intervene(stream)

    def _judge(self, codes: Codes, streams: NDArray[np.intp]) -> list[Verdict]:
        watch = _watched(self)
        for row, stream in enumerate(streams):
            at = watch.filled[stream]
            watch.ahead[stream, at : at + watch.block] = codes[row]
            watch.filled[stream] += watch.block
        return watch.guard.judge(codes, streams)

    def _mark(self, streams: NDArray[np.intp]) -> None:
        """All that there is of these streams is well; from here they may be taken back to."""
        watch, rows = _watched(self), self._rows(streams)
        if not len(streams):
            return
        watch.clear[streams] = watch.filled[streams]
        self._engine.put(watch.back, rows, self._engine.take(self._state, rows))
        watch.back_last[streams] = self._last[streams]
        for name, array in watch.guard.running.dump().items():
            watch.back_running[name][streams] = array[streams]

    def _settle(self, stream: int, wanted: int) -> None:
        """Draw a stream again from where it was calm, until ``wanted`` samples are ahead."""
        watch, own = _watched(self), np.array([stream])
        self._intervene(stream)
        while watch.filled[stream] < wanted:
            verdict = self._judge(self._draw_alone(stream), own)[0]
            if verdict is Verdict.CALM:
                self._mark(own)
            elif verdict is not Verdict.SUSPECT:
                self._intervene(stream)

    def _intervene(self, stream: int) -> None:
        """Take a stream back, or let it begin anew, as the guard says."""
        watch, own = _watched(self), np.array([stream])
        guard, rate, noticed = watch.guard, watch.sample_rate, int(self._drawn[stream])
        remedy, kind = guard.remedy(stream), guard.kinds[stream]
        if kind in ENDLESS:  # what was made of it is well
            self._mark(own)
        rows = self._rows(own)
        self._engine.put(self._state, rows, self._engine.take(watch.back, rows))
        self._last[stream] = watch.back_last[stream]
        for name, array in watch.guard.running.dump().items():
            array[stream] = watch.back_running[name][stream]
        watch.filled[stream] = watch.clear[stream]
        self._seeds[stream] = other_seed(self._seeds[stream])
        if remedy == "begun anew":
            self._begin_anew(stream)
        incident = Incident(
            stream, noticed / rate, kind, remedy, int(self._drawn[stream]) / rate
        )  # fmt: skip
        watch.incidents.append(incident)
        log.info("guard: %s", incident)

    def _begin_anew(self, stream: int) -> None:
        watch, own = _watched(self), np.array([stream])
        label, speaker = (int(number) for number in watch.asked[stream])
        if self._schedules:  # says what is asked for when the next sample is drawn
            label = -1
        nobody = [-1] * (len(self._rows(own)) - 1)
        fresh = self._engine.begin([label, *nobody], [speaker, *nobody])
        if self.phase:  # rows in step with each other stay so
            silence = np.full((1 + len(nobody), self.phase), SILENCE, np.uint8)
            self._engine.feed(fresh, silence)
        self._engine.put(self._state, self._rows(own), fresh)
        self._last[stream] = SILENCE
        watch.guard.running.forget(stream)
        self._mark(own)


def _watched(one: Generation) -> Watch:
    assert one._watch is not None
    return one._watch


def _draw_jointly(made: Sequence[Generation], samples: int) -> list[Codes]:
    """The next codes of several generations, drawn in one call of the engine."""
    if not made:
        return []
    how, engine = made[0].sampling, made[0]._engine
    if len(made) == 1:
        one = made[0]
        drawn = _draw(
            engine, one._state, one._last, how, one._seeds, one._drawn, samples, one._schedules
        )
        if one._watch is None:
            one.position += samples
        return [drawn]
    # With guidance a state has a second half, asked for nobody; halves stay together.
    halves = 1 if how.guidance == 1 else 2
    states = [_halves(engine.dump(one._state), halves) for one in made]
    state = engine.restore(
        {
            name: np.concatenate([own[half][name] for half in range(halves) for own in states])
            for name in states[0][0]
        }
    )
    last = np.concatenate([one._last for one in made])
    first = np.concatenate([one._drawn for one in made])
    seeds = np.concatenate([one._seeds for one in made])
    asked = [own for one in made for own in one._schedules]
    codes = _draw(engine, state, last, how, seeds, first, samples, asked)
    after, at = _halves(engine.dump(state), halves), 0
    parts = []
    for one in made:
        own = slice(at, at + one.streams)
        one._state = engine.restore(
            {
                name: np.concatenate([after[half][name][own] for half in range(halves)])
                for name in after[0]
            }
        )
        one._last = last[own].copy()
        if one._watch is None:
            one.position += samples
        parts.append(codes[own])
        at += one.streams
    return parts


def _draw(
    engine: WaveEngine,
    state: Any,
    last: Codes,
    how: Sampling,
    seeds: NDArray[np.uint64],
    first: NDArray[np.int64],
    samples: int,
    schedules: Sequence[Schedule],
) -> Codes:
    """The engine's ``draw``, cut where a stream's schedule asks for something else.

    What is asked for is told anew with every call: it is a function of the place alone, whatever
    state a stream was taken back to.
    """
    if not schedules:
        return engine.draw(state, last, how, seeds, first, samples)
    parts: list[Codes] = []
    told: list[int | None] = [None] * len(schedules)
    done = 0
    while done < samples or not parts:
        places = [int(at) + done for at in first]
        rows = [own.at(place) for own, place in zip(schedules, places, strict=True)]
        fresh = [i for i, row in enumerate(rows) if row != told[i]]
        speakers = [schedules[i].speaker for i in fresh]
        engine.tell(state, np.array(fresh, np.intp), [rows[i] for i in fresh], speakers)
        told[:] = rows
        left = [own.left(place) for own, place in zip(schedules, places, strict=True)]
        piece = min([samples - done, *(until for until in left if until is not None)])
        silent = [i for i, row in enumerate(rows) if row == schedules[i].silence]
        parts.append(_draw_or_rest(engine, state, last, how, seeds, first + done, piece, silent))
        done += piece
    return np.concatenate(parts, 1) if len(parts) > 1 else parts[0]


def _draw_or_rest(
    engine: WaveEngine,
    state: Any,
    last: Codes,
    how: Sampling,
    seeds: NDArray[np.uint64],
    first: NDArray[np.int64],
    samples: int,
    silent: Sequence[int],
) -> Codes:
    """The engine's ``draw``, of which some streams hear silence in the place of what they drew.

    Pauses in the strings that were learnt from are silent to the last bit; what a model draws there
    is now and then the beginning of a word that nobody asked for.
    """
    if not silent or not samples:
        return engine.draw(state, last, how, seeds, first, samples)
    streams = np.array(silent)
    rows = streams if how.guidance == 1 else np.concatenate([streams, len(last) + streams])
    heard = np.full((len(rows), samples), SILENCE, np.uint8)
    heard[:, 0] = last[rows % len(last)]
    resting = engine.take(state, rows)
    engine.feed(resting, heard)
    if len(silent) < len(last):
        codes = engine.draw(state, last, how, seeds, first, samples)
    else:
        codes = np.empty((len(last), samples), np.uint8)
    engine.put(state, rows, resting)
    codes[streams] = last[streams] = SILENCE
    return codes


def _halves(arrays: dict[str, NDArray[Any]], halves: int) -> list[dict[str, NDArray[Any]]]:
    """The parts of a state's rows, first to last."""
    split = {name: np.split(array, halves) for name, array in arrays.items()}
    return [{name: parts[half] for name, parts in split.items()} for half in range(halves)]
