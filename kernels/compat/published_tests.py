"""A plugin for pytest that runs the published packages' own tests on these functions.

``pytest -p audiomamba.kernels.compat.published_tests FILE``, the file as it lies in their
repository. Where there is no GPU it puts on the CPU what the tests put on ``cuda``.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from audiomamba.kernels import compat

__all__ = ["OnTheCpu"]

compat.install()  # before the tests' own imports


class OnTheCpu(TorchFunctionMode):
    """``cuda`` means ``cpu`` wherever a function of torch is told a device."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = {name: _here(value) for name, value in (kwargs or {}).items()}
        return func(*map(_here, args), **kwargs)


def _here(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("cuda"):
        return "cpu"
    if isinstance(value, torch.device) and value.type == "cuda":
        return torch.device("cpu")
    return value


@pytest.fixture(autouse=True)
def _place() -> Iterator[None]:
    if torch.cuda.is_available():
        yield
        return
    with OnTheCpu():
        yield
