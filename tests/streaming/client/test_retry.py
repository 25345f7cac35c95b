import itertools

from audiomamba.streaming.client.retry import RETRIED, delays


def test_delays_are_jittered_under_a_growing_bound() -> None:
    runs = [list(itertools.islice(delays(seed=seed), 40)) for seed in range(50)]
    for run in runs:
        assert run[0] <= 0.1 and max(run) <= 3.0
    assert max(run[3] for run in runs) > 0.1 * 1.5**2
    assert max(run[30] for run in runs) > 2.5
    assert len({run[10] for run in runs}) == 50


def test_a_fault_of_the_request_is_not_repeated() -> None:
    assert {1012, 1013, 1006} <= RETRIED
    assert not RETRIED & {1000, 1008, 4400, 4401, 4404, 4406, 4409, 4410}
