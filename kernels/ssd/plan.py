"""How a call of the duality on a GPU is cut up: chunks, spans, and what a program takes."""

from dataclasses import dataclass
from typing import Any, Final

import torch
import triton
from torch import Tensor

from audiomamba.kernels.blocks import multiprocessors, pick_blocks
from audiomamba.kernels.ssd.op import chunk_steps, num_chunks, state_rows

__all__ = ["PROGRAMS", "Plan", "plan_of", "share_of"]

PROGRAMS: Final = 2  # a multiprocessor; below, time is cut into spans, heads into shares
MIN_SPAN: Final = 4  # chunks; shorter spans would be all first pass
MIN_DOT: Final = 16  # least side of a product on tensor cores


@dataclass(frozen=True, slots=True)
class Plan:
    """How a call is cut up."""

    sequences: int
    steps: int  # of a chunk
    span: int  # chunks
    splits: int  # spans of a sequence, where none are packed
    num_spans: int
    spans: Tensor | None  # (num_spans, 6) int32: see place_of_span; None where it is arithmetic
    chunks: Tensor | None  # (num_chunks, 2) int32: first and last time; likewise

    @property
    def split(self) -> bool:
        return self.splits > 1


def share_of(kernel: str, x: Tensor, B: Tensor) -> tuple[int, dict[str, Any]]:
    """Programs that share a head, and the constants of a program."""
    width = x.shape[3]
    NP = max(MIN_DOT, triton.next_power_of_2(B.shape[3]))
    row = pick_blocks(f"ssd.{kernel}", x.device, bytes=x.element_size(), states=NP)
    BP = max(MIN_DOT, min(row["channels"], triton.next_power_of_2(width)))
    constants = {
        "P": width,
        "N": B.shape[3],
        "BP": BP,
        "NP": min(NP, row["states"]),
        "Q": chunk_steps(x, B),
        "PRECISION": "ieee" if x.dtype == torch.float32 else "tf32",
        **row.settings,
    }
    return triton.cdiv(width, BP), constants


def plan_of(x: Tensor, B: Tensor, cu_seqlens: Tensor | None) -> Plan:
    """Cut a call up so that its programs fill the device."""
    _, steps, heads, _ = x.shape
    Q = chunk_steps(x, B)
    sequences = state_rows(x, cu_seqlens)
    programs = heads * share_of("forward", x, B)[0]
    if cu_seqlens is None:  # packed ones count as one
        programs *= sequences
    chunks = triton.cdiv(steps, Q)  # of a row
    full = PROGRAMS * multiprocessors(x.device)
    wanted = triton.cdiv(full, max(programs, 1)) if programs <= full // 2 else 1
    splits = max(1, min(wanted, chunks // MIN_SPAN))
    span = max(1, triton.cdiv(chunks, splits))
    splits = max(1, triton.cdiv(chunks, span))
    if cu_seqlens is None:
        return Plan(sequences, Q, span, splits, sequences * splits, None, None)
    num_spans = steps // (span * Q) + sequences
    spans, table = _packed(cu_seqlens, Q, span, num_spans, num_chunks(x, B, cu_seqlens))
    return Plan(sequences, Q, span, splits, num_spans, spans, table)


def _packed(
    cu_seqlens: Tensor, Q: int, span: int, num_spans: int, num_chunks: int
) -> tuple[Tensor, Tensor]:
    """Tables of the spans and chunks of packed sequences, made without waiting for the device.

    A sequence without a step has one span, which hands its state on. Spans and chunks past those
    in use have no steps, and are nobody's last.
    """
    ends = cu_seqlens.long()
    start, end = ends[:-1], ends[1:]
    counts = ((end - start + span * Q - 1) // (span * Q)).clamp(min=1)
    past = counts.cumsum(0)  # number of the first span after each sequence
    i = torch.arange(num_spans, device=ends.device)
    found = torch.searchsorted(past, i, right=True)
    used = found < start.shape[0]
    seq = found.clamp(max=start.shape[0] - 1)
    first = (past - counts)[seq]
    begin = torch.minimum(start[seq] + (i - first) * span * Q, end[seq])
    stop = torch.where(used, torch.minimum(begin + span * Q, end[seq]), begin)
    last = torch.where(used, past[seq] - 1, -1)
    first_chunk = start // Q + torch.arange(start.shape[0], device=ends.device)
    i_chunk = first_chunk[seq] + (i - first) * span
    spans = torch.stack((seq, begin, stop, torch.where(used, first, i), last, i_chunk), 1).int()

    j = torch.arange(num_chunks, device=ends.device)
    owner = torch.searchsorted(first_chunk, j, right=True) - 1
    begin = start[owner] + (j - first_chunk[owner]) * Q
    chunks = torch.stack((begin, torch.minimum(begin + Q, end[owner])), 1).int()
    return spans, chunks.contiguous()
