"""Compile the kernels for a GPU that is not here: what the assembler makes of each.

``python -m audiomamba.kernels.offline [--arch 90] [OP ...]`` runs the calls of the ops' tables on
tensors of the CPU with launches replaced by compilation (``launching.warmup``) and prints, for each
kernel that results, its registers, bytes spilled and shared memory, and what it reads unset. A
kernel that does not compile for that architecture is an error here and not on somebody's machine.
"""

import contextlib
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiomamba.errors import BackendError
from audiomamba.kernels import dispatch
from audiomamba.kernels.launching import warmup

__all__ = ["Usage", "compiling_for", "usage"]

# An instruction of a disassembly: its name and its operands.
INSTRUCTION = re.compile(r"\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?(\S+)\s*(.*?);")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a kernel takes: registers and spilled bytes a thread, shared bytes a program; and the
    uniform registers that it reads before an instruction sets them.

    There are none of those if the assembler is right. That of Triton 3.6 was not: where many
    addresses of operands of Hopper's products were made before a loop, it lost where two of them
    start from, and the product read anywhere. Other tile sizes or stages avoid it.
    """

    registers: int
    spilled: int
    shared: int
    warps: int
    unset: tuple[str, ...] = ()


@contextlib.contextmanager
def compiling_for(capability: int) -> Iterator[None]:
    """Let Triton compile for an NVIDIA GPU of a compute capability, 90 for 9.0, without one.

    Meanwhile the ops take ``implementation="gpu"`` for tensors of the CPU. They must be called
    under ``launching.warmup``, as nothing can be launched.

    Raises:
        BackendError: Triton is not there, or interprets.
    """
    if not dispatch.HAS_TRITON or dispatch.INTERPRETED:
        raise BackendError("compiling_for: needs triton, and TRITON_INTERPRET unset")
    from triton.backends.compiler import GPUTarget
    from triton.backends.driver import DriverBase
    from triton.runtime import driver

    class Absent(DriverBase):  # type: ignore[misc]
        """Says what it is asked to compile for, and cannot launch."""

        @classmethod
        def is_active(cls) -> bool:
            return False

        def map_python_to_cpp_type(self, ty: str) -> str:
            return ty

        def get_current_target(self) -> Any:
            return GPUTarget("cuda", capability, 32)

        def get_current_device(self) -> int:
            return -capability  # a cache of its own beside those of devices that are there

        def get_current_stream(self, device: int) -> int:
            return 0

        def get_active_torch_device(self) -> Any:
            raise BackendError("compiling_for: there is no device")

        def get_benchmarker(self) -> Any:
            raise BackendError("compiling_for: there is no device")

    before = driver._active
    driver.set_active(Absent())
    dispatch.offline = capability
    try:
        yield
    finally:
        dispatch.offline = None
        driver._active = before


def usage(kernel: Any) -> Usage:
    """What a kernel compiled for NVIDIA takes, as the assembler says."""
    said = _said_by("cuobjdump", kernel, "-res-usage")
    found = dict(re.findall(r"(REG|STACK|SHARED|LOCAL):(\d+)", said))
    return Usage(
        int(found["REG"]),
        int(found["STACK"]),
        kernel.metadata.shared,
        kernel.metadata.num_warps,
        _unset_in(_said_by("nvdisasm", kernel)),
    )


def _unset_in(disassembly: str) -> tuple[str, ...]:
    """Uniform registers that are read, in the order of the lines, before one of them sets them."""
    known: set[int] = set()
    lost: list[str] = []
    for line in disassembly.splitlines():
        found = INSTRUCTION.match(line)
        if found is None:
            continue
        name, operands = found[1], [operand.strip() for operand in found[2].split(",")]
        count = 2 if ".64" in name or ".WIDE" in name else 4 if ".128" in name else 1
        target = re.fullmatch(r"UR(\d+)", operands[0])
        reads: set[int] = set()
        for i, operand in enumerate(operands[1:] if target else operands):
            if of_product := re.search(r"gdesc\[UR(\d+)\]", operand):
                # Two operands in shared memory, or the second, which is the upper half.
                first = int(of_product[1])
                reads.update(range(first + (2 if i == 2 else 0), first + 4))
                continue
            for of_memory in re.findall(r"desc\[UR(\d+)\]", operand):
                reads.update((int(of_memory), int(of_memory) + 1))
            reads.update(map(int, re.findall(r"(?<!desc\[)\bUR(\d+)", operand)))
        lost += [f"UR{register}" for register in sorted(reads - known)]
        known |= reads
        if target:
            known.update(range(int(target[1]), int(target[1]) + count))
    return tuple(lost)


def _said_by(tool: str, kernel: Any, *options: str) -> str:
    """What a tool for binaries that comes with Triton prints about a kernel."""
    from triton import knobs

    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        path = Path(getattr(knobs.nvidia, tool).path)
        run = subprocess.run(
            [path, *options, file.name], capture_output=True, text=True, check=True
        )
    return run.stdout


def main() -> None:
    """Print what the kernels of some ops take, one line a kernel and set of block sizes."""
    import argparse

    import torch

    from audiomamba.kernels import workload

    parser = argparse.ArgumentParser(prog="python -m audiomamba.kernels.offline")
    parser.add_argument("ops", nargs="*", metavar="OP", help=", ".join(workload.OPS))
    parser.add_argument("--arch", type=int, default=90, help="compute capability times 10")
    parser.add_argument("--steps", type=int, default=64, help="frames of the calls")
    given = parser.parse_args()
    print(f"sm_{given.arch}: registers and spilled bytes a thread, shared bytes a program")
    with compiling_for(given.arch):
        for op in given.ops or workload.OPS:
            for dtype in (torch.bfloat16, torch.float32):
                for what, call in workload.calls(op, "cpu", dtype, steps=given.steps).items():
                    for kernel in warmup(call).kernels:
                        took = usage(kernel)
                        print(
                            f"{op:7} {str(dtype).removeprefix('torch.'):9} {what:28} "
                            f"{kernel.name:18} {took.registers:4} {took.spilled:6} "
                            f"{took.shared:7} {took.warps:3} warps"
                            f"{''.join(f', {name} unset' for name in took.unset)}",
                            flush=True,
                        )


if __name__ == "__main__":
    main()
