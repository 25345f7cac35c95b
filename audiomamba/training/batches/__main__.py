"""Measure how long batches take: ``python -m audiomamba.training.batches --profile …``."""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TypeVar

import torch

from audiomamba.audio.mel import MelConfig
from audiomamba.audio.mel_torch import log_mel
from audiomamba.text.vocabulary import Vocabulary
from audiomamba.training.augment import Augmenter, noise_bank, room_bank
from audiomamba.training.batches import BatchConfig, Batches, Part, SpeechPool
from audiomamba.training.corpus import Corpus

T = TypeVar("T")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Load corpora and time the making of batches.")
    parser.add_argument("--corpus", type=Path, nargs="+", default=[], help="synthetic corpora")
    parser.add_argument("--real", type=Path, nargs="+", default=[], help="recorded corpora")
    parser.add_argument("--noise", type=Path, nargs="+", default=[], help="noise corpora")
    parser.add_argument("--tokenizer", type=Path, required=True, help="tokenizer.model")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch-seconds", type=float, default=1000.0)
    parser.add_argument("--profile", type=int, nargs="?", const=60, default=0, metavar="BATCHES")
    return parser.parse_args()


class _Stopwatch:
    """Wall time of each stage, the device's work included."""

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)
        self.ms: dict[str, list[float]] = defaultdict(list)

    def __call__(self, stage: str, work: Callable[[], T]) -> T:
        began = time.perf_counter()
        result = work()
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self.ms[stage].append(1e3 * (time.perf_counter() - began))
        return result


def main() -> None:
    """Print what the pool holds and, with ``--profile``, milliseconds a stage of a batch."""
    options = _options()
    watch = _Stopwatch(options.device)
    noise = [Corpus(folder) for folder in options.noise]
    augmenter = watch(
        "banks", lambda: Augmenter(room_bank(noise), noise_bank(noise), device=options.device)
    )
    parts = [Part(Corpus(folder), False) for folder in options.corpus]
    parts += [Part(Corpus(folder), True) for folder in options.real]
    encode = Vocabulary.load(options.tokenizer).encode
    pool = watch("load", lambda: SpeechPool.load(parts, encode, device=options.device))
    config = BatchConfig(batch_seconds=options.batch_seconds, augment_until=0)
    batches = Batches(pool, config, augmenter)
    print(
        f"{pool.seconds / 3600:.2f} h on {options.device}; "
        + ", ".join(f"{stage} {ms[0] / 1e3:.1f} s" for stage, ms in watch.ms.items())
    )
    for group in pool.groups:
        kind = "real" if group.real else "synthetic"
        print(
            f"  {group.name:45s} {kind:10s} {len(group.members):8d} {group.seconds / 60:9.1f} min"
        )
    watch.ms.clear()
    speech = filled = audio = 0.0
    warm = len(config.row_seconds) * 2
    for number in range(options.profile + warm if options.profile else 0):
        if number == warm:
            watch.ms.clear()
        planned = watch("plan", lambda: batches.plan(number))  # noqa: B023 (called at once)
        batch = watch("assemble", lambda: batches.assemble(planned))  # noqa: B023
        watch("augment", lambda: batches.augment_(batch, planned))  # noqa: B023
        features = watch("mel", lambda: log_mel(batch.samples, MelConfig()))  # noqa: B023
        watch("mask", lambda: batches.augment_features(features, MelConfig(), number))  # noqa: B023
        speech += planned.rows.speech_seconds
        filled += planned.rows.filled_seconds
        audio += batch.seconds
    for stage, ms in watch.ms.items():
        print(f"  {stage:10s} median {median(ms):8.2f} ms, worst {max(ms):8.2f} ms")
    if audio:
        print(f"  speech {speech / audio:.1%} of the audio, with gaps between {filled / audio:.1%}")


if __name__ == "__main__":
    main()
