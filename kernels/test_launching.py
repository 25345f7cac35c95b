"""A warm process compiles nothing: warm-up finds every kernel that the calls go on to launch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from audiomamba.kernels import compilations, warmup, workload
from audiomamba.kernels.dispatch import HAS_TRITON, INTERPRETED
from audiomamba.kernels.scan import scan_step_
from audiomamba.kernels.scan.cases import Case, inputs

pytestmark = pytest.mark.skipif(not HAS_TRITON, reason="gpu: triton is not installed")
_no_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="gpu: no GPU here")

# Without the interpreter and without a GPU: kernels are compiled for one that is not there. Run
# in a process of its own, as Triton reads TRITON_INTERPRET once.
OFFLINE = """
import torch
from audiomamba.kernels import warmup, workload
from audiomamba.kernels.offline import compiling_for

def warm(steps):
    calls = workload.calls("norm", "cpu", torch.bfloat16, steps=steps)
    done = warmup(*calls.values())
    print(len(done.kernels), *sorted(done.compiled))

with compiling_for(90):
    for steps in (16, 16, 32, 17):
        warm(steps)
"""


@pytest.mark.slow
def test_a_second_warm_up_meets_no_new_kernel_and_lengths_of_a_kind_share_theirs(
    tmp_path: Path,
) -> None:
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    run = subprocess.run(
        [sys.executable, "-c", OFFLINE], env=environment, capture_output=True, text=True, check=True
    )
    once, again, alike, other = run.stdout.splitlines()
    both = ["backward_kernel"] * 3 + ["forward_kernel"] * 3  # with and without both kinds of gate
    assert once.split() == ["6", *both]
    assert again == alike == "6"
    assert other.split() == ["6", *both]  # 34 rows are no multiple of 16


@pytest.mark.skipif(not INTERPRETED, reason="gpu-interpreted: TRITON_INTERPRET=1 is not set")
def test_a_warm_up_launches_nothing() -> None:
    given = inputs(Case(B=2, T=1, D=4, N=2))
    for name in ("u", "delta", "z", "B", "C"):
        given[name] = given[name][:, 0]
    pool = torch.ones(3, 4, 2)
    slots = torch.tensor([1, 2])
    del given["initial_state"], given["reverse"]

    def step() -> None:
        scan_step_(**given, pool=pool, slots=slots, implementation="gpu")

    done = warmup(step)
    assert done.kernels == done.compiled == ()
    assert torch.equal(pool, torch.ones(3, 4, 2))
    step()
    assert not torch.equal(pool[1:], torch.ones(2, 4, 2))


def test_a_call_that_fails_is_heard_and_leaves_launches_as_they_were() -> None:
    def fail() -> None:
        raise RuntimeError("a call's own")

    with pytest.raises(RuntimeError, match="a call's own"):
        warmup(fail)
    given = inputs(Case(T=1, D=1, N=1))
    place = "gpu" if INTERPRETED else None
    for name in ("u", "delta", "z", "B", "C"):
        given[name] = given[name][:, 0]
    del given["initial_state"], given["reverse"]
    pool = torch.zeros(2, 1, 1)
    scan_step_(**given, pool=pool, slots=torch.tensor([1]), implementation=place)
    assert pool[1] != 0


@pytest.mark.gpu
@_no_gpu
@pytest.mark.parametrize("op", workload.OPS)
@pytest.mark.parametrize("steps", [1, 16, 17])
def test_after_a_warm_up_nothing_is_compiled(op: str, steps: int) -> None:
    for dtype in (torch.bfloat16, torch.float32):
        calls = workload.calls(op, "cuda", dtype, steps=steps).values()
        done = warmup(*calls)
        assert done.kernels
        with compilations() as met:
            for call in calls:
                call()
            torch.cuda.synchronize()
        assert met == []
