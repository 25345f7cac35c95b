"""The search for block sizes: what it tries are rows, and what it finds is right and fastest."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from audiomamba.kernels import blocks
from audiomamba.kernels.blocks import ANY, TABLES, Blocks, pick_blocks
from audiomamba.kernels.candidates import PROBLEMS, Problem
from audiomamba.kernels.candidates import _forward as results_of
from audiomamba.kernels.dispatch import INTERPRETED
from audiomamba.kernels.layer_step import cases as layer_cases
from audiomamba.kernels.norm import norm
from audiomamba.kernels.offline import Usage
from audiomamba.kernels.search import as_source, best, search

HERE = torch.device("cpu")
SHIPPED = Blocks({"rows": 2}, {"channels": 8}, 1, registers=96)
FAST = Blocks({}, {"channels": 16}, 1)
SLOW = Blocks({}, {"channels": 32}, 2)
WRONG = Blocks({}, {"channels": 64}, 2)
FAILS = Blocks({}, {"channels": 128}, 4)
TIMES = {8: 10.0, 16: 7.0, 32: 12.0, 64: 1.0, 128: 1.0}


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: f"{p.kernel}: {p.name}")
def test_candidates_are_rows_of_their_kernel(problem: Problem) -> None:
    table = TABLES[problem.kernel]
    shares = set(table[ANY][0].takes)
    assert all(set(row.takes) == shares for row in problem.rows)
    assert all(row.warps in (1, 2, 4, 8, 16) for row in problem.rows)
    assert all(v & (v - 1) == 0 for row in problem.rows for v in row.takes.values())
    assert max(Counter(map(str, problem.rows)).values()) == 1
    shipped = pick_blocks(problem.kernel, HERE, **problem.sizes)
    least = shipped.least if problem.least is None else problem.least
    assert replace(shipped, least=least).holds(problem.sizes), "what is found must hold for it"


def test_a_state_of_several_parts_is_compared_part_by_part() -> None:
    y, turns, key = torch.eye(3).unbind()

    def op(implementation: str) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        return y, (turns, key)

    assert torch.equal(torch.stack(results_of(op, {})), torch.eye(3))


@pytest.mark.parametrize("which", ["out", "x"])
def test_a_row_is_taken_by_the_product_that_is_searched_alone(
    monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    problem = next(p for p in PROBLEMS if p.name.startswith("M3") and p.name.endswith(which))
    case = next(c for c in layer_cases.BENCH if c.M == 3)
    outputs = {"out": case.W, "x": case.R + 2 * case.N}
    taken: dict[str, list[Blocks]] = {name: [] for name in outputs}

    def call() -> tuple[Tensor, ...]:
        for name, size in outputs.items():
            row = pick_blocks("layer_step.product", HERE, rows=case.M, outputs=size)
            taken[name].append(row)
        return (torch.ones(4),)

    shipped = pick_blocks(problem.kernel, HERE, **problem.sizes)
    search(problem, shipped, call, lambda call: 1.0)
    other = "x" if which == "out" else "out"
    assert len(set(map(str, taken[which]))) == len(taken[which]) > 1
    assert len(set(map(str, taken[other]))) == 1


def fake(*rows: Blocks) -> Problem:
    return Problem(
        kernel="test",
        name="a call",
        sizes={"rows": 2},
        rows=rows,
        make=lambda device, small: lambda: (torch.ones(4),),
        bound=1e-3,
    )


def call() -> tuple[Tensor, ...]:
    row = pick_blocks("test", HERE, rows=2)
    if row is FAILS:
        raise RuntimeError("out of registers\nand more")
    return (torch.ones(4) * (1.1 if row is WRONG else 1.0),)


def time_of(call: object) -> float:
    return TIMES[pick_blocks("test", HERE, rows=2)["channels"]]


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(blocks.TABLES, "test", {ANY: (SHIPPED,)})


def test_the_fastest_of_the_right_rows_is_found() -> None:
    found = search(fake(SLOW, WRONG, FAILS, FAST), SHIPPED, call, time_of)
    assert [tried.row for tried in found[:3]] == [FAST, SHIPPED, SLOW]
    reasons = {tried.row["channels"]: tried.reason for tried in found[3:]}
    assert reasons == {64: "wrong: off by 1.0e-01", 128: "failed: RuntimeError: out of registers"}
    winner = best(found, SHIPPED)
    assert winner is not None and winner.row is FAST
    assert as_source(replace(winner.row, least=SHIPPED.least, stages=2)) == (
        'Blocks({"rows": 2}, {"channels": 16}, 1, stages=2),'
    )


def test_a_row_that_is_hardly_faster_is_no_find(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TIMES, 16, 9.9)
    assert best(search(fake(FAST), SHIPPED, call, time_of), SHIPPED) is None


def test_what_spills_much_does_not_fit_or_came_out_wrong_is_not_run() -> None:
    said: dict[int, Usage | str] = {
        8: Usage(255, 5000, 0, 1),  # the shipped row is run in any case
        16: Usage(255, 5000, 0, 1),
        32: Usage(64, 0, 300_000, 2),
        64: Usage(64, 0, 0, 2, ("UR38",)),
        128: "failed: no such layout",
    }
    rows = (FAST, SLOW, WRONG, FAILS)
    found = search(fake(*rows), SHIPPED, call, time_of, lambda row: said[row["channels"]])
    assert [tried.row for tried in found if tried.microseconds] == [SHIPPED]
    said_last = [tried.reason.split()[-1] for tried in found[1:]]
    assert said_last == ["thread", "memory", "unset", "layout"]


def test_without_time_or_a_right_answer_nothing_is_tried() -> None:
    late = iter([False, True, True, True, True])
    found = search(fake(FAST), SHIPPED, call, time_of, None, lambda: next(late))
    assert [tried.reason for tried in found] == ["", "not tried: the time is up"]
    found = search(fake(FAST), FAILS, call, time_of)
    assert [tried.reason for tried in found][1] == "not tried: the shipped row failed"
    assert best(found, FAILS) is None


@pytest.mark.skipif(not INTERPRETED, reason="gpu-interpreted: TRITON_INTERPRET=1 is not set")
def test_rows_of_a_real_kernel_agree() -> None:
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    rows = tuple(Blocks({}, {"values": values, "rows": 2}, 1) for values in (8, 16))
    problem = replace(fake(*rows), kernel="norm.forward")
    shipped = pick_blocks("norm.forward", HERE, width=8)
    found = search(
        problem, shipped, lambda: norm(x, torch.ones(5), implementation="gpu"), lambda call: 1.0
    )
    assert [tried.reason for tried in found] == [""] * 3
