"""Block sizes of every kernel: shipped tables, looked up at the call, never tuned while running.

A table has rows an architecture; a row holds from some sizes of a call on. Rows for ``sm_90`` come
from measurements on an H200 and an H100; those for ``any`` are the heuristic for all other GPUs:
no cap on registers, which is NVIDIA's alone, and at most 99 KB of shared memory a program.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import torch

from audiomamba.kernels import dispatch

__all__ = ["ANY", "TABLES", "Blocks", "architecture", "forced", "multiprocessors", "pick_blocks"]

ANY: Final = "any"
DEFAULT_MULTIPROCESSORS: Final = 132  # of an H100 or H200; where there is no GPU to ask

_log = logging.getLogger(__name__)
_forced: dict[str, tuple["Blocks", Mapping[str, int]]] = {}  # and of which calls


@dataclass(frozen=True, slots=True)
class Blocks:
    """What a program takes of a call, and how it is compiled.

    Attributes:
        least: Sizes from which on the row holds, by name; every size does without one.
        takes: The program's share by the kernel's own names, of what the table's comment says.
        warps: Of 32 threads.
        registers: Most a thread may have, or None: as the compiler likes.
        stages: Of the software pipeline of loads, or None: as the compiler likes.
    """

    least: Mapping[str, int]
    takes: Mapping[str, int]
    warps: int
    registers: int | None = None
    stages: int | None = None

    def __getitem__(self, name: str) -> int:
        return self.takes[name]

    def holds(self, sizes: Mapping[str, int]) -> bool:
        return all(sizes[name] >= least for name, least in self.least.items())

    @property
    def settings(self) -> dict[str, Any]:
        """As Triton takes them."""
        found: dict[str, Any] = {"num_warps": self.warps}
        if self.registers is not None:
            found["maxnreg"] = self.registers
        if self.stages is not None:
            found["num_stages"] = self.stages
        return found


Table = Mapping[str, tuple[Blocks, ...]]

_CONV: Final = (
    Blocks(
        {"time_contiguous": 1, "frames": 513},
        {"channels": 4, "threads_time": 32, "frames": 8},
        4,
    ),
    Blocks({"time_contiguous": 1}, {"channels": 8, "threads_time": 16, "frames": 8}, 4),
    Blocks({}, {"channels": 64, "threads_time": 4, "frames": 8}, 4),
)
# Five taps and more were not searched for: they keep the rows for any GPU.
_CONV_MANY_TAPS: Final = tuple(replace(row, least={**row.least, "taps": 5}) for row in _CONV[:2])

# In each tuple the first row that holds is taken; the last holds always.
TABLES: Final[Mapping[str, Table]] = {
    # channels, threads along time, and successive frames of a thread; lanes lie along the
    # contiguous axis. time_contiguous 0 or 1, and likewise gradient_contiguous of the output's;
    # frames and taps of a call, pairs of a row and a channel.
    # Where time is contiguous: channels, and lanes in time of 8 frames each. taps.
    "conv.vectors_forward": {ANY: (Blocks({}, {"channels": 1, "threads_time": 64}, 1),)},
    "conv.vectors_backward": {ANY: (Blocks({}, {"channels": 1, "threads_time": 32}, 1),)},
    "conv.forward": {
        "sm_90": (
            *_CONV_MANY_TAPS,
            Blocks(
                {"time_contiguous": 1, "frames": 400},
                {"channels": 2, "threads_time": 128, "frames": 2},
                2,
            ),
            *_CONV[1:],
        ),
        ANY: _CONV,
    },
    "conv.backward": {
        "sm_90": (
            *_CONV_MANY_TAPS,
            Blocks(  # one warp, and time is not cut: only where pairs fill the GPU
                {
                    "time_contiguous": 1,
                    "gradient_contiguous": 1,
                    "frames": 400,
                    "pairs": 12_288,
                },
                {"channels": 1, "threads_time": 32, "frames": 8},
                1,
            ),
            *_CONV,
        ),
        ANY: _CONV,
    },
    # channels of a row.
    "conv.step": {ANY: (Blocks({}, {"channels": 256}, 2),)},
    # channels of a row, and frames at once, both at most.
    "conv.steps": {ANY: (Blocks({}, {"channels": 64, "frames": 16}, 2),)},
    # values at once of each tensor, in whole rows of a group, and most such rows; programs a
    # multiprocessor, at most, which walk over the rows. width of a group, padded to a power of two.
    "norm.forward": {
        ANY: (
            Blocks({"width": 8192}, {"values": 8192, "rows": 1}, 16),
            Blocks({"width": 4096}, {"values": 4096, "rows": 1}, 8),
            Blocks({}, {"values": 2048, "rows": 16}, 4),
        ),
    },
    "norm.backward": {
        "sm_90": (
            Blocks({"width": 8192}, {"values": 8192, "rows": 1, "programs": 4}, 16),
            Blocks({"width": 4096}, {"values": 4096, "rows": 1, "programs": 4}, 8),
            Blocks({"width": 2048}, {"values": 2048, "rows": 16, "programs": 4}, 4),
            Blocks({"width": 1024}, {"values": 1024, "rows": 16, "programs": 8}, 2),
            Blocks({}, {"values": 2048, "rows": 16, "programs": 4}, 4),
        ),
        ANY: (
            Blocks({"width": 8192}, {"values": 8192, "rows": 1, "programs": 4}, 16),
            Blocks({"width": 4096}, {"values": 4096, "rows": 1, "programs": 4}, 8),
            Blocks({}, {"values": 2048, "rows": 16, "programs": 4}, 4),
        ),
    },
    # outputs of a program and inputs at once, whether on tensor cores (dot), and whether the
    # projection of the next kernel is split over the programs of this one. rows of a call, bytes of
    # a value of x, inputs in all. Those for any GPU came from arithmetic: programs for every
    # multiprocessor, and each loads in one piece. Two of them a search on an H200 replaced, for 768
    # inputs in bfloat16; with more inputs than a piece has, the one for 2 to 4 rows would spill.
    "layer_step.enter": {
        "sm_90": (
            Blocks(
                {"rows": 5, "bytes": 4},
                {"outputs": 32, "inputs": 128, "dot": 1, "split": 0},
                4,
                stages=3,
            ),
            Blocks({"rows": 5}, {"outputs": 32, "inputs": 128, "dot": 1, "split": 0}, 2, stages=3),
            Blocks(
                {"rows": 2, "inputs": 1025},
                {"outputs": 4, "inputs": 1024, "dot": 0, "split": 0},
                8,
            ),
            Blocks({"rows": 2}, {"outputs": 8, "inputs": 1024, "dot": 0, "split": 0}, 4),
            Blocks({}, {"outputs": 16, "inputs": 1024, "dot": 0, "split": 1}, 8),
        ),
        ANY: (
            Blocks({"rows": 5}, {"outputs": 32, "inputs": 128, "dot": 1, "split": 0}, 4, stages=3),
            Blocks({"rows": 2}, {"outputs": 4, "inputs": 1024, "dot": 0, "split": 0}, 8),
            Blocks({}, {"outputs": 16, "inputs": 1024, "dot": 0, "split": 1}, 8),
        ),
    },
    # the same of a product alone. rows of a call, outputs in all.
    "layer_step.product": {
        ANY: (
            Blocks(
                {"rows": 5, "outputs": 512}, {"outputs": 16, "inputs": 128, "dot": 1}, 4, stages=4
            ),
            Blocks({"rows": 5}, {"outputs": 1, "inputs": 512, "dot": 0}, 8),
            Blocks({"rows": 2, "outputs": 512}, {"outputs": 2, "inputs": 2048, "dot": 0}, 8),
            Blocks({"outputs": 512}, {"outputs": 4, "inputs": 2048, "dot": 0}, 4),
            Blocks({}, {"outputs": 1, "inputs": 2048, "dot": 0}, 4),
        ),
    },
    # channels of up to 16 states of one row, and parts of a split projection at once. rows of a
    # call.
    "layer_step.advance": {
        ANY: (
            Blocks({"rows": 5}, {"channels": 64, "parts": 32}, 4),
            Blocks({}, {"channels": 32, "parts": 32}, 4),
        ),
    },
    # most rows of a call that are stepped by whole layers; beyond, by parts. bytes of a value of x.
    # In bfloat16 on an H200 whole layers take 0.95 of the parts' time for 16 rows and 1.5 times it
    # for 64. Cautious where nothing was measured: on other GPUs, and in float32, whose products of
    # five rows and more take no tensor cores.
    "layer_step.rows": {
        "sm_90": (Blocks({"bytes": 4}, {"rows": 4}, 1), Blocks({}, {"rows": 16}, 1)),
        ANY: (Blocks({}, {"rows": 4}, 1),),
    },
    # complex states.
    "lti.recurrence": {ANY: (Blocks({}, {"states": 256}, 1),)},
    "lti.parameters": {ANY: (Blocks({}, {"states": 256}, 1),)},
    "lti.step": {ANY: (Blocks({}, {"states": 256}, 1),)},
    # frames of a chunk, chunks of a program at a time, warps of the backward, and programs a
    # multiprocessor at least (each makes its channel's tables).
    "lti.chunks": {
        ANY: (
            Blocks({}, {"frames": 32, "rows": 64, "backward_warps": 4, "programs": 8}, 4, stages=2),
        ),
    },
    # most frames of a call that go through the recurrence; longer ones go through the FFT. Complex
    # states of a channel, and those of all rows and channels: the recurrence takes as long for few
    # as for many, until they fill the GPU. On sm_90 the longest call that was measured to be faster
    # so on an H200, at 64 rows of 640 channels, 8 of 1536 and 1 of 640; elsewhere cautious.
    "lti.mode": {
        "sm_90": (
            Blocks({"states": 33}, {"frames": 64}, 1),
            Blocks({"all_states": 655_360}, {"frames": 4096}, 1),
            Blocks({"all_states": 327_680}, {"frames": 2048}, 1),
            Blocks({}, {"frames": 400}, 1),
        ),
        ANY: (
            Blocks({"states": 33}, {"frames": 64}, 1),
            Blocks({"all_states": 327_680}, {"frames": 400}, 1),
            Blocks({}, {"frames": 64}, 1),
        ),
    },
    # rows x channels of a call, in proportion more with more than 16 states, up to which its rows
    # are cut into pieces; how many pairs there shall be then; steps of a piece, and pieces of a
    # row, at least. states padded to a power of two.
    "scan.pieces": {
        ANY: (Blocks({}, {"most": 3072, "pairs": 49_152, "least": 256, "pieces": 4}, 1),),
    },
    "scan.pieces_backward": {
        ANY: (
            Blocks({"states": 64}, {"most": 16_384, "pairs": 65_536, "least": 256, "pieces": 4}, 1),
            Blocks({}, {"most": 3072, "pairs": 65_536, "least": 256, "pieces": 4}, 1),
        ),
    },
    # channels of 16 states (in proportion for others; as many warps more for every 32 states from
    # 64 on), and steps loaded at once, 4 or 8. states padded to a power of two, pairs of a sequence
    # and a channel.
    "scan.forward": {
        "sm_90": (
            Blocks({"pairs": 40_960}, {"channels": 32, "steps": 8}, 1),
            Blocks({"pairs": 32_768}, {"channels": 16, "steps": 8}, 1, registers=128),
            Blocks({"states": 128}, {"channels": 8, "steps": 8}, 1, registers=96),
            Blocks({"states": 64, "pairs": 4096}, {"channels": 16, "steps": 8}, 2, registers=168),
            Blocks({"states": 64}, {"channels": 8, "steps": 8}, 1, registers=96),
            Blocks({"pairs": 2048}, {"channels": 16, "steps": 8}, 2, registers=128),
            Blocks({}, {"channels": 2, "steps": 8}, 1, registers=128),
        ),
        ANY: (
            Blocks({"pairs": 32_768}, {"channels": 32, "steps": 8}, 1),
            Blocks({}, {"channels": 8, "steps": 8}, 1),
        ),
    },
    "scan.backward": {
        "sm_90": (
            Blocks({"pairs": 32_768}, {"channels": 32, "steps": 4}, 1),
            Blocks({"states": 128}, {"channels": 8, "steps": 8}, 1, registers=168),
            Blocks({"states": 64, "pairs": 4096}, {"channels": 32, "steps": 4}, 2, registers=255),
            Blocks({"states": 64}, {"channels": 8, "steps": 8}, 1, registers=168),
            Blocks({"pairs": 2048}, {"channels": 8, "steps": 8}, 1, registers=168),
            Blocks({}, {"channels": 2, "steps": 8}, 1, registers=168),
        ),
        ANY: (
            Blocks({"pairs": 32_768}, {"channels": 32, "steps": 4}, 1),
            Blocks({}, {"channels": 8, "steps": 4}, 1),
        ),
    },
    # channels of up to 16 states. rows of a call.
    "scan.step": {
        ANY: (
            Blocks({"rows": 1024}, {"channels": 128}, 4),
            Blocks({"rows": 2}, {"channels": 64}, 2),
            Blocks({}, {"channels": 32}, 1),
        ),
    },
    # steps of a chunk. bytes of a value of x, states padded to a power of two.
    "ssd.chunk": {
        ANY: (
            Blocks({"bytes": 4, "states": 256}, {"steps": 16}, 1),
            Blocks({"bytes": 4}, {"steps": 32}, 1),
            Blocks({"states": 256}, {"steps": 32}, 1),
            Blocks({}, {"steps": 64}, 1),
        ),
    },
    # steps and heads, at most.
    "ssd.sizes": {ANY: (Blocks({}, {"steps": 64, "heads": 16}, 4),)},
    # channels of a head and of their states, at most. bytes, states. Only "ssd.shared" can do with
    # less than all states.
    "ssd.forward": {
        "sm_90": (
            Blocks({"bytes": 4, "states": 256}, {"channels": 16, "states": 256}, 8, stages=1),
            Blocks({"bytes": 4}, {"channels": 16, "states": 256}, 4, stages=1),
            Blocks({"states": 256}, {"channels": 16, "states": 256}, 4, stages=1),
            Blocks({}, {"channels": 64, "states": 256}, 4, stages=2),
        ),
        ANY: (
            Blocks({"bytes": 4, "states": 256}, {"channels": 16, "states": 256}, 8, stages=1),
            Blocks({"bytes": 4}, {"channels": 16, "states": 256}, 4, stages=1),
            Blocks({"states": 256}, {"channels": 16, "states": 256}, 4, stages=1),
            Blocks({}, {"channels": 32, "states": 256}, 4, stages=1),
        ),
    },
    "ssd.gradient": {
        "sm_90": (
            Blocks({"bytes": 4}, {"channels": 32, "states": 256}, 4, stages=1),
            Blocks({"states": 256}, {"channels": 32, "states": 256}, 4, stages=2),
            Blocks({}, {"channels": 64, "states": 256}, 4, stages=2),
        ),
        ANY: (Blocks({}, {"channels": 32, "states": 256}, 4, stages=1),),
    },
    # On sm_90 products of 64 steps take four warps. With eight some are divided among them, but of
    # one that another follows two warps each do the same rows. In 168 registers three programs of
    # four fit a multiprocessor, in 128 four.
    "ssd.outputs": {
        "sm_90": (
            Blocks({"bytes": 4}, {"channels": 16, "states": 256}, 8, stages=1),
            Blocks({"states": 256}, {"channels": 32, "states": 256}, 4, 168, stages=1),
            Blocks({}, {"channels": 32, "states": 256}, 4, 128),
        ),
        ANY: (Blocks({}, {"channels": 16, "states": 256}, 8, stages=1),),
    },
    "ssd.heads": {
        "sm_90": (
            Blocks({"bytes": 4}, {"channels": 16, "states": 256}, 8, stages=1),
            Blocks({"states": 256}, {"channels": 16, "states": 256}, 4, 168, stages=1),
            Blocks({}, {"channels": 64, "states": 256}, 4, 168, stages=2),
        ),
        ANY: (Blocks({}, {"channels": 16, "states": 256}, 8, stages=1),),
    },
    "ssd.shared": {
        "sm_90": (
            Blocks({"bytes": 4}, {"channels": 32, "states": 64}, 8, stages=1),
            Blocks({}, {"channels": 64, "states": 128}, 4),
        ),
        ANY: (
            Blocks({"bytes": 4}, {"channels": 16, "states": 64}, 8, stages=1),
            Blocks({}, {"channels": 32, "states": 64}, 8, stages=1),
        ),
    },
    # values of the states of a program. rows of a call.
    "ssd.step": {
        ANY: (
            Blocks({"rows": 64}, {"values": 4096}, 4),
            Blocks({"rows": 8}, {"values": 2048}, 2),
            Blocks({}, {"values": 1024}, 1),
        ),
    },
    # steps of a program, which has one head of a row. states padded to a power of two.
    "mamba3.turn": {
        ANY: (Blocks({"states": 256}, {"steps": 16}, 4), Blocks({}, {"steps": 32}, 4)),
    },
    "mamba3.unturn": {
        ANY: (Blocks({"states": 256}, {"steps": 16}, 8), Blocks({}, {"steps": 32}, 8)),
    },
    "mamba3.emit": {ANY: (Blocks({}, {"steps": 32}, 4),)},
    # a program has one head of a row. values of its state, padded to powers of two; rows of a call.
    "mamba3.step": {
        "sm_90": (
            Blocks({"values": 32_768}, {}, 16),
            Blocks({"values": 16_384}, {}, 8),
            Blocks({"values": 8192, "rows": 1024}, {}, 2),
            Blocks({"values": 8192}, {}, 4),
            Blocks({"values": 4096}, {}, 2),
            Blocks({}, {}, 1),
        ),
        ANY: (
            Blocks({"values": 32_768}, {}, 16),
            Blocks({"values": 16_384}, {}, 8),
            Blocks({"values": 8192}, {}, 4),
            Blocks({"values": 4096}, {}, 2),
            Blocks({}, {}, 1),
        ),
    },
}


def pick_blocks(kernel: str, device: torch.device, **sizes: int) -> Blocks:
    """The row of a kernel's table for a device and the sizes of a call.

    Args:
        kernel: A key of ``TABLES``.
        device: That is to run it.
        sizes: All that the table's rows ask for.
    """
    if kernel in _forced:
        row, of = _forced[kernel]
        if of.items() <= sizes.items():
            return row
    rows = _rows(kernel, architecture(device))
    return next(row for row in rows if row.holds(sizes))


@lru_cache
def _rows(kernel: str, arch: str) -> tuple[Blocks, ...]:
    """The rows of an architecture, of the nearest older one of its generation, or for any."""
    table = TABLES[kernel]
    if arch in table:
        return table[arch]
    older = [
        name
        for name in table
        if name != ANY and name[:-1] == arch[:-1] and int(name[3:]) < int(arch[3:])
    ]
    found = max(older, default=ANY, key=lambda name: int(name[3:]))
    if arch != ANY and len(table) > 1:
        _log.info("%s: no block sizes for %s, those for %s are taken", kernel, arch, found)
    return table[found]


def architecture(device: torch.device) -> str:
    """``sm_90`` and the like for an NVIDIA GPU, ``any`` for all else."""
    if dispatch.offline is not None:
        return f"sm_{dispatch.offline}"
    return _architecture(device) if device.type == "cuda" else ANY


@lru_cache
def _architecture(device: torch.device) -> str:
    if torch.version.hip is not None:
        return ANY
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}"


def multiprocessors(device: torch.device) -> int:
    """How many a device has; what a grid must fill."""
    return _multiprocessors(device) if device.type == "cuda" else DEFAULT_MULTIPROCESSORS


@lru_cache
def _multiprocessors(device: torch.device) -> int:
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


@contextlib.contextmanager
def forced(kernel: str, row: Blocks, **of: int) -> Iterator[None]:
    """Take one row for all calls of a kernel meanwhile, or for those of some sizes: tests, benches
    and the search reach every row so."""
    before = dict(_forced)
    _forced[kernel] = row, of
    try:
        yield
    finally:
        _forced.clear()
        _forced.update(before)
