"""How true a model's word confidences are, and making them so::

    python -m audiomamba.training.calibration dev.jsonl digits.jsonl
    python -m audiomamba.training.calibration dev.jsonl digits.jsonl --fit train.jsonl --write

Of the words that are said to be right with probability 0.7, seven of ten should be. The expected
calibration error (ECE) is how far off that is: the mean, over the words, of the distance between
confidence and share of right words in ten bins of confidence.

``--fit`` fits the scale of text/confidence.py on recordings of the training set, ``--write`` puts
it into the checkpoint's config.json. The model knows those recordings and is right more often than
with strangers. So they are disturbed: voices are made others' by playing them faster or slower,
and noise is added. And so one number is fitted and no more: how often the model is right on the
whole, which a second would fit, does not carry over to strangers; how far its odds reach does.
"""

import argparse
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audiomamba.errors import ConfigError
from audiomamba.models.checkpoint_files import read_config, write_config
from audiomamba.models.listener import Listener
from audiomamba.models.registry import find
from audiomamba.text.confidence import calibrated
from audiomamba.training.clips import Clip, read_clips

__all__ = ["Heard", "disturb", "expected_error", "fit", "hear", "main"]

Floats = NDArray[np.float64]
BINS = 10
RATE = 16_000
SPEEDS = (0.86, 1.16)  # 2.6 semitones down and up: another person's voice
NOISE_DB = (5.0, 15.0)  # of the voice over the noise
_LEAST = 1e-6


@dataclass(frozen=True, slots=True)
class Heard:
    """Words that a model wrote.

    Attributes:
        certain: ``(n,)`` float64, probability of each word's least certain piece.
        right: ``(n,)`` bool, whether the word was said there.
    """

    certain: Floats
    right: NDArray[np.bool_]


def hear(listener: Listener, clips: Iterable[Clip], *, disturbed: bool = False) -> Heard:
    """What becomes of clips; ``disturbed``: each in another voice, and in noise."""
    certain: list[float] = []
    right: list[bool] = []
    decoder = listener.decoder_config(confidence_scale=1.0)
    random = np.random.default_rng(0)
    for number, clip in enumerate(clips):
        samples, rate = clip.samples, RATE
        if disturbed:
            samples = disturb(samples, random)
            rate = round(RATE * SPEEDS[number % len(SPEEDS)])
        words = listener.transcribe(samples, sample_rate=rate, decoder=decoder).words
        certain += [word.confidence for word in words]
        right += _right(clip.text, [word.word for word in words])
    return Heard(np.array(certain), np.array(right, bool))


def disturb(samples: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """``samples`` with white noise, as much under them in dB as is drawn."""
    power = float(np.mean(np.square(samples), dtype=np.float64))
    level = np.sqrt(power) * 10 ** (-random.uniform(*NOISE_DB) / 20)
    noise = random.standard_normal(len(samples), dtype=np.float32)
    return samples + np.float32(level) * noise


def fit(heard: Heard) -> float:
    """The scale of greatest likelihood, by Newton's method.

    Raises:
        ConfigError: there is nothing to fit: too few words, or all of them right or wrong.
    """
    right = int(heard.right.sum())
    if not 10 <= right <= len(heard.right) - 10:
        raise ConfigError(
            f"calibration: wants 10 right and 10 wrong words at least, got {right} right of "
            f"{len(heard.right)}"
        )
    p = np.clip(heard.certain, _LEAST, 1 - _LEAST)
    odds = np.log(p) - np.log1p(-p)
    scale = 1.0
    for _ in range(100):
        q = 1 / (1 + np.exp(-scale * odds))
        step = np.sum(odds * (q - heard.right)) / np.sum(odds**2 * q * (1 - q))
        scale = min(max(scale - float(step), 0.01), 10.0)
    return round(scale, 4)


def expected_error(confidence: Floats, right: NDArray[np.bool_]) -> float:
    """ECE over ten bins of equal width; 0 where there are no words."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    sums = np.bincount(bins, confidence - right, BINS)
    return float(np.abs(sums).sum() / max(len(confidence), 1))


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the module's docstring."""
    from audiomamba.models.loading import load

    parser = argparse.ArgumentParser(prog="python -m audiomamba.training.calibration")
    parser.add_argument(
        "manifests", type=Path, nargs="+", help="to report, of people not trained on"
    )
    parser.add_argument("--model", default="listen-en", help="name or folder (%(default)s)")
    parser.add_argument("--split", default="dev", help="of those (%(default)s)")
    parser.add_argument("--fit", type=Path, nargs="+", metavar="MANIFEST", help="training set")
    parser.add_argument("--clips", type=int, default=300, help="of each of those (%(default)s)")
    parser.add_argument("--write", action="store_true", help="put it into the checkpoint")
    options = parser.parse_args(arguments)
    listener = load(options.model)
    reported: dict[str, Heard] = {}
    for manifest in options.manifests:
        clips = sorted(read_clips(manifest, split=options.split), key=lambda clip: clip.group)
        for group, of_group in itertools.groupby(clips, key=lambda clip: clip.group):
            heard = hear(listener, of_group)
            reported[group] = _joined([reported[group], heard] if group in reported else [heard])
    columns = {"unscaled": 1.0, "as it is": listener.decoder_config().confidence_scale}
    if options.fit:
        chosen = [clip for manifest in options.fit for clip in _spread(manifest, options.clips)]
        columns["fitted"] = fit(hear(listener, chosen, disturbed=True))
    _print(reported, columns)
    if options.fit and options.write:
        folder = find(options.model)
        config = read_config(folder)
        config["model"]["confidence_scale"] = columns["fitted"]
        write_config(folder, config)
        print(f"{folder}/config.json: model.confidence_scale {columns['fitted']}")


def _print(reported: dict[str, Heard], columns: dict[str, float]) -> None:
    names = "".join(f" {name} ({scale:g}): mean, ECE % |" for name, scale in columns.items())
    print(f"| group | words | right % |{names}\n|---|---:|---:|" + "---:|" * len(columns))
    for group, heard in {**reported, "all": _joined([*reported.values()])}.items():
        row = f"| {group} | {len(heard.right)} | {100 * heard.right.mean():.1f} |"
        for scale in columns.values():
            confidence = np.array([calibrated(p, scale) for p in heard.certain])
            error = expected_error(confidence, heard.right)
            row += f" {100 * confidence.mean():.1f}, {100 * error:.1f} |"
        print(row)


def _spread(manifest: Path, most: int) -> list[Clip]:
    """Clips of the training set, from all of the manifest."""
    clips = list(read_clips(manifest, split="train"))
    return clips[:: max(1, len(clips) // most)][:most]


def _joined(parts: Sequence[Heard]) -> Heard:
    return Heard(
        np.concatenate([part.certain for part in parts]),
        np.concatenate([part.right for part in parts]),
    )


def _right(said: str, heard: list[str]) -> list[bool]:
    """Which of the words heard were said there, in the alignment with the fewest errors."""
    import jiwer

    if not heard:
        return []
    right = [False] * len(heard)
    for chunk in jiwer.process_words(said, " ".join(heard)).alignments[0]:
        if chunk.type == "equal":
            for at in range(chunk.hyp_start_idx, chunk.hyp_end_idx):
                right[at] = True
    return right


if __name__ == "__main__":
    main()
