"""The kernels compile for GPUs that are not here, and fit them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from audiomamba.errors import BackendError
from audiomamba.kernels.dispatch import HAS_TRITON, INTERPRETED
from audiomamba.kernels.offline import compiling_for

SHARED_BYTES = {90: 227 * 1024, 86: 99 * 1024}  # a program may have
SPILLED_BYTES = 64  # a thread of the 16-bit kernels of the duality on sm_90; more is a wrong tile

# In a process of its own, as Triton reads TRITON_INTERPRET once.
REPORT = """
import json, re, sys
import torch
from audiomamba.kernels import warmup, workload
from audiomamba.kernels.offline import compiling_for, usage

arch, dtype, steps, wanted = sys.argv[1:]
with compiling_for(int(arch)):
    for op in workload.OPS:
        calls = workload.calls(op, "cpu", getattr(torch, dtype), steps=int(steps))
        for what, call in calls.items():
            if re.fullmatch(wanted, f"{op} {what}"):
                for kernel in warmup(call).kernels:
                    found = usage(kernel)
                    print(json.dumps([op, kernel.name, found.spilled, found.shared]))
"""


def report(cache: Path, *args: str) -> list[tuple[str, str, int, int]]:
    """Op, kernel, spilled and shared bytes of what some calls launch."""
    environment = {**os.environ, "TRITON_CACHE_DIR": str(cache)}
    environment.pop("TRITON_INTERPRET", None)
    run = subprocess.run(
        [sys.executable, "-c", REPORT, *args], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return [tuple(json.loads(line)) for line in run.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.skipif(not HAS_TRITON, reason="gpu: triton is not installed")
def test_the_backward_of_the_duality_keeps_to_its_registers(tmp_path: Path) -> None:
    found = report(tmp_path, "90", "bfloat16", "64", "ssd 64 x 128 states")
    assert {name for _, name, _, _ in found} == {
        "sizes_kernel", "forward_kernel", "gradient_kernel", "heads_kernel", "shared_kernel",
    }  # fmt: skip
    for _, name, spilled, shared in found:
        assert spilled <= SPILLED_BYTES, name
        assert shared <= SHARED_BYTES[90], name


@pytest.mark.slow
@pytest.mark.skipif(not HAS_TRITON, reason="gpu: triton is not installed")
# Half a minute of compiling each, so not every mixture. float32 wants most shared memory, sm_86 has
# least; one frame is a kind of its own, since Triton sets it as a constant. Fifteen taps unrolled
# take as long in one layout as half of all else, so the two GPUs share the layouts.
@pytest.mark.parametrize(
    ("arch", "dtype", "steps", "left_out"),
    [(86, "float32", 40, "channels"), (90, "bfloat16", 1, "time")],
)
def test_every_kernel_compiles_and_fits(
    tmp_path: Path, arch: int, dtype: str, steps: int, left_out: str
) -> None:
    wanted = f"(?!conv 15 taps, {left_out} contiguous).*"
    found = report(tmp_path, str(arch), dtype, str(steps), wanted)
    assert len(found) > 20
    for op, name, _, shared in found:
        assert shared <= SHARED_BYTES[arch], f"{op} {name}"


def test_the_interpreter_compiles_nothing() -> None:
    if INTERPRETED:
        with pytest.raises(BackendError, match="TRITON_INTERPRET unset"), compiling_for(90):
            pass
