"""Look for better block sizes on the GPU that is here.

``python -m audiomamba.kernels.search [OP ...] [--kernel NAME ...] [--budget-s 300] [--json]``
tries, for calls of the ops' benches (``candidates``), rows around the one that ``blocks.TABLES``
ships. Processes compile them ahead, as many at once as there are processors, and those that spill
much, do not fit or came out wrong (``Usage.unset``) are left out. Each of the rest must give what
the shipped row gives, and is then timed as the benches time. What was found is printed as a row for
``blocks.py``; nothing is written there.

Without a GPU it says what the assembler makes of each row, for ``--arch``.
"""

import argparse
import json
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from functools import cache

import torch
from torch import Tensor

from audiomamba.kernels import timing
from audiomamba.kernels.blocks import Blocks, forced, pick_blocks
from audiomamba.kernels.candidates import PROBLEMS, Call, Problem
from audiomamba.kernels.launching import warmup
from audiomamba.kernels.offline import Usage, compiling_for, usage

__all__ = ["Tried", "as_source", "best", "main", "search"]

MOST_SPILLED = 1000  # bytes a thread; rows that spill more were never the fastest
SHARED_BYTES = 227 * 1024  # a program may have on sm_90; elsewhere the launch says it
PATIENCE_S = 60  # for a row to compile once it is asked for
WORTH = 0.98  # of the shipped row's time; closer is noise


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of a row: a time in microseconds, or the reason why there is none."""

    row: Blocks
    microseconds: float | None = None
    reason: str = ""
    used: Usage | None = None


def search(
    problem: Problem,
    shipped: Blocks,
    call: Call,
    time_of: Callable[[Call], float],
    uses: Callable[[Blocks], Usage | str | None] | None = None,
    out_of_time: Callable[[], bool] = lambda: False,
) -> list[Tried]:
    """Check and time the rows of a problem, the shipped one first.

    Args:
        problem: What is searched.
        shipped: Its row today, which says what is right.
        call: Of the problem.
        time_of: Microseconds of the call under the row in force.
        uses: What a row takes, or why it does not compile; None skips the question.
        out_of_time: Asked before each row.

    Returns:
        The fastest first; those without a time last.
    """
    found: list[Tried] = []
    want: tuple[Tensor, ...] | None = None
    for row in (shipped, *(row for row in problem.rows if not _alike(row, shipped))):
        if out_of_time() or (want is None and row is not shipped):
            why = "the time is up" if out_of_time() else "the shipped row failed"
            found.append(Tried(row, reason=f"not tried: {why}"))
            continue
        tried = _read(row, uses(row) if uses is not None else None)
        if tried.reason and row is not shipped:
            found.append(tried)
            continue
        try:
            with forced(problem.kernel, row, **_of(problem)):
                got = tuple(x.detach().clone() for x in call())
                want = got if want is None else want
                error = max(_off(g, w) for g, w in zip(got, want, strict=True))
                if error <= problem.bound:
                    tried = replace(tried, microseconds=time_of(call), reason="")
                else:
                    tried = replace(tried, reason=f"wrong: off by {error:.1e}")
        except Exception as failure:  # one row's compiler error or lack of memory is not the next's
            tried = replace(tried, reason=_line(failure))
        found.append(tried)
    return sorted(found, key=lambda tried: tried.microseconds or math.inf)


def best(found: Sequence[Tried], shipped: Blocks) -> Tried | None:
    """The fastest right row, if it is worth a change."""
    times = {id(tried.row): tried.microseconds for tried in found}
    before = times.get(id(shipped))
    timed = [tried for tried in found if tried.microseconds is not None]
    if before is None or not timed:
        return None
    first = min(timed, key=lambda tried: tried.microseconds or math.inf)
    return first if (first.microseconds or math.inf) <= WORTH * before else None


def as_source(row: Blocks) -> str:
    """A row as ``blocks.py`` has it."""
    more = "".join(
        f", {name}={value}"
        for name, value in (("registers", row.registers), ("stages", row.stages))
        if value is not None
    )
    return f"Blocks({json.dumps(row.least)}, {json.dumps(row.takes)}, {row.warps}{more}),"


def main() -> None:
    """Search as the command line asks."""
    parser = argparse.ArgumentParser(prog="python -m audiomamba.kernels.search")
    ops = sorted({problem.kernel.split(".")[0] for problem in PROBLEMS})
    parser.add_argument("ops", nargs="*", metavar="OP", help=", ".join(ops))
    parser.add_argument("--kernel", action="append", default=[], metavar="NAME",
                        help="a key of blocks.TABLES; may be given again")  # fmt: skip
    parser.add_argument("--budget-s", type=float, default=300, help="seconds in all")
    parser.add_argument("--json", action="store_true", help="print a JSON object a row")
    parser.add_argument("--arch", type=int, default=90,
                        help="without a GPU: compute capability times 10")  # fmt: skip
    given = parser.parse_args()
    budget: float = given.budget_s
    began = time.monotonic()
    wanted = [
        i
        for i, problem in enumerate(PROBLEMS)
        if (not given.ops and not given.kernel)
        or problem.kernel.split(".")[0] in given.ops
        or problem.kernel in given.kernel
    ]
    if not wanted:
        kernels = sorted({problem.kernel for problem in PROBLEMS})
        parser.error(f"nothing to search; there are {', '.join(ops)} and {', '.join(kernels)}")

    def left() -> float:
        return budget - (time.monotonic() - began)

    here = torch.cuda.is_available()
    device = "cuda" if here else "cpu"
    arch = 10 * torch.cuda.get_device_capability()[0] + torch.cuda.get_device_capability()[1] \
        if here else given.arch  # fmt: skip
    workers = max(1, len(os.sched_getaffinity(0)) - 1)  # one launches
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _hide_gpu)
    ahead: dict[tuple[int, int], Future[Usage | str]] = {}
    shipped = {i: _shipped(PROBLEMS[i], device, arch) for i in wanted}
    for i in wanted:
        for row in (shipped[i], *PROBLEMS[i].rows):
            ahead[i, _key(row)] = pool.submit(_compiled, i, row, arch)
    try:
        for i in wanted:
            problem = PROBLEMS[i]
            if left() <= 0:
                print(f"{problem.kernel}: {problem.name}: not tried, the time is up", flush=True)
                continue
            uses = _asking(ahead, i, shipped[i], left)
            if here:
                found = _measured(problem, shipped[i], uses, lambda: left() <= 0)
                torch.cuda.empty_cache()
            else:
                found = [_read(row, uses(row)) for row in (shipped[i], *problem.rows)]
            _say(problem, shipped[i], found, given.json, budget - left())
            if here and not _alive():
                print("the GPU answers no more: the last row broke it", flush=True)
                break
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():  # in the midst of a row nobody waits for
            process.kill()


def _measured(
    problem: Problem,
    shipped: Blocks,
    uses: Callable[[Blocks], Usage | str | None],
    out_of_time: Callable[[], bool],
) -> list[Tried]:
    """``search`` on the GPU."""
    try:
        call = problem.make("cuda", False)
        return search(problem, shipped, call, timing.microseconds_of, uses, out_of_time)
    except Exception as failure:
        return [Tried(shipped, reason=_line(failure))]


def _of(problem: Problem) -> dict[str, int]:
    """Which calls of the kernel take a row: a layer's step has two products, and only one of them
    is searched."""
    return {name: size for name, size in problem.sizes.items() if name == "outputs"}


def _off(got: Tensor, want: Tensor) -> float:
    wide = torch.complex128 if want.is_complex() else torch.float64
    return timing.relative_difference(got.to(wide), want.to(wide))


def _asking(
    ahead: Mapping[tuple[int, int], Future[Usage | str]],
    i: int,
    shipped: Blocks,
    left: Callable[[], float],
) -> Callable[[Blocks], Usage | str | None]:
    """Waits for what the compiling processes say of a row of problem ``i``."""

    def uses(row: Blocks) -> Usage | str | None:
        try:
            return ahead[i, _key(row)].result(timeout=min(PATIENCE_S, max(0.0, left())))
        except TimeoutError:
            return "not compiled in time"
        except BrokenProcessPool:
            return None  # one of them died, perhaps of another row

    # Where even the shipped row does not compile ahead, what they say means nothing.
    return uses if isinstance(uses(shipped), Usage) else lambda row: None


def _hide_gpu() -> None:
    """In a compiling process, which shall take neither the GPU's memory nor the time of whoever
    launches."""
    os.nice(10)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    torch.set_num_threads(1)


@cache
def _small(i: int) -> Call:
    return PROBLEMS[i].make("cpu", True)


def _compiled(i: int, row: Blocks, arch: int) -> Usage | str:
    """What the kernel of problem ``i`` takes under a row, or why there is none; where a row is for
    several kernels, the most that one of them takes.

    The results lie in Triton's cache on disk, where the process that measures finds them.
    """
    try:
        with compiling_for(arch), forced(PROBLEMS[i].kernel, row, **_of(PROBLEMS[i])):
            kernels = warmup(_small(i), workers=1).kernels
    except Exception as failure:
        return _line(failure)
    name = f"{PROBLEMS[i].kernel.split('.')[1]}_kernel"
    named = [kernel for kernel in kernels if kernel.name == name]
    all_used = [usage(kernel) for kernel in named or kernels]
    return Usage(  # a row may choose the way that has no kernel of ours
        max((used.registers for used in all_used), default=0),
        max((used.spilled for used in all_used), default=0),
        max((used.shared for used in all_used), default=0),
        max((used.warps for used in all_used), default=0),
        tuple(name for used in all_used for name in used.unset),
    )


def _shipped(problem: Problem, device: str, arch: int) -> Blocks:
    if device == "cuda":
        return pick_blocks(problem.kernel, torch.device(device), **problem.sizes)
    with compiling_for(arch):
        return pick_blocks(problem.kernel, torch.device(device), **problem.sizes)


def _key(row: Blocks) -> int:
    return hash((tuple(row.takes.items()), row.warps, row.registers, row.stages))


def _alike(row: Blocks, other: Blocks) -> bool:
    return _key(row) == _key(other)


def _unfit(used: Usage | None) -> str:
    if used is not None and used.spilled > MOST_SPILLED:
        return f"not tried: spills {used.spilled} bytes a thread"
    if used is not None and used.shared > SHARED_BYTES:
        return f"not tried: wants {used.shared} bytes of shared memory"
    if used is not None and used.unset:
        return f"not tried: reads {', '.join(used.unset)} unset"
    return ""


def _read(row: Blocks, used: Usage | str | None) -> Tried:
    if isinstance(used, str):
        return Tried(row, reason=used)
    return Tried(row, reason=_unfit(used), used=used)


def _alive() -> bool:
    """Whether the device still works; after a bad access it does not in this process."""
    try:
        torch.cuda.synchronize()
    except Exception:
        return False
    return True


def _line(failure: Exception) -> str:
    first = str(failure).strip().partition("\n")[0]
    return f"failed: {type(failure).__name__}: {first[:120]}"


def _say(
    problem: Problem, shipped: Blocks, found: Sequence[Tried], as_json: bool, at: float
) -> None:
    """Print what came of a problem."""
    if as_json:
        for tried in found:
            line = asdict(tried) | {"kernel": problem.kernel, "call": problem.name}
            print(json.dumps(line | {"shipped": tried.row is shipped}), flush=True)
        return
    print(f"{problem.kernel}: {problem.name} ({at:.0f} s)")
    before = next((t.microseconds for t in found if t.row is shipped), None)
    for tried in found:
        row = tried.row
        shares = ", ".join(f"{name} {value}" for name, value in row.takes.items())
        took = f"{tried.microseconds:10.1f} us" if tried.microseconds else " " * 13
        ratio = f"{tried.microseconds / before:6.2f}" if tried.microseconds and before else " " * 6
        used = tried.used
        has = f"{used.registers} registers, {used.spilled} spilled, {used.shared} B" if used else ""
        print(
            f"{took} {ratio}  {shares}, {row.warps} warps, at most {row.registers}, stages "
            f"{row.stages}; {has} {tried.reason}{' <- shipped' if row is shipped else ''}"
        )
    winner = best(found, shipped)
    if winner is not None:
        least = shipped.least if problem.least is None else problem.least
        print(f"    {as_source(replace(winner.row, least=least))}")
    elif before is not None:
        print("    the shipped row stays")
    print(flush=True)


if __name__ == "__main__":
    main()
