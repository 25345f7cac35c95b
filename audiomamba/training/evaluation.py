"""Fast evaluation while training: whole recordings in batches, best piece a frame.

It measures the model and not the service: no endpoints, no chunks. ``audiomamba evaluate`` measures
through the public stream.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from audiomamba.audio.features import FeatureConfig
from audiomamba.audio.features_torch import features_of_samples
from audiomamba.models.subsample import FACTOR
from audiomamba.text.vocabulary import BLANK, Vocabulary
from audiomamba.training.clips import Clip
from audiomamba.training.word_errors import Rates, Result, rates

__all__ = ["Evaluator", "collapse"]

_RATE = 16_000  # Hz
_TAIL_S = 0.8  # seconds of silence after each clip beside the look-ahead, for what is written late


@dataclass(frozen=True, slots=True)
class _Batch:
    clips: list[Clip]
    samples: Tensor  # (B, S), silence after each clip


class Evaluator:
    """Word error rates of a model on clips that stay on the device.

    Args:
        clips: What to measure on.
        vocabulary: Of the model.
        features: Of the model.
        device: Where the model is.
        batch_s: Audio a forward, padding included.
        look_ahead_s: Of the model: silence after each clip is so much longer.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        vocabulary: Vocabulary,
        features: FeatureConfig,
        *,
        device: torch.device,
        batch_s: float,
        look_ahead_s: float = 0.0,
    ) -> None:
        self._vocabulary, self._features = vocabulary, features
        self._tail_s = _TAIL_S + look_ahead_s
        self._batches = [
            _Batch(group, _padded(group, self._tail_s).to(device))
            for group in _by_length(clips, batch_s, self._tail_s)
        ]

    @torch.no_grad()
    def measure(
        self, model: nn.Module, weights: dict[str, Tensor], *, bf16: bool
    ) -> tuple[dict[str, Rates], list[Result]]:
        """Rates and results of ``model`` with ``weights`` in the place of its own."""
        results: list[Result] = []
        training = model.training
        model.eval()
        try:
            for batch in self._batches:
                features = features_of_samples(batch.samples, self._features)
                features = features[:, : features.shape[1] // FACTOR * FACTOR]
                with torch.autocast(batch.samples.device.type, torch.bfloat16, enabled=bf16):
                    out, _ = torch.func.functional_call(model, weights, (features,))
                best = out.logits.argmax(-1).cpu().numpy()
                for clip, row in zip(batch.clips, best, strict=True):
                    frames = (len(clip.samples) / _RATE + self._tail_s) * 100 / FACTOR
                    heard = self._vocabulary.decode(collapse(row[: int(frames)]))
                    seconds = len(clip.samples) / _RATE
                    results.append(Result(clip.name, clip.group, clip.text, heard, seconds))
        finally:
            model.train(training)
        return rates(results), results


def collapse(best: np.ndarray) -> list[int]:
    """CTC's rule: repeats become one, then blanks go. ``best (T,)`` are ids."""
    changed = np.concatenate([[True], best[1:] != best[:-1]]) if len(best) else np.zeros(0, bool)
    return [int(i) for i in best[changed] if i != BLANK]


def _padded(clips: list[Clip], tail_s: float) -> Tensor:
    tail = torch.zeros(round(tail_s * _RATE))
    rows = [torch.cat([torch.from_numpy(c.samples.copy()), tail]) for c in clips]
    return pad_sequence(rows, batch_first=True)


def _by_length(clips: Sequence[Clip], batch_s: float, tail_s: float) -> Iterator[list[Clip]]:
    group: list[Clip] = []
    for clip in sorted(clips, key=lambda c: len(c.samples)):
        if group and (len(group) + 1) * (len(clip.samples) / _RATE + tail_s) > batch_s:
            yield group
            group = []
        group.append(clip)
    if group:
        yield group
