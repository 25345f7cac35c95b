"""The page's pure modules are tested in their own language, by Node's test runner."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NODE = shutil.which("node")


@pytest.mark.skipif(NODE is None, reason="node is not installed: the page's modules go untested")
@pytest.mark.parametrize("file", sorted(HERE.glob("*.test.mjs")), ids=lambda path: path.stem)
def test_modules_pass_their_own_tests(file: Path) -> None:
    assert NODE is not None
    ran = subprocess.run([NODE, "--test", file], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout
    counted = re.search(r"^# pass (\d+)", ran.stdout, re.MULTILINE)
    assert counted and int(counted[1]) > 0
