"""What the library writes to: large tensors are asked for in huge pages, and nothing else is."""

import ctypes
from pathlib import Path

import pytest
import torch

from audiomamba.kernels.native import tensors

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage")


def flags_of_mapping(address: int) -> list[str]:
    """What Linux says of the memory at an address: ``VmFlags`` of proc_pid_smaps(5)."""
    within = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, _, rest = line.partition(" ")
        if not name.endswith(":"):
            start, _, end = name.partition("-")
            within = int(start, 16) <= address < int(end, 16)
        elif within and name == "VmFlags:":
            return rest.split()
    raise AssertionError(f"nothing is mapped at {address:#x}")


class Advised:
    """Stands in for the C library and keeps what it is told."""

    def __init__(self) -> None:
        self.ranges: list[tuple[int, int]] = []

    def madvise(self, start: ctypes.c_void_p, size: ctypes.c_size_t, advice: int) -> int:
        assert advice == tensors.MADV_HUGEPAGE
        self.ranges.append((start.value or 0, size.value))
        return 0


@pytest.fixture
def advised(monkeypatch: pytest.MonkeyPatch) -> Advised:
    libc = Advised()
    monkeypatch.setattr(tensors, "_libc", libc)
    return libc


@pytest.mark.parametrize("view", [False, True], ids=["whole", "time contiguous"])
def test_huge_pages_lie_within_a_large_tensor_and_fill_it(advised: Advised, view: bool) -> None:
    x = torch.empty(1, 3, tensors.LARGE // 8)
    x = x.transpose(1, 2) if view else x
    assert tensors.written(x) is x
    ((start, size),) = advised.ranges
    first, last = x.data_ptr(), x.data_ptr() + x.nbytes
    assert first <= start and start + size <= last
    assert start % tensors.HUGE_PAGE == size % tensors.HUGE_PAGE == 0
    assert x.nbytes - size < 2 * tensors.HUGE_PAGE


def test_nothing_is_asked_for_small_tensors_or_where_there_is_no_linux(
    advised: Advised, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors.written(torch.empty(tensors.LARGE // 4 - 1))
    tensors.written_packed(torch.empty(4, 4).t())
    assert advised.ranges == []
    monkeypatch.setattr(tensors, "_libc", None)
    large = torch.empty(tensors.LARGE)
    assert tensors.fresh(large) is large


def test_a_narrow_tensor_is_written_to_a_wide_one_that_is_asked_for(advised: Advised) -> None:
    x = torch.empty(tensors.LARGE // 4, dtype=torch.bfloat16)
    assert tensors.written(x).dtype == torch.float32
    assert len(advised.ranges) == 1


def test_linux_takes_the_advice_and_the_tensor_is_as_usable() -> None:
    x = tensors.fresh(torch.empty(tensors.LARGE // 4 + 3))
    x.fill_(2.0)
    assert float(x.sum(dtype=torch.float64)) == 2.0 * x.numel()
    if HUGE_PAGES.exists():
        assert "hg" in flags_of_mapping(x.data_ptr() + tensors.LARGE // 2)
