"""Batches made ahead."""

import threading
import time

import pytest
import torch

from audiomamba.training.losses import Counts, Targets
from audiomamba.training.prefetch import Prefetcher, Prepared


def make(step: int) -> Prepared:
    if step == 5:
        raise ValueError("no batch 5")
    none = torch.zeros(0)
    return Prepared(torch.full((1,), step), Targets(*[none] * 6), Counts(*[none] * 3), 1.0)


def prefetcher(depth: int, first_step: int = 0) -> Prefetcher:
    return Prefetcher(
        make,
        first_step=first_step,
        depth=depth,
        device=torch.device("cpu"),
        idle=threading.Lock(),
    )


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_batches_come_in_order(depth: int) -> None:
    with prefetcher(depth, first_step=1) as batches:
        assert [int(batches.next().features) for _ in range(4)] == [1, 2, 3, 4]


@pytest.mark.parametrize("depth", [0, 2])
def test_an_error_reaches_the_reader(depth: int) -> None:
    with prefetcher(depth, first_step=4) as batches:
        batches.next()
        with pytest.raises(ValueError, match="no batch 5"):
            batches.next()


def test_leaving_early_ends_the_thread() -> None:
    before = threading.active_count()
    with prefetcher(1) as batches:
        batches.next()
    assert threading.active_count() == before


def test_nothing_is_made_while_the_device_is_kept() -> None:
    made: list[int] = []

    def counting(step: int) -> Prepared:
        made.append(step)
        return make(0)

    idle = threading.Lock()
    batches = Prefetcher(counting, first_step=0, depth=1, device=torch.device("cpu"), idle=idle)
    idle.acquire()
    with batches:  # left without the lock: the thread may wait for it
        time.sleep(0.05)
        assert not made
        idle.release()
        batches.next()
    assert made[0] == 0
