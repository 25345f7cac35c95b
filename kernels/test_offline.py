"""The kernels compile for GPUs that are not here, and fit them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from audiomamba.errors import BackendError
from audiomamba.kernels.dispatch import HAS_TRITON, INTERPRETED
from audiomamba.kernels.offline import _unset_in, compiling_for

SHARED_BYTES = {90: 227 * 1024, 86: 99 * 1024}  # a program may have
# A thread of the 16-bit kernels of the duality on sm_90; more is a wrong tile. `heads_kernel`
# spills most, 216 (64 by Triton 3.6): with registers for all it takes 8 % longer on an H200.
SPILLED_BYTES = 256

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
                    line = [op, kernel.name, found.spilled, found.shared, found.unset]
                    print(json.dumps(line))
"""


def report(cache: Path, *args: str) -> list[tuple[str, str, int, int, list[str]]]:
    """Op, kernel, spilled and shared bytes, and registers read unset, of what some calls launch."""
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
    found = report(tmp_path, "90", "bfloat16", "128", "ssd 64 x 128 states")
    assert {name for _, name, _, _, _ in found} == {
        "sizes_kernel", "forward_kernel", "emit_kernel", "outputs_kernel", "gradient_kernel",
        "heads_kernel", "shared_kernel",
    }  # fmt: skip
    for _, name, spilled, shared, lost in found:
        assert not lost, name
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
    for op, name, _, shared, lost in found:
        assert not lost, f"{op} {name}"
        assert shared <= SHARED_BYTES[arch], f"{op} {name}"


@pytest.mark.parametrize(
    ("instructions", "lost"),
    [
        (["S2UR UR4, SR_CgaCtaId", "UIADD3 UR5, UR4, 0x40, URZ"], []),
        (["UIADD3 UR39, UP1, UR39, 0x40, URZ"], ["UR39"]),
        (["ULDC.64 UR4, c[0x0][0x208]", "@P0 LDG.E R2, desc[UR4][R2.64]"], []),
        (["ULDC UR4, c[0x0][0x208]", "@P0 LDG.E R2, desc[UR4][R2.64]"], ["UR5"]),
        (["ULDC.128 UR8, c[0x0][0x210]", "HGMMA.64x32x16.F32 R24, gdesc[UR8], R24"], []),
        (
            ["ULDC.64 UR8, c[0x0][0x210]", "HGMMA.64x32x16.F32 R24, gdesc[UR8], R24"],
            ["UR10", "UR11"],
        ),
        (["ULDC.64 UR10, c[0x0][0x210]", "HGMMA.64x32x16.F32 R24, R40, gdesc[UR8].tnspB, R24"], []),
    ],
)
def test_what_is_read_before_it_is_set_is_found(instructions: list[str], lost: list[str]) -> None:
    lines = [
        f"        /*{16 * i:04x}*/                   {x} ;" for i, x in enumerate(instructions)
    ]
    assert list(_unset_in("\n".join(lines))) == lost


def test_the_interpreter_compiles_nothing() -> None:
    if INTERPRETED:
        with pytest.raises(BackendError, match="TRITON_INTERPRET unset"), compiling_for(90):
            pass
