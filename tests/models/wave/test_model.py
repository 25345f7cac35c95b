"""What the streaming contract does not say: the past alone counts, and conditions."""

import itertools

import pytest
import torch

from audiomamba.errors import ShapeError
from audiomamba.kernels.testing import relative_error
from audiomamba.models.wave.model import NOBODY, Wave
from audiomamba.nn import StatePool, flatten, map_state
from tests.models.wave.tiny import tiny_config, tiny_wave

T = 17


def codes(rows: int = 2, length: int = T) -> torch.Tensor:
    return torch.randint(0, 256, (rows, length), generator=torch.Generator().manual_seed(1))


def ids(*values: int) -> torch.Tensor:
    return torch.tensor(values)


@torch.no_grad()
@pytest.mark.parametrize("at", [0, 1, 5, 6, 11, T - 1])
def test_a_sample_changes_nothing_before_it_and_something_after(
    at: int,
) -> None:
    model, x = tiny_wave(), codes(1)
    other = x.clone()
    other[:, at] = (other[:, at] + 77) % 256
    y, z = model(x)[0], model(other)[0]
    assert torch.equal(y[:, :at], z[:, :at])
    assert (y[:, at:] != z[:, at:]).any(-1).all()


@torch.no_grad()
def test_slower_rates_hear_what_the_faster_ones_have_forgotten() -> None:
    model, x = tiny_wave(), codes(1)
    y = model(x)[0]
    for weight in model.net.grow.parameters():
        weight.zero_()
    z = model(x)[0]
    assert torch.equal(y[:, :2], z[:, :2])  # nothing is ahead of the first group
    assert (y[:, 2:] != z[:, 2:]).any(-1).all()


@torch.no_grad()
def test_each_row_has_its_own_condition_in_steps_and_as_a_whole() -> None:
    model, x = tiny_wave(), codes(1).expand(3, T)
    condition = model.condition(ids(1, NOBODY, 2), ids(0, NOBODY, 1))
    whole, state = model(x, condition=condition)
    assert torch.equal(state.condition, condition)
    assert relative_error(whole[1:2], model(x[:1])[0]) < 1e-5  # nothing asked for
    assert relative_error(whole[0], whole[1]) > 1e-2 < relative_error(whole[2], whole[1])
    pool = StatePool(model, slots=3)
    pool.state.condition[1:] = condition
    steps = [model.step_(x[:, t : t + 1], pool.state, ids(1, 2, 3)) for t in range(T)]
    assert relative_error(torch.cat(steps, 1), whole) < 2e-6


@torch.no_grad()
def test_a_condition_may_change_on_the_way() -> None:
    model, x = tiny_wave(), codes()
    first, second = (model.condition(ids(i, i), ids(0, 0)) for i in (0, 1))
    y, state = model(x[:, :7], condition=first)
    z, state = model(x[:, 7:], state, condition=second)
    kept, _ = model(x[:, 7:], model(x[:, :7], condition=first)[1])
    assert torch.equal(state.condition, second)
    assert relative_error(z, kept) > 1e-2


def changing(model: Wave, rows: int, periods: int) -> torch.Tensor:
    """A condition a period, and none in some of them."""
    draw = torch.Generator().manual_seed(2)
    labels = torch.randint(-1, model.config.label_rows, (rows, periods), generator=draw)
    return model.condition(labels, torch.arange(rows) % 2)


@torch.no_grad()
@pytest.mark.parametrize("cuts", [[], [6], [1], [5, 6, 7], [4, 13], list(range(1, 26))], ids=str)
def test_a_condition_may_change_with_every_period_in_any_cut_of_time(cuts: list[int]) -> None:
    model, x = tiny_wave(tiny_config(label_states=4)), codes(2, 26)
    condition = changing(model, 2, 5)
    whole, last = model(x, condition=condition)
    assert torch.equal(last.condition, condition[:, -1])
    assert relative_error(whole, model(x, condition=condition[:, 0])[0]) > 1e-2
    assert relative_error(whole[:, :6], model(x[:, :6], condition=condition[:, 0])[0]) < 2e-6
    state, parts = model.init_state(2), []
    for lo, hi in itertools.pairwise([0, *cuts, 26]):
        own = condition[:, lo // 6 : -(-hi // 6)]
        y, state = model(x[:, lo:hi], state, condition=own)
        parts.append(y)
    assert relative_error(torch.cat(parts, 1), whole) < 2e-6
    for (name, got), (_, want) in zip(flatten(state), flatten(last), strict=True):
        torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4, msg=name)


@torch.no_grad()
@pytest.mark.parametrize("told", [True, False])
def test_steps_that_are_told_at_a_switch_are_the_whole(told: bool) -> None:
    model, x = tiny_wave(tiny_config(label_states=4)), codes(2, 26)
    condition = changing(model, 2, 5)
    whole, last = model(x, condition=condition)
    pool = StatePool(model, slots=3)
    steps = []
    for t in range(26):
        if t % 6 == 0:
            pool.state.condition[ids(3, 1)] = condition[:, t // 6]
        known = sum((t + 1) % product == 0 for product in (2, 6)) if told else None
        steps.append(model.step_(x[:, t : t + 1], pool.state, ids(3, 1), whole=known))
    assert relative_error(torch.cat(steps, 1), whole) < 2e-6
    assert not pool.state.condition[2].any()
    torch.testing.assert_close(pool.state.condition[ids(3, 1)], last.condition)


@torch.no_grad()
def test_rows_at_different_phases_change_where_their_own_periods_begin() -> None:
    model, x = tiny_wave(tiny_config(label_states=4)), codes(2, 20)
    condition = changing(model, 2, 4)
    states = [model(x[r : r + 1, :n], condition=condition[r, :1])[1] for r, n in ((0, 5), (1, 2))]
    joined = map_state(lambda *parts: torch.cat(parts), *states)
    chunk = torch.stack([x[0, 5:17], x[1, 2:14]])
    got, _ = model(chunk, joined, condition=condition[:, :3])
    for row, begin in ((0, 5), (1, 2)):
        own = x[row : row + 1, : begin + 12]
        want, _ = model(own, condition=condition[row : row + 1, :3])
        assert relative_error(got[row], want[0, begin:]) < 2e-6


def test_gradients_reach_each_part_of_a_label() -> None:
    model, x = tiny_wave(tiny_config(label_states=2)), codes(1, 18)
    condition = model.condition(torch.tensor([[2, 3, -1]]), ids(NOBODY))
    model(x, condition=condition)[0].square().mean().backward()
    labels, speakers = model.conditioning.label.weight.grad, model.conditioning.speaker.weight.grad
    assert labels is not None and speakers is not None
    touched = labels.abs().sum(1) > 0
    assert touched.tolist() == [False, False, True, True, False, False, False]
    assert not speakers.any()


@pytest.mark.parametrize("periods", [0, 2, 4])
def test_conditions_of_too_few_or_many_periods_are_refused(periods: int) -> None:
    model, x = tiny_wave(), codes(2, 13)
    condition = torch.zeros(2, periods, model.config.condition_size)
    with pytest.raises(ShapeError, match=f"of 3 periods, got {periods}"):
        model(x, condition=condition)


@torch.no_grad()
def test_a_caller_who_knows_the_phases_gets_the_same() -> None:
    model, x = tiny_wave(), codes(2, 13)
    looked, told = StatePool(model, slots=2), StatePool(model, slots=2)
    for t in range(13):
        whole = sum((t + 1) % product == 0 for product in (2, 6))
        y = model.step_(x[:, t : t + 1], looked.state, ids(1, 2))
        z = model.step_(x[:, t : t + 1], told.state, ids(1, 2), whole=whole)
        assert torch.equal(y, z)
    y, _ = model(x, model(x)[1], position=1)
    assert torch.equal(y, model(x, model(x)[1])[0])


@torch.no_grad()
def test_rows_at_different_phases_go_through_one_chunk() -> None:
    model, x = tiny_wave(), codes(3)
    pool = StatePool(model, slots=3)
    for row, length in enumerate((4, 1, 4)):
        model.step_(x[row : row + 1, :length], pool.state, ids(row + 1))
    assert pool.state.position[1:, 0].tolist() == [4, 1, 4]
    chunks = torch.stack([x[row, length : length + 9] for row, length in enumerate((4, 1, 4))])
    got = model.step_(chunks, pool.state, ids(1, 2, 3))
    for row, length in enumerate((4, 1, 4)):
        want = model(x[row : row + 1, : length + 9])[0][0, length:]
        assert relative_error(got[row], want) < 2e-6


def test_the_state_does_not_grow() -> None:
    model = tiny_wave()
    sizes = [sum(t.nbytes for _, t in flatten(model(codes(1, n))[1])) for n in (1, 30, 100)]
    fresh = sum(t.nbytes for _, t in flatten(model.init_state(1)))
    assert sizes == [fresh] * 3
