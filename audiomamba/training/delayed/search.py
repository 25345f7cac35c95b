"""Text out of a delayed-streams head: the best token a step, a beam, or the price of a given text.

All of them take the encoder's frames of whole recordings. They say what the head hears; a service
would run the same steps frame by frame, the head's state being of constant size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from audiomamba.models.delayed_streams import NOTHING, DelayedStreams
from audiomamba.nn import StackState, gather
from audiomamba.text.beam import PieceLanguage
from audiomamba.text.ngram import BOUNDARY
from audiomamba.training.delayed.rows import delayed

__all__ = ["SearchConfig", "beam", "greedy", "nats"]

Floats = NDArray[np.float64]


@dataclass(kw_only=True, frozen=True)
class SearchConfig:
    """Width of the search and the weights in it."""

    beam: int = 8  # hypotheses kept
    candidates: int = 8  # pieces tried in a step
    margin: float = 7.0  # nats under the best hypothesis from which one is dropped
    neural_weight: float = 0.0  # of the language model's log-probabilities
    word_bonus: float = 0.0  # for each word
    piece_bonus: float = 0.0  # for each piece


@torch.inference_mode()
def greedy(
    head: DelayedStreams, encoded: Tensor, lengths: Sequence[int], delay: int
) -> list[list[int]]:
    """The pieces written when each step takes its best token.

    Args:
        head: In evaluation mode.
        encoded: ``(B, T, audio_width)``; silence after each recording belongs to it.
        lengths: Of each, in frames; what follows is not read.
        delay: A position in the head's delays.
    """
    state, before = None, encoded.new_zeros(len(encoded), dtype=torch.int64)
    written: list[Tensor] = []
    for frames in _steps(head, encoded):
        log_probs, state = _next(head, frames, before, delay, state)
        before = log_probs.argmax(1)
        written.append(before)
    rows = torch.stack(written, 1).cpu().numpy()
    ends = [length // head.config.stride for length in lengths]
    return [row[:end][row[:end] != NOTHING].tolist() for row, end in zip(rows, ends, strict=True)]


@torch.inference_mode()
def nats(
    head: DelayedStreams, encoded: Tensor, heard: Sequence[NDArray[np.integer]], delay: int
) -> Floats:
    """Negative log-probability of texts of one recording, each written where it was heard.

    Args:
        head: In evaluation mode.
        encoded: ``(T, audio_width)``.
        heard: Of each text ``(T,)``, the piece that begins in each frame.
        delay: A position in the head's delays.

    Returns:
        ``(texts,)``.
    """
    stride, steps = head.config.stride, head.config.delays[delay]
    frames = encoded[: len(encoded) // stride * stride]
    rows = [delayed(row[: len(frames)], stride, steps) for row in heard]
    targets = torch.from_numpy(np.stack(rows)).to(encoded.device)
    before = F.pad(targets[:, :-1], (1, 0), value=NOTHING)
    which = torch.full((len(targets),), delay, device=encoded.device)
    logits, _ = head(frames.expand(len(targets), -1, -1), before, which)
    log_probs = logits.double().log_softmax(-1).gather(2, targets[..., None])[..., 0]
    out: Floats = -log_probs.sum(1).cpu().numpy()
    return out


class _Hypothesis(NamedTuple):
    text: tuple[int, ...]
    heard: float  # log-probability by the head
    fused: float  # weighted, by the language model, and bonuses
    row: int  # of the states it goes on from
    token: int  # written in the last step


@torch.inference_mode()
def beam(
    head: DelayedStreams,
    encoded: Tensor,
    lengths: Sequence[int],
    delay: int,
    config: SearchConfig,
    starts: Floats,
    language: PieceLanguage | None = None,
) -> list[list[int]]:
    """The best text of each recording, many ways to write it kept, a language model heard.

    Two hypotheses that wrote the same pieces in other steps are one; it goes on from the state of
    the likelier.

    Args:
        head: In evaluation mode.
        encoded: ``(B, T, audio_width)``; silence after each recording belongs to it.
        lengths: Of each, in frames; what follows is not read.
        delay: A position in the head's delays.
        config: Widths and weights.
        starts: ``(V,)``, 1 for pieces that begin a word.
        language: Ranks texts too.
    """
    bonus = config.word_bonus * starts + config.piece_bonus
    alive = [[_Hypothesis((), 0.0, 0.0, row, NOTHING)] for row in range(len(encoded))]
    state: StackState | None = head.init_state(len(encoded), device=encoded.device)
    texts = following = None
    if language is not None:
        texts = language.init_state(len(encoded))
        following = language.next(np.full(len(encoded), BOUNDARY, np.intp), texts)
    ends = [length // head.config.stride for length in lengths]
    found: list[list[int]] = [[] for _ in alive]
    for step, frames in enumerate(_steps(head, encoded)):
        owner = [clip for clip, hypotheses in enumerate(alive) for _ in hypotheses]
        before = torch.tensor([h.token for hypotheses in alive for h in hypotheses])
        log_probs, state = _next(head, frames[owner], before.to(encoded.device), delay, state)
        heard, first = log_probs.double().cpu().numpy(), 0
        for clip, hypotheses in enumerate(alive):
            if not hypotheses:
                continue
            rows = slice(first, first + len(hypotheses))
            added = np.broadcast_to(bonus, heard[rows].shape)
            if following is not None:
                added = added + config.neural_weight * following[rows]
            alive[clip] = _extended(hypotheses, first, heard[rows], added, config)
            first += len(hypotheses)
            if step + 1 == ends[clip]:
                found[clip], alive[clip] = list(max(alive[clip], key=_rank).text), []
        kept = [h for hypotheses in alive for h in hypotheses]
        if not kept:
            break
        sources = np.array([h.row for h in kept], np.intp)
        state = gather(state, torch.from_numpy(sources).to(encoded.device))
        if language is not None:
            assert texts is not None and following is not None
            texts, following = texts[sources], following[sources]
            wrote = np.array([h.token != NOTHING for h in kept])
            if wrote.any():
                after = texts[wrote]
                pieces = np.array([h.token for h in kept], np.intp)[wrote]
                following[wrote] = language.next(pieces, after)
                texts[wrote] = after
    return found


def _extended(
    hypotheses: list[_Hypothesis], first: int, heard: Floats, added: Floats, config: SearchConfig
) -> list[_Hypothesis]:
    """The best of what a step makes of the hypotheses of one recording.

    Args:
        hypotheses: Those before it.
        first: Row of the first in the states.
        heard: ``(hypotheses, V)``, log-probabilities of the step's token.
        added: The same shape: what a piece adds beside it.
        config: Widths.
    """
    found: dict[tuple[int, ...], _Hypothesis] = {}

    def add(one: _Hypothesis) -> None:
        other = found.get(one.text)
        if other is not None:
            likelier = one if one.heard > other.heard else other
            one = likelier._replace(heard=float(np.logaddexp(one.heard, other.heard)))
        found[one.text] = one

    for i, h in enumerate(hypotheses):
        add(h._replace(heard=h.heard + float(heard[i, NOTHING]), row=first + i, token=NOTHING))
        for piece in np.argpartition(-heard[i], config.candidates)[: config.candidates].tolist():
            if piece != NOTHING:
                says = h.heard + float(heard[i, piece])
                fused = h.fused + float(added[i, piece])
                add(_Hypothesis((*h.text, piece), says, fused, first + i, piece))
    ranked = sorted(found.values(), key=_rank, reverse=True)[: config.beam]
    least = _rank(ranked[0]) - config.margin
    return [h for h in ranked if _rank(h) > least]


def _rank(hypothesis: _Hypothesis) -> float:
    return hypothesis.heard + hypothesis.fused


def _steps(head: DelayedStreams, encoded: Tensor) -> tuple[Tensor, ...]:
    """Frames of each step, ``(B, stride, audio_width)``."""
    stride = head.config.stride
    whole = encoded.shape[1] // stride * stride
    steps: tuple[Tensor, ...] = encoded[:, :whole].split(stride, 1)
    return steps


def _next(
    head: DelayedStreams, frames: Tensor, before: Tensor, delay: int, state: StackState | None
) -> tuple[Tensor, StackState]:
    """Log-probabilities ``(B, V)`` of one step."""
    which = torch.full_like(before, delay)
    logits, state = head(frames, before[:, None], which, state)
    return logits[:, 0].float().log_softmax(-1), state
