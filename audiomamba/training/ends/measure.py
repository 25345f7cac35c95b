"""How soon an utterance is final after its end, and how often it is cut in two before::

    python -m audiomamba.training.ends.measure dev.jsonl --group clear accented

Recordings are joined with pauses of 1.5 to 3.5 s into one stream, which goes through the network
once; then each rule decodes what came of it. First the pause alone, at several lengths; then the
model's endpoint outputs, with the pause of ``--silence`` behind them: as its configuration has the
rule, and at other probabilities. A delay counts from the last sound of a sentence to the moment
when the sound that made it final had come, in time of the stream: what the computing takes is not
in it. A sentence is cut when its words are in more than one final.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audiomamba.errors import ConfigError
from audiomamba.models.listener import Listener
from audiomamba.text.endpoint import EndRule
from audiomamba.text.events import Final
from audiomamba.text.utterances import DecoderConfig
from audiomamba.training.clips import read_clips
from audiomamba.training.ends.streams import RATE, Said, disturb, join

__all__ = ["Heard", "Score", "decode", "hear", "main", "row", "score"]

_FED = RATE // 50  # samples at a time: 20 ms
_BLOCK = 2  # encoder frames, as a server takes them
_MARGIN_S = 0.4  # a word belongs to a sentence from so long before it to so long after

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Heard:
    """What the network made of a block, and how much of the stream it had to wait for."""

    at_s: float
    outputs: Floats  # (T, outputs)


@dataclass(frozen=True, slots=True)
class Score:
    """What a rule did to the sentences of a stream.

    Attributes:
        delays_s: From the end of each sentence that a final ends with to that final.
        cut: Sentences in more than one final.
        merged: Sentences whose final went on into the next one.
        lost: Sentences of which no word was heard.
        texts: What was heard of each.
    """

    delays_s: NDArray[np.float64]
    cut: int
    merged: int
    lost: int
    texts: list[str]


def hear(listener: Listener, samples: Floats) -> list[Heard]:
    """Feed a stream ``(S,)`` at 16 kHz in small pieces, network alone."""
    recognition = listener.recognition(block=_BLOCK, lm=False)
    state = listener.acoustic.init_state()
    heard: list[Heard] = []
    for start in range(0, len(samples), _FED):
        recognition.push(samples[start : start + _FED])
        while (block := recognition.next_block()) is not None:
            outputs, state = listener.acoustic.log_probs(block, state)
            heard.append(Heard(min(start + _FED, len(samples)) / RATE, outputs))
    return heard


def decode(
    listener: Listener, heard: Sequence[Heard], decoder: DecoderConfig, *, lm: bool | None = None
) -> list[tuple[float, Final]]:
    """Finals, each with the second of the stream in which it came."""
    recognition = listener.recognition(block=_BLOCK, decoder=decoder, lm=lm)
    found: list[tuple[float, Final]] = []
    for block in heard:
        events = recognition.accept(block.outputs)
        found += [(block.at_s, event) for event in events if isinstance(event, Final)]
    last_s = heard[-1].at_s if heard else 0.0
    return found + [(last_s, event) for event in recognition.finish() if isinstance(event, Final)]


def score(said: Sequence[Said], finals: Sequence[tuple[float, Final]]) -> Score:
    """Give words to sentences by their middle, and finals by their words."""
    words = [(i, word) for i, (_, final) in enumerate(finals) for word in final.words]
    middles = np.array([(word.start + word.end) / 2 for _, word in words])
    owners = np.full(len(words), -1)
    for number, one in enumerate(said):
        owners[(middles >= one.start - _MARGIN_S) & (middles < one.end + _MARGIN_S)] = number
    in_final = np.array([i for i, _ in words])
    delays: list[float] = []
    cut = merged = lost = 0
    for number, one in enumerate(said):
        mine = np.unique(in_final[owners == number])
        lost += not len(mine)
        cut += len(mine) > 1
        if not len(mine):
            continue
        if owners[in_final == mine[-1]].max() > number:
            merged += 1
        else:
            delays.append(finals[mine[-1]][0] - one.end)
    texts = [
        " ".join(word.word for (_, word), owner in zip(words, owners, strict=True) if owner == n)
        for n in range(len(said))
    ]
    return Score(np.array(delays), cut, merged, lost, texts)


def row(name: str, measured: Score, said: Sequence[Said]) -> str:
    """A line of the table."""
    import jiwer

    errors = 100 * float(jiwer.wer([one.clip.text for one in said], measured.texts))
    median, late = np.quantile(measured.delays_s, [0.5, 0.9]) if len(measured.delays_s) else (0, 0)
    return (
        f"| {name} | {100 * measured.cut / len(said):.1f} | {median:.2f} | {late:.2f} "
        f"| {measured.merged} | {errors:.1f} |"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the module's docstring."""
    from audiomamba.models.loading import load

    options = _parse(arguments)
    clips = [c for path in options.manifests for c in read_clips(path, split=options.split)]
    if options.group:
        clips = [clip for clip in clips if clip.group.split("/")[0] in options.group]
    if options.clips:
        order = np.random.default_rng(0).permutation(len(clips))[: options.clips]
        clips = [clips[i] for i in order]
    if not clips:
        raise ConfigError("measure: there are no such recordings")
    listener: Listener = load(options.model)
    samples, said = join(clips, shortest_s=options.gaps[0], longest_s=options.gaps[1])
    if options.noise_db is not None:
        samples = disturb(samples, said, options.noise_db)
    minutes = len(samples) / RATE / 60
    print(f"{len(said)} sentences, {minutes:.1f} minutes", file=sys.stderr)
    heard = hear(listener, samples)
    print(
        "| ends after | cut, of 100 | median delay, s | 90 % within, s | merged | word errors, % |"
        "\n|---|---:|---:|---:|---:|---:|"
    )
    lm = False if options.greedy else None
    for name, decoder in _rules(listener, options):
        finals = decode(listener, heard, decoder, lm=lm)
        print(row(name, score(said, finals), said), flush=True)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m audiomamba.training.ends.measure")
    parser.add_argument("manifests", nargs="+", type=Path, metavar="MANIFEST")
    parser.add_argument("--model", default="listen-en", help="name or folder")
    parser.add_argument("--split", default="dev", help="(default: %(default)s)")
    parser.add_argument("--group", nargs="*", help="recordings of these alone, such as clear")
    parser.add_argument("--clips", type=int, default=0, help="so many of them, drawn; 0: all")
    parser.add_argument("--gaps", type=float, nargs=2, default=[1.5, 3.5], metavar="S")
    parser.add_argument("--noise-db", type=float, help="of the sentences to noise under all of it")
    parser.add_argument("--greedy", action="store_true", help="without language model")
    parser.add_argument("--pauses", type=float, nargs="*", default=[0.4, 0.6, 0.8, 1.0])
    rule = parser.add_argument_group("the model's outputs, every combination of")
    rule.add_argument("--outputs", type=int, nargs="*", default=[], metavar="N")
    rule.add_argument("--probabilities", type=float, nargs="*", default=[], metavar="P")
    rule.add_argument("--held", type=float, nargs="*", default=[], metavar="S")
    rule.add_argument("--pause", type=float, nargs="*", default=[], metavar="S")
    rule.add_argument("--silence", type=float, nargs="*", default=[], metavar="S")
    return parser.parse_args(arguments)


def _rules(listener: Listener, options: argparse.Namespace) -> Iterator[tuple[str, DecoderConfig]]:
    """What is said of a rule, and the rule."""
    for seconds in options.pauses:
        yield f"a pause of {seconds:g} s", listener.decoder_config(silence_s=seconds)
    if not listener.config.ends:
        return
    shipped = listener.config.endpoint
    if shipped is not None:
        yield "the outputs, as configured", listener.decoder_config()
    start = shipped or EndRule()
    for output, probability, held, pause, silence in product(
        options.outputs or [start.output],
        options.probabilities,
        options.held or [start.held_s],
        options.pause or [start.pause_s],
        options.silence or [listener.config.silence_s],
    ):
        rule = EndRule(output=output, probability=probability, held_s=held, pause_s=pause)
        name = (
            f"{listener.config.ends[output]:g} s quiet at {probability:g} for {held:g} s, "
            f"pause {pause:g} or {silence:g} s"
        )
        yield name, replace(listener.decoder_config(), ends=rule, silence_s=silence)


if __name__ == "__main__":
    main()
