import numpy as np
import torch

from audiomamba.training.augment.masks import hide, plan_bands, plan_stretches


def test_bands_and_stretches_keep_within_their_widths() -> None:
    rng = np.random.default_rng(0)
    assert plan_bands(rng, 500, 80, 1.0).sum(1).max() <= 54
    assert plan_stretches(rng, 500, 400, 32 / 400, 1.0).sum(1).max() == 64  # one of them


def test_stretches_hide_their_share_of_a_row_whatever_its_length() -> None:
    rng = np.random.default_rng(0)
    for frames in (400, 1280, 4480):
        hidden = plan_stretches(rng, 500, frames, 0.4, 1.0).mean()
        assert 0.28 < hidden < 0.38  # overlaps count once


def test_without_strength_nothing_is_hidden() -> None:
    rng = np.random.default_rng(0)
    assert not plan_bands(rng, 9, 80, 0.0).any() and not plan_stretches(rng, 9, 400, 0.5, 0.0).any()


def test_a_span_is_whole() -> None:
    bands = plan_bands(np.random.default_rng(1), 200, 80, 1.0)
    borders = np.abs(np.diff(bands.astype(int), axis=1)).sum(1)
    assert borders.max() <= 4


def test_what_is_hidden_has_the_given_value_and_the_rest_its_own() -> None:
    features = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    stretches, bands = torch.zeros(2, 6, dtype=torch.bool), torch.zeros(2, 3, dtype=torch.bool)
    stretches[0, 2], bands[1, 1] = True, True
    value = torch.tensor([7.0, 8.0, 9.0])
    hidden = hide(features, stretches, bands, value)
    assert hidden[0, 2].tolist() == [7, 8, 9] and (hidden[1, :, 1] == 8).all()
    assert (hidden != features).sum() == 3 + 6
