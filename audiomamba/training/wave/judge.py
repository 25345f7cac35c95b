"""Is what was generated what was asked for? Several judges say, beside real recordings.

    python -m audiomamba.training.wave.judge wave-digits --manifests data/digits.jsonl \\
        data/train.jsonl --pocketsphinx --whisper tiny.en=FOLDER --temperatures 0.8 0.9 1.0

Recordings of each speaker of the model, held out from its training, are heard as they are
(*real*), as classes of samples at the model's rate (*resynthesised*: the best a perfect model could
do), and as the model makes them when asked for the same words (*made*). The judges:

- two classifiers of our own (classifier.py), trained once in a minute each and kept in ``--cache``:
  one on recordings of all the *others*, who cannot be pleased by copies, and one on the training
  recordings of everybody, who knows more voices; manifests of words that were joined help both;
- ``listen-en``, told nothing of which words may come;
- pocketsphinx with a grammar of one word, and Whisper, where they are installed.

Recognisers hear words alone, or ``--strings`` of several, which those of sentences know better.

It prints two tables: accuracy by judge, and by speaker what the second classifier makes of it: its
accuracy, the inception score, and the Fréchet distance of the features to those of real held-out
recordings; ``floor`` is that distance for training recordings. The features are our own: figures
of other papers are not on the same scale.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audiomamba.audio.mulaw import expand
from audiomamba.errors import ConfigError, Error
from audiomamba.models.loading import load
from audiomamba.models.wave.synthesizer import Synthesizer
from audiomamba.training.peers import Recognize, faster_whisper, ours, pocketsphinx
from audiomamba.training.wave.classifier import Judge, Opinion, cache_folder, kept_judge
from audiomamba.training.wave.config import WaveDataConfig
from audiomamba.training.wave.heard import REAL, Heard, recordings_of, strings_of
from audiomamba.training.wave.listeners import heard_right
from audiomamba.training.wave.run import gather_takes
from audiomamba.training.wave.takes import Take, numbers, read_sounds

__all__ = ["frechet_distance", "inception_score", "main", "tables"]

OTHERS, ALL = "classifier that knows the other speakers", "classifier that knows all speakers"


def inception_score(probabilities: Tensor) -> float:
    """exp of the mean divergence of each recording's classes from those of all.

    Source: Salimans et al., "Improved Techniques for Training GANs", 2016, section 4.
    """
    p = probabilities.double().clamp(min=1e-12)
    return float((p * (p / p.mean(0)).log()).sum(1).mean().exp())


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Between Gaussians fitted to features ``(n, d)`` and ``(m, d)``.

    Source: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule", 2017, equation 6.
    """
    means, covariances = (
        [x.double().mean(0) for x in (a, b)],
        [x.double().t().cov() for x in (a, b)],
    )
    # The trace of a product's root is the sum of the roots of its eigenvalues.
    roots = torch.linalg.eigvals(covariances[0] @ covariances[1]).real.clamp(min=0).sqrt()
    spread = covariances[0].trace() + covariances[1].trace() - 2 * roots.sum()
    return float((means[0] - means[1]).square().sum() + spread.clamp(min=0))


def by_classifier(judge: Judge, heard: Sequence[Heard], known: Sequence[Take]) -> dict[str, Any]:
    """What a classifier makes of the sources of one speaker; ``known``: what was trained on."""
    opinions = {one.source: judge.hear(one.sounds) for one in heard}
    real = opinions[REAL]
    row: dict[str, Any] = {"speaker": heard[0].speaker}
    for one in heard:
        opinion = opinions[one.source]
        row[one.source] = {
            "recordings": len(one.sounds),
            "accuracy": _accuracy(opinion, numbers(one.labels, judge.labels)),
            "inception": round(inception_score(opinion.probabilities), 3),
            "frechet": round(frechet_distance(opinion.features, real.features), 3),
        }
    if len(known) > 1:
        floor = judge.hear([expand(take.codes) for take in known]).features
        row["floor"] = round(frechet_distance(floor, real.features), 3)
    return row


def tables(accuracies: dict[str, dict[str, float]], rows: Sequence[dict[str, Any]]) -> str:
    """Accuracy by judge and source, then the classifier's figures by speaker, as Markdown."""
    sources = list(next(iter(accuracies.values())))
    lines = [f"| % right, by | {' | '.join(sources)} |", "|---|" + "---:|" * len(sources)]
    for judge, found in accuracies.items():
        cells = [f"{100 * found[source]:.1f}" for source in sources]
        lines.append(f"| {judge} | {' | '.join(cells)} |")
    head = ["speaker"]
    for source in sources:
        head += [f"{source}: % right", "inception"]
        head += [] if source == REAL else ["Fréchet"]
    lines += ["", f"| {' | '.join(head)} | floor |", "|---|" + "---:|" * len(head)]
    for row in rows:
        cells = [row["speaker"]]
        for source in sources:
            cells += [f"{100 * row[source]['accuracy']:.1f}", f"{row[source]['inception']:.2f}"]
            cells += [] if source == REAL else [f"{row[source]['frechet']:.2f}"]
        lines.append(f"| {' | '.join(cells)} | {row.get('floor', '')} |")
    return "\n".join(lines)


def _accuracy(opinion: Opinion, labels: Tensor) -> float:
    return round(float((opinion.probabilities.argmax(1) == labels).float().mean()), 4)


def _mean(rows: Sequence[dict[str, Any]], source: str) -> float:
    """Accuracy over all recordings of a source."""
    counts = [row[source]["recordings"] for row in rows]
    right = [row[source]["accuracy"] * n for row, n in zip(rows, counts, strict=True)]
    return float(sum(right) / sum(counts))


def _recognisers(options: argparse.Namespace, labels: Sequence[str]) -> dict[str, Recognize]:
    found: dict[str, Recognize] = {}
    for name in options.listen:
        found[name] = ours(name, chunk_ms=100.0)
    if options.pocketsphinx:
        several = options.strings > 1
        name = f"pocketsphinx, grammar of {'words' if several else 'one word'}"
        found[name] = pocketsphinx(labels, several=several)
    for name, _, folder in (given.partition("=") for given in options.whisper):
        found[f"whisper {name}"] = faster_whisper(Path(folder))
    return found


def _listened(
    recognize: Recognize, heard: Sequence[Heard], sources: Sequence[str], most: int, rate: int
) -> dict[str, float]:
    """Share of words a recogniser has right by source; ``most`` recordings of each speaker."""
    found = {}
    for source in sources:
        parts = [one.some(most) for one in heard if one.source == source]
        sounds = [sound for part in parts for sound in part.sounds]
        labels = [label for part in parts for label in part.labels]
        found[source] = heard_right(recognize, sounds, labels, rate)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m audiomamba.training.wave.judge",
        description="Accuracy and variety of generated words, beside real ones.",
    )
    parser.add_argument("model", help="name or folder")
    parser.add_argument("--manifests", nargs="+", required=True, help="recordings, .jsonl")
    parser.add_argument("--corpora", nargs="*", default=[], help="folders of made speech")
    parser.add_argument("--speakers", nargs="*", help="these alone")
    parser.add_argument(
        "--each", type=int, default=10, help="made recordings a label (%(default)s)"
    )
    parser.add_argument("--temperatures", type=float, nargs="*", default=[])
    parser.add_argument("--listen", nargs="*", default=["listen-en"], metavar="MODEL")
    parser.add_argument("--pocketsphinx", action="store_true")
    parser.add_argument("--whisper", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument(
        "--most", type=int, default=50,
        help="recordings a speaker and source that the recognisers hear (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--strings", type=int, default=1, metavar="WORDS",
        help="recognisers hear strings of so many words (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--steps", type=int, default=800, help="of each classifier (%(default)s)")
    parser.add_argument(
        "--seed", type=int, nargs="+", default=[0],
        help="of what is made, several apart; the first also of the classifiers (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--cache", type=Path, default=cache_folder(), help="(%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE.json")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Judge a model and print the tables.

    Raises:
        ConfigError: nobody speaks both in the model and, held out, in the manifests.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.strings < 1:
        parser.error(f"--strings must be at least 1, got {options.strings}")
    model = load(options.model)
    if not isinstance(model, Synthesizer):
        parser.error(f"{options.model} makes no sound")
    labels, rate = model.config.labels, model.sample_rate
    data = WaveDataConfig(
        manifests=options.manifests, corpora=options.corpora, labels=labels, peak=0.7, trim_db=40.0
    )
    sounds = [s for m in options.manifests for s in read_sounds(Path(m), data, rate)]
    takes = [take for take in gather_takes(data, rate) if take.label in labels]
    recorded = {sound.speaker for sound in sounds if sound.held_out}
    speakers = [name for name in options.speakers or model.config.speakers if name in recorded]
    if not speakers:
        raise ConfigError(f"judge: no held-out recordings of {', '.join(model.config.speakers)}")

    def trained(on: Sequence[Take]) -> Judge:
        return kept_judge(
            on, labels, rate, options.cache, steps=options.steps, seed=options.seed[0]
        )

    rows, stranger, heard = [], [], []
    settings = {"temperatures": options.temperatures, "seeds": options.seed}
    count = -(-options.each * len(labels) // options.strings)
    for speaker in speakers:
        own = recordings_of(speaker, sounds, model, data, each=options.each, **settings)
        known = [take for take in takes if take.speaker == speaker and not take.held_out]
        others = [take for take in takes if take.speaker != speaker]
        stranger.append(by_classifier(trained(others), own, ()))
        rows.append(by_classifier(trained([t for t in takes if not t.held_out]), own, known))
        if options.strings > 1:
            heard += strings_of(
                speaker, sounds, model, data, words=options.strings, count=count, **settings
            )
        else:
            heard += own
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    sources = [one.source for one in heard[: len(heard) // len(speakers)]]
    accuracies = {
        name: {source: _mean(found, source) for source in sources}
        for name, found in ((OTHERS, stranger), (ALL, rows))
    }
    for name, recognize in _recognisers(options, labels).items():
        accuracies[name] = _listened(recognize, heard, sources, options.most, rate)
        print(json.dumps({name: accuracies[name]}), file=sys.stderr, flush=True)
    print(tables(accuracies, rows))
    if options.json:
        options.json.write_text(json.dumps({"judges": accuracies, "speakers": rows}, indent=1))


if __name__ == "__main__":
    torch.set_num_threads(1)
    try:
        main()
    except Error as error:
        sys.exit(f"judge: {error}")
