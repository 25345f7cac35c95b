"""Collect linked folders under their import name, so that ``pytest kernels/<op>`` works."""

import pytest

LINKED = ("kernels", "streaming", "conf")
collect_ignore = list(LINKED)


def pytest_configure(config: pytest.Config) -> None:
    given = [arg.removeprefix(f"{config.rootpath}/").removeprefix("./") for arg in config.args]
    config.args = [f"audiomamba/{arg}" if arg.split("/")[0] in LINKED else arg for arg in given]
