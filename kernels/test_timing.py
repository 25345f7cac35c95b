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
        assert out[1].split()[:3] == ["8", "forward", "ours"] and out[1].endswith("x")


@pytest.mark.parametrize("op", ["conv", "layer_step", "lti", "mamba3", "norm", "scan", "ssd"])
def test_the_contenders_of_each_op_agree(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "CPU_ROUNDS", 2)
    bench = import_module(f"audiomamba.kernels.{op}.bench")
    small = [c for c in bench.cases("cpu") if c.values < 200_000]
    assert len(small) >= 2
    for made in small:
        timing.measure(made, "cpu")  # raises where they do not


def test_ours_is_held_to_the_definition_before_it_is_timed() -> None:
    def never() -> Tensor:
        raise AssertionError("was timed")

    off = timing.Case("8", "step", {"ours": never}, 8, bound=1e-2, error=lambda: 2e-2)
    with pytest.raises(ArithmeticError, match="off by 2.0e-02, at most 1e-02 is right"):
        timing.measure(off, "cpu")


def test_the_error_of_an_op_is_that_of_its_output_or_gradient() -> None:
    def square(x: Tensor, implementation: str | None) -> Tensor:
        return x**2 * (1.0 if implementation == "reference" else 1.01)

    given = {"x": torch.arange(1.0, 5.0)}
    for backward in (False, True):
        assert timing.error_of(square, given, backward=backward) == pytest.approx(0.01, rel=1e-4)


def test_memory_is_printed_behind_the_times_and_in_each_record() -> None:
    times = {"ours": (1.0, 2.0, 3.0), "peer": (2.0, 4.0, 6.0)}
    memory = {"ours": 5 << 20, "peer": 3 << 20}
    row = timing.Row(case(ours=partial(ones, 8)), "us", times, None, memory)
    assert timing._line(row).endswith("| 5 / 3 MiB")
    records = [json.loads(line) for line in timing._json("op", row, "cpu").splitlines()]
    assert [record["peak_bytes"] for record in records] == [5 << 20, 3 << 20]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="gpu: no GPU here")
def test_memory_is_what_a_call_takes_at_its_peak_and_not_what_it_leaves() -> None:
    there = torch.zeros(1 << 20, device="cuda")
    assert timing._peak_bytes(lambda: (there + 1).sum()) >= 4 << 20
    assert timing._peak_bytes(lambda: there.add_(1)) < 1 << 20
