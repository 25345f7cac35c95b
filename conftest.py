"""Collect linked folders under their import name, and run the GPU's kernels where there is none.

``pytest kernels/<op>`` works; ``-m gpu --require-gpu`` fails where a GPU test would be skipped;
without a GPU Triton's interpreter runs the kernels, and a process computes in one thread.
"""

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

LINKED = ("kernels", "streaming", "conf")
collect_ignore = list(LINKED)

ACCELERATORS = ("/dev/nvidiactl", "/dev/kfd")  # device files of the two drivers


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-gpu", action="store_true", help="fail a test marked gpu instead of skipping it"
    )


def pytest_configure(config: pytest.Config) -> None:
    given = [arg.removeprefix(f"{config.rootpath}/").removeprefix("./") for arg in config.args]
    config.args = [f"audiomamba/{arg}" if arg.split("/")[0] in LINKED else arg for arg in given]
    without_gpu = not any(Path(path).exists() for path in ACCELERATORS)
    # Both are read once, when triton and torch are imported; no import of either may come before.
    if without_gpu:
        os.environ.setdefault("TRITON_INTERPRET", "1")
    if without_gpu or "PYTEST_XDIST_WORKER" in os.environ:
        # The tests' tensors are small, and on few or busy cores threads wait for each other longer
        # than they work. Servers and commands that tests start inherit it.
        os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and item.config.getoption("--require-gpu") and item.get_closest_marker("gpu"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: skipped, but --require-gpu was given"
    return report


@pytest.fixture
def poison() -> Iterator[None]:
    """Fill uninitialised memory with NaN during the test."""
    from audiomamba.kernels.testing import poisoned

    with poisoned():
        yield
