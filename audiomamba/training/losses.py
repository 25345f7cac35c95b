"""Losses of the transcriber: CTC on two heads, phones, activity and agreement frame by frame.

Each term is a sum over the batch divided by a count: CTC by the tokens to be written, the others by
the frames that carry a label. Dividing by tokens, and not utterance by utterance, gives every token
the same weight whether it stands in a short command or in a long sentence; an utterance-wise mean
would make batches of one-word clips pull as hard on one word as others do on a paragraph. Counts
are passed in, since in data-parallel training they are means over all processes.

Agreement is that of two views: a batch may hold every row twice, in other voices and with other
parts hidden, and what is heard in each frame of one is the target of the other. What one view hides
has to be guessed from around it, as the other hears it, and CTC's sharp spikes are held to where
both can place them. Its sum is divided by the tokens, as CTC's is, so their proportion is that of
the source: Yao et al., "CR-CTC: Consistency regularization on CTC", 2024, equations 4 and 5.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from audiomamba.models.transcriber import TranscriberOutput

__all__ = ["TERMS", "Counts", "LossWeights", "Targets", "count", "transcription_loss"]

BLANK = 0
IGNORE = -1
TERMS = ("ctc", "inter", "phone", "active", "agree")


class Targets(NamedTuple):
    """What the encoder's frames should say. Lengths are on the CPU: CTC asks for them there."""

    tokens: Tensor  # (B, L) int64, on the device; what follows a row's length is not read
    token_lengths: Tensor  # (B,) int64, CPU
    frame_lengths: Tensor  # (B,) int64, CPU: encoder frames that hold audio
    phones: Tensor  # (B, T) int64, IGNORE where not known
    activity: Tensor  # (B, T) float32 in 0..1; frames past the audio are not counted
    counted: Tensor  # (B, T) bool: frames that hold audio


class Counts(NamedTuple):
    """What the terms are divided by, scalars on the device."""

    tokens: Tensor
    phones: Tensor
    frames: Tensor


class LossWeights(NamedTuple):
    inter: float
    phone: float
    activity: float
    consistency: float = 0.0  # more than 0: the second half of the rows is a view of the first


def count(targets: Targets) -> Counts:
    """Tokens, frames with a phone, frames with audio."""
    device = targets.tokens.device
    return Counts(
        torch.full((), float(targets.token_lengths.sum()), device=device),
        (targets.phones != IGNORE).sum().float(),
        targets.counted.sum().float(),
    )


def transcription_loss(
    out: TranscriberOutput, targets: Targets, counts: Counts, weights: LossWeights
) -> tuple[Tensor, Tensor]:
    """The weighted sum, and its unweighted terms ``(5,)`` in the order of ``TERMS``, detached.

    A term whose head the model lacks is 0. Utterances with more tokens than frames can hold are
    left out (``zero_infinity``).
    """
    log_probs = _log_probs(out)
    ctc, inter = _ctc(log_probs, targets)
    zero, tokens = ctc.new_zeros(()), counts.tokens.clamp(min=1)
    terms = [ctc / tokens, inter / tokens, zero, zero, zero]
    if out.phone_logits is not None:
        terms[2] = F.cross_entropy(
            out.phone_logits.float().flatten(0, 1),
            targets.phones.flatten(),
            ignore_index=IGNORE,
            reduction="sum",
        ) / counts.phones.clamp(min=1)
    if out.activity is not None:
        frames = F.binary_cross_entropy_with_logits(
            out.activity.float(), targets.activity, reduction="none"
        )
        terms[3] = (frames * targets.counted).sum() / counts.frames.clamp(min=1)
    if weights.consistency:
        terms[4] = _disagreement(log_probs[0], targets.counted) / tokens
    factors = (1.0, weights.inter, weights.phone, weights.activity, weights.consistency)
    total = sum((f * term for f, term in zip(factors, terms, strict=True)), start=zero)
    return total, torch.stack([term.detach() for term in terms])


def _log_probs(out: TranscriberOutput) -> Tensor:
    """Of the last head and, where there is one, the intermediate: ``(heads, B, T, vocabulary)``."""
    heads = [out.logits] if out.inter_logits is None else [out.logits, out.inter_logits]
    return F.log_softmax(torch.stack(heads).float(), -1)


def _disagreement(log_probs: Tensor, counted: Tensor) -> Tensor:
    """Divergence of each view's ``log_probs (B, T, vocabulary)`` from the other's, held fixed."""
    one, other = log_probs.chunk(2)
    fixed = torch.cat([other, one]).detach()
    frames = F.kl_div(log_probs, fixed, reduction="none", log_target=True).sum(-1)
    return (frames * counted).sum()


def _ctc(log_probs: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """Summed CTC losses of the last and the intermediate head, by one call for both."""
    copies = len(log_probs)
    each = F.ctc_loss(
        log_probs.flatten(0, 1).transpose(0, 1),
        targets.tokens.repeat(copies, 1),
        targets.frame_lengths.repeat(copies),
        targets.token_lengths.repeat(copies),
        blank=BLANK,
        reduction="none",
        zero_infinity=True,
    )
    sums = each.view(copies, -1).sum(1)
    return sums[0], sums[1] if copies == 2 else sums.new_zeros(())
