"""Losses of the transcriber."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from audiomamba.models.transcriber import TranscriberOutput
from audiomamba.training.losses import LossWeights, Targets, count, transcription_loss

WEIGHTS = LossWeights(inter=0.2, phone=0.5, activity=0.1, consistency=0.0)


def outputs(B: int = 3, T: int = 12) -> TranscriberOutput:
    torch.manual_seed(0)
    return TranscriberOutput(
        torch.randn(B, T, 6, requires_grad=True),
        torch.randn(B, T, 6, requires_grad=True),
        torch.randn(B, T, 4, requires_grad=True),
        torch.randn(B, T, requires_grad=True),
    )


def targets(B: int = 3, T: int = 12) -> Targets:
    torch.manual_seed(1)
    frame_lengths = torch.tensor([12, 9, 5])
    counted = torch.arange(T)[None] < frame_lengths[:, None]
    return Targets(
        tokens=torch.randint(1, 6, (B, 4)),
        token_lengths=torch.tensor([4, 2, 0]),
        frame_lengths=frame_lengths,
        phones=torch.randint(0, 4, (B, T)).masked_fill(~counted, -1),
        activity=torch.rand(B, T).round(),
        counted=counted,
    )


def loss(out: TranscriberOutput, t: Targets) -> tuple[Tensor, Tensor]:
    return transcription_loss(out, t, count(t), WEIGHTS)


def test_each_term_is_a_sum_over_its_count() -> None:
    out, t = outputs(), targets()
    total, terms = loss(out, t)

    def ctc(logits: Tensor) -> Tensor:
        rows = [
            F.ctc_loss(
                logits[i, :n].log_softmax(-1), t.tokens[i, :m], n[None], m[None], reduction="sum"
            )
            for i, (n, m) in enumerate(zip(t.frame_lengths, t.token_lengths, strict=True))
        ]
        return torch.stack(rows).sum() / t.token_lengths.sum()

    assert out.inter_logits is not None and out.phone_logits is not None
    assert out.activity is not None
    expected = torch.stack(
        [
            ctc(out.logits),
            ctc(out.inter_logits),
            F.cross_entropy(out.phone_logits.flatten(0, 1), t.phones.flatten(), ignore_index=-1),
            F.binary_cross_entropy_with_logits(out.activity[t.counted], t.activity[t.counted]),
        ]
    )
    torch.testing.assert_close(terms[:4], expected.detach())
    assert terms[4] == 0
    weights = torch.tensor([1.0, WEIGHTS.inter, WEIGHTS.phone, WEIGHTS.activity])
    torch.testing.assert_close(total, (expected * weights).sum())


def test_frames_past_the_audio_get_no_gradient() -> None:
    out, t = outputs(), targets()
    loss(out, t)[0].backward()
    assert out.ends is None  # trained apart
    for head in out[:-1]:
        assert head is not None and head.grad is not None
        assert not head.grad[~t.counted].any()
        assert head.grad[t.counted].any()


def test_two_views_are_held_to_each_other_and_frames_past_the_audio_are_not() -> None:
    out, one = outputs(B=6), targets()
    t = Targets(*(torch.cat([part, part]) for part in one))
    weights = LossWeights(inter=0.0, phone=0.0, activity=0.0, consistency=0.2)
    total, terms = transcription_loss(out, t, count(t), weights)
    p = out.logits.log_softmax(-1).detach()
    apart = ((p[:3].exp() - p[3:].exp()) * (p[:3] - p[3:])).sum(-1)  # both directions
    torch.testing.assert_close(terms[4], apart[one.counted].sum() / count(t).tokens)
    torch.testing.assert_close(total.detach(), terms[0] + 0.2 * terms[4])
    (gradient,) = torch.autograd.grad(total, out.logits)
    same = TranscriberOutput(out.logits[:3].repeat(2, 1, 1).detach(), None, None, None)
    assert transcription_loss(same, t, count(t), weights)[1][4] == 0
    assert not gradient[~t.counted].any()


def test_a_view_learns_from_the_other_as_from_a_fixed_target() -> None:
    out, t = outputs(B=6), Targets(*(torch.cat([part, part]) for part in targets()))
    weights = LossWeights(inter=0.0, phone=0.0, activity=0.0)
    gradients = [
        torch.autograd.grad(
            transcription_loss(out, t, count(t), weights._replace(consistency=share))[0],
            out.logits,
        )[0]
        for share in (0.0, 1.0)
    ]
    p = out.logits.softmax(-1).detach()
    apart = (p - p.roll(3, 0)) * t.counted[..., None] / count(t).tokens
    torch.testing.assert_close(gradients[1] - gradients[0], apart)


def test_an_utterance_that_does_not_fit_is_left_out() -> None:
    t = targets()._replace(frame_lengths=torch.tensor([2, 9, 5]))
    total, _ = loss(outputs(), t)
    assert torch.isfinite(total)


def test_heads_that_a_model_lacks_cost_nothing() -> None:
    out = outputs()._replace(inter_logits=None, phone_logits=None, activity=None)
    total, terms = loss(out, targets())
    assert not terms[1:].any()
    assert total.item() == pytest.approx(terms[0].item())


def test_a_batch_without_words_or_phones_is_finite() -> None:
    t = targets()
    empty = t._replace(
        token_lengths=torch.zeros(3, dtype=torch.long), phones=torch.full_like(t.phones, -1)
    )
    total, terms = loss(outputs(), empty)
    assert torch.isfinite(total)
    assert terms[2] == 0
