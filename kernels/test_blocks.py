"""The shipped tables: every row can be reached, and every GPU finds one."""

import logging

import pytest
import torch

from audiomamba.kernels import blocks
from audiomamba.kernels.blocks import ANY, TABLES, Blocks, forced, pick_blocks

HERE = torch.device("cpu")
CONV = {"time_contiguous": 1, "frames": 400, "taps": 4}


@pytest.mark.parametrize("kernel", TABLES)
def test_no_row_is_hidden_by_those_before_it(kernel: str) -> None:
    for rows in TABLES[kernel].values():
        names = {name for row in rows for name in row.least}
        for row in rows:
            sizes = {name: row.least.get(name, 0) for name in names}
            assert next(other for other in rows if other.holds(sizes)) is row
        assert not rows[-1].least, "the last row must hold for every call"


@pytest.mark.parametrize("kernel", TABLES)
def test_rows_of_one_kernel_name_the_same_shares(kernel: str) -> None:
    shares = {frozenset(row.takes) for rows in TABLES[kernel].values() for row in rows}
    assert len(shares) == 1
    assert ANY in TABLES[kernel]


@pytest.mark.parametrize("kernel", TABLES)
def test_what_is_for_any_gpu_caps_no_registers(kernel: str) -> None:
    assert all(row.registers is None for row in TABLES[kernel][ANY])


def test_an_unknown_gpu_takes_the_nearest_older_of_its_generation(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    table = {arch: (Blocks({}, {}, warps),) for warps, arch in enumerate(["any", "sm_80", "sm_86"])}
    monkeypatch.setitem(blocks.TABLES, "test", table)
    with caplog.at_level(logging.INFO, logger="audiomamba.kernels.blocks"):
        for arch, want in {
            "sm_89": 2,
            "sm_86": 2,
            "sm_84": 1,
            "sm_80": 1,
            "sm_90": 0,
            "any": 0,
        }.items():
            monkeypatch.setattr(blocks, "architecture", lambda device, arch=arch: arch)
            assert pick_blocks("test", HERE).warps == want
            assert pick_blocks("test", HERE).warps == want
    said = [record.getMessage().split(":", 1)[1] for record in caplog.records]
    assert [line.split()[4] for line in said] == ["sm_89,", "sm_84,", "sm_90,"]  # once each


def test_the_first_row_that_holds_is_taken() -> None:
    assert pick_blocks("conv.forward", HERE, time_contiguous=1, frames=513)["channels"] == 4
    assert pick_blocks("conv.forward", HERE, time_contiguous=1, frames=512)["channels"] == 8
    assert pick_blocks("conv.forward", HERE, time_contiguous=0, frames=513)["channels"] == 64


@pytest.mark.parametrize(
    ("kernel", "sizes", "channels"),
    [
        ("scan.forward", {"pairs": 1536, "states": 16}, 2),
        ("scan.forward", {"pairs": 12_288, "states": 16}, 16),
        ("scan.forward", {"pairs": 32_768, "states": 16}, 16),
        ("scan.forward", {"pairs": 81_920, "states": 16}, 32),
        ("scan.forward", {"pairs": 4096, "states": 64}, 16),
        ("scan.forward", {"pairs": 512, "states": 64}, 8),
        ("scan.forward", {"pairs": 4096, "states": 128}, 8),
        ("conv.forward", CONV, 2),
        ("conv.forward", CONV | {"frames": 399}, 8),
        ("conv.forward", CONV | {"frames": 2048, "taps": 15}, 4),
        ("conv.backward", CONV | {"gradient_contiguous": 1, "pairs": 40_960}, 1),
        ("conv.backward", CONV | {"gradient_contiguous": 0, "pairs": 40_960}, 8),
        ("conv.backward", CONV | {"gradient_contiguous": 1, "pairs": 1536}, 8),
        ("ssd.heads", {"bytes": 2, "states": 128}, 64),
        ("ssd.heads", {"bytes": 2, "states": 256}, 16),
        ("ssd.heads", {"bytes": 4, "states": 128}, 16),
    ],
)
def test_a_row_found_by_search_leaves_other_calls_theirs(
    monkeypatch: pytest.MonkeyPatch, kernel: str, sizes: dict[str, int], channels: int
) -> None:
    monkeypatch.setattr(blocks, "architecture", lambda device: "sm_90")
    assert pick_blocks(kernel, HERE, **sizes)["channels"] == channels


@pytest.mark.parametrize(
    ("sizes", "outputs", "warps"),
    [
        ({"rows": 1, "bytes": 2, "inputs": 768}, 16, 8),
        ({"rows": 2, "bytes": 2, "inputs": 768}, 8, 4),
        ({"rows": 4, "bytes": 4, "inputs": 1024}, 8, 4),
        ({"rows": 4, "bytes": 2, "inputs": 1025}, 4, 8),
        ({"rows": 5, "bytes": 2, "inputs": 2048}, 32, 2),
        ({"rows": 5, "bytes": 4, "inputs": 768}, 32, 4),
    ],
)
def test_so_does_one_for_few_rows_of_a_layer(
    monkeypatch: pytest.MonkeyPatch, sizes: dict[str, int], outputs: int, warps: int
) -> None:
    monkeypatch.setattr(blocks, "architecture", lambda device: "sm_90")
    row = pick_blocks("layer_step.enter", HERE, **sizes)
    assert (row["outputs"], row.warps) == (outputs, warps)


def test_a_row_is_forced_for_a_while() -> None:
    row = Blocks({}, {"channels": 3}, 1, registers=64, stages=2)
    with forced("conv.forward", row):
        assert pick_blocks("conv.forward", HERE, time_contiguous=1, frames=1) is row
    assert row.settings == {"num_warps": 1, "maxnreg": 64, "num_stages": 2}
    assert pick_blocks("conv.forward", HERE, time_contiguous=1, frames=1) is not row
    with forced("conv.forward", row, frames=1):
        assert pick_blocks("conv.forward", HERE, time_contiguous=1, frames=1) is row
        assert pick_blocks("conv.forward", HERE, time_contiguous=1, frames=2) is not row
