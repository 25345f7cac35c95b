"""Where each word and phone of a recording is, when its text is known.

The transcriber's phone head was trained on a synthetic voice, whose phones have exact times. So its
posteriors say where they are in real speech too: the text's phones are laid along them by dynamic
programming (Viterbi), with a gap allowed before, between and after the words. On frames of 40 ms a
boundary is good to some 30 ms, where the peaks of CTC wander by twice that.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from audiomamba.audio.features_torch import features_of_samples
from audiomamba.errors import ModelError
from audiomamba.models.subsample import FACTOR
from audiomamba.models.transcriber import Transcriber
from audiomamba.training.batches.assembly import SPEECH_LEVEL
from audiomamba.training.batches.config import BatchConfig
from audiomamba.training.corpus import SAMPLE_RATE
from audiomamba.training.speech.g2p import Accent, Phonemiser
from audiomamba.training.speech.phones import fold_marks

__all__ = ["Aligner", "Alignment", "best_path"]

_GAP = 0  # the phone id of silence
_PAD_S = 0.5  # before a recording, and after it, where the model still names its last phones
_FRAME_S = 0.04
_CENTRE_S = 0.0125  # of the last window that a frame sees


@dataclass(frozen=True, slots=True)
class Alignment:
    """Times are seconds of the recording.

    Attributes:
        phones: ``(P,)`` ids, 0 for a gap, one after the other without a hole.
        starts: ``(P,)`` where each begins; it lasts until the next.
        words: ``(W, 2)`` where each word begins and ends.
        score: Mean log-probability a frame of the path.
    """

    phones: NDArray[np.uint8]
    starts: NDArray[np.float64]
    words: NDArray[np.float64]
    score: float


class Aligner:
    """Aligns with the phone head of ``model``.

    Args:
        model: A transcriber with a phone head, in evaluation mode.
        phonemiser: Words to phones.
        delay_s: How long after it sounds a phone is named, as in the model's training. By default
            what the experiments name: that of a causal network, and the look-ahead on top of it.

    Raises:
        ModelError: the model has no phone head.
    """

    def __init__(
        self, model: Transcriber, phonemiser: Phonemiser, *, delay_s: float | None = None
    ) -> None:
        if not model.config.phone_layer:
            raise ModelError("alignment wants a transcriber with a phone head (model.phone_layer)")
        self._model, self._phonemiser = model, phonemiser
        usual_s = BatchConfig().phone_delay_s + model.config.phone_look_ahead_s
        self._delay_s = usual_s if delay_s is None else delay_s
        self._device = next(model.parameters()).device

    def align(self, samples: NDArray[np.int16], words: Sequence[str]) -> Alignment | None:
        """Align ``words`` with ``samples (S,)`` at 16 kHz, by the accent that fits better.

        None where they cannot be: a word has no phones, or there are more of them than frames.
        """
        return self.align_all([(samples, words)])[0]

    def align_all(
        self, recordings: Sequence[tuple[NDArray[np.int16], Sequence[str]]]
    ) -> list[Alignment | None]:
        """:meth:`align` of each, by one run of the model; best where they are about as long."""
        return [
            self._best(log_probs, words)
            for log_probs, (_, words) in zip(
                self._posteriors([samples for samples, _ in recordings]), recordings, strict=True
            )
        ]

    def _best(self, log_probs: NDArray[np.float32], words: Sequence[str]) -> Alignment | None:
        found = (self._aligned(log_probs, words, accent) for accent in ("us", "gb"))
        return max((a for a in found if a is not None), key=lambda a: a.score, default=None)

    @torch.inference_mode()
    def _posteriors(self, recordings: Sequence[NDArray[np.int16]]) -> list[NDArray[np.float32]]:
        """Log-probabilities ``(T, phones)`` of each, frame 0 at the start of the padding."""
        pad = round(_PAD_S * SAMPLE_RATE)
        lengths = [len(samples) + 2 * pad for samples in recordings]
        padded = torch.zeros(len(recordings), max(lengths))
        for row, samples in zip(padded, recordings, strict=True):
            sound = torch.from_numpy(samples.astype(np.float32) / 32_768)
            sound *= SPEECH_LEVEL / sound.square().mean().sqrt().clamp(min=1e-4)
            row[pad : pad + len(sound)] = sound
        heard = self._model.config.features
        features = features_of_samples(padded.to(self._device), heard)
        out, _ = self._model(features[:, : features.shape[1] // FACTOR * FACTOR])
        log_probs = out.phone_logits.float().log_softmax(-1).cpu().numpy()
        frames = [((n - heard.window) // heard.hop + 1) // FACTOR for n in lengths]
        return [row[:T] for row, T in zip(log_probs, frames, strict=True)]

    def _aligned(
        self, log_probs: NDArray[np.float32], words: Sequence[str], accent: Accent
    ) -> Alignment | None:
        phones, owners = [_GAP], [-1]  # a gap stands before each word and after the last
        for number, word in enumerate(words):
            ids = self._phones(word, accent)
            if not ids:
                return None
            phones += [*ids, _GAP]
            owners += [number] * len(ids) + [-1]
        states = np.array(phones)
        path = best_path(log_probs[:, states], states == _GAP)
        if path is None:
            return None
        score = float(np.mean(log_probs[np.arange(len(path)), states[path]]))
        entered = np.flatnonzero(np.diff(path, prepend=-1))
        owner = np.array(owners)[path[entered]]
        # A frame answers for a moment in its middle; it began half a frame before.
        at = entered * _FRAME_S + _CENTRE_S - self._delay_s - _FRAME_S / 2 - _PAD_S
        starts = np.maximum(at, 0.0)
        starts[0] = 0.0
        ends = np.append(starts[1:], max(starts[-1], len(path) * _FRAME_S - 2 * _PAD_S))
        spans = [(starts[owner == n][0], ends[owner == n][-1]) for n in range(len(words))]
        kept = np.array(phones, np.uint8)[path[entered]]
        return Alignment(kept, starts, np.array(spans).reshape(-1, 2), score)

    def _phones(self, word: str, accent: Accent) -> list[int]:
        """Phones of a word, stress and length marks taken away."""
        ids = np.array([0, *self._phonemiser.ids(word, accent), 0], np.uint8)
        folded, _ = fold_marks(ids, np.ones(len(ids), np.int64))
        return [int(i) for i in folded if i != _GAP]


def best_path(scores: NDArray[np.float32], optional: NDArray[np.bool_]) -> NDArray[np.int64] | None:
    """The best way through states in their order, a state or more frames each.

    Args:
        scores: ``(T, S)`` log-probability of each state in each frame.
        optional: ``(S,)`` states that may be passed over; no two stand side by side.

    Returns:
        The state of each frame, ``(T,)``; None where there are fewer frames than states that must
        be passed.

    Source: Viterbi, "Error bounds for convolutional codes …", 1967.
    """
    T, S = scores.shape
    best = np.full(S, -np.inf)
    best[0] = scores[0, 0]
    if optional[0] and S > 1:
        best[1] = scores[0, 1]
    came = np.zeros((T, S), np.int8)  # states gone forward with the frame
    skips = np.zeros(S, np.bool_)
    skips[2:] = optional[1:-1]
    ways = np.full((3, S), -np.inf)
    for t in range(1, T):
        ways[0] = best
        ways[1, 1:] = best[:-1]
        ways[2, 2:] = np.where(skips[2:], best[:-2], -np.inf)
        came[t] = ways.argmax(0)
        best = ways.max(0) + scores[t]
    last = S - 1
    if optional[-1] and S > 1 and best[-2] > best[-1]:
        last = S - 2
    if best[last] == -np.inf:
        return None
    path = np.empty(T, np.int64)
    for t in range(T - 1, -1, -1):
        path[t] = last
        last -= int(came[t, last])
    return path
