"""Rows that begin as something else than what is asked for."""

import torch

from audiomamba.training.wave.splices import spliced

RATE = 8_000
ROWS, SAMPLES = 400, 4_000


def tones() -> torch.Tensor:
    """A steady level a row, no two alike."""
    return (0.1 + 0.8 * torch.arange(ROWS) / ROWS)[:, None].expand(ROWS, SAMPLES).contiguous()


def spliced_tones(share: float) -> tuple[torch.Tensor, torch.Tensor]:
    return spliced(tones(), share, RATE, torch.Generator().manual_seed(0))


def test_as_many_rows_as_asked_begin_as_something_else() -> None:
    for share in (0.0, 0.3, 1.0):
        mixed, counted = spliced_tones(share)
        other = (mixed != tones()).any(1)
        assert abs(other.float().mean() - share) <= 0.06
        assert bool((counted[~other] == 1).all())


def test_what_comes_before_does_not_count_and_the_way_back_does() -> None:
    mixed, counted = spliced_tones(1.0)
    itself = (mixed - tones()).abs() < 1e-6
    for row in range(ROWS):
        starts = int((counted[row] == 0).sum())
        assert bool((counted[row, starts:] == 1).all())
        back = starts + round(0.06 * RATE) + 1
        assert bool(itself[row, back:].all())
        # The way back has begun where it counts, and is not over at once.
        if starts > 0 and starts + 1 < SAMPLES and not itself[row, starts - 1]:
            assert not itself[row, starts + 1]
    assert 0.4 < counted.mean() < 0.6


def test_a_row_begins_quieter_or_as_another_row() -> None:
    sound = tones()
    mixed, _ = spliced_tones(1.0)
    first, own, before = mixed[:, 0], sound[:, 0], sound.roll(1, 0)[:, 0]
    quieter = first <= own + 1e-6
    assert 0.3 < quieter.float().mean() < 1
    # Alone it is at least 40 dB below itself; what is more is of the row before, at most all of it.
    assert bool((first >= 0.0099 * own).all()) and bool((first <= own + before + 1e-6).all())
    assert bool((~quieter).any())
    assert float(mixed.abs().max()) <= 1


def test_the_same_draw_gives_the_same_rows() -> None:
    first, again = spliced_tones(0.5), spliced_tones(0.5)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
