"""The benches' measure: contenders agree or are not timed; both ways of printing say the same."""

import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module

import pytest
import torch
from torch import Tensor

from audiomamba.kernels import timing


def ones(count: int, scale: float = 1.0) -> Tensor:
    return torch.full((count,), scale)


def case(**calls: Callable[[], Tensor]) -> timing.Case:
    return timing.Case("8", "forward", calls, 8)


def test_contenders_that_differ_are_not_timed() -> None:
    with pytest.raises(ArithmeticError, match="wrong and ours differ by 1.0e-02"):
        timing.measure(case(ours=partial(ones, 8), wrong=partial(ones, 8, 1.01)), "cpu")


def test_nan_agrees_with_nothing() -> None:
    with pytest.raises(ArithmeticError, match="differ by nan"):
        timing.measure(case(ours=partial(ones, 8), nan=partial(ones, 8, float("nan"))), "cpu")


def test_a_peer_that_does_not_run_is_named_and_left_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken() -> Tensor:
        raise RuntimeError("needs another card\nand more")

    row = timing.measure(case(ours=partial(ones, 8), broken=broken), "cpu")
    assert set(row.times) == {"ours"}
    assert capsys.readouterr().err == "8 forward: broken does not run here: needs another card\n"


def test_time_is_that_of_a_value_and_its_spread_is_in_order() -> None:
    row = timing.measure(case(ours=partial(ones, 8), other=partial(ones, 8)), "cpu")
    assert row.unit == "ns a value" and set(row.times) == {"ours", "other"}
    for low, median, high in row.times.values():
        assert 0 < low <= median <= high


@pytest.mark.parametrize("json_lines", [False, True], ids=["table", "json"])
def test_a_bench_prints_a_table_or_a_line_a_contender(
    json_lines: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", *["--json"] * json_lines])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    threads = torch.get_num_threads()

    def cases(device: str) -> Iterator[timing.Case]:
        assert device == "cpu"
        yield case(ours=partial(ones, 8), torch=partial(ones, 8))

    try:
        timing.main("op", cases)
    finally:
        torch.set_num_threads(threads)
    out = capsys.readouterr().out.splitlines()
    if json_lines:
        records = [json.loads(line) for line in out]
        assert [record["contender"] for record in records] == ["ours", "torch"]
        assert all(record["p10"] <= record["median"] <= record["p90"] for record in records)
    else:
        assert out[0].startswith("op on ") and "one thread" in out[0]
        assert out[1].split()[:3] == ["8", "forward", "ours"] and out[1].endswith("x)")


@pytest.mark.parametrize("op", ["conv", "norm", "lti"])
def test_the_contenders_of_each_op_agree(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "CPU_ROUNDS", 2)
    bench = import_module(f"audiomamba.kernels.{op}.bench")
    small = [c for c in bench.cases("cpu") if c.values < 100_000]
    assert len(small) >= 2
    for made in small:
        timing.measure(made, "cpu")  # raises where they do not
