"""Memory that is not used any more goes back, and what was dropped comes again when it is run."""

import subprocess
import sys

import pytest

from audiomamba.streaming.server.memory import _drop_code

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, as the server does")

PROGRAM = """
from audiomamba.streaming.server.memory import frugal_allocator, give_memory_back
frugal_allocator()
import numpy as np

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

blocks = [b"x" * 300_000 for _ in range(100)]  # zeros need no memory until they are written
kept = blocks[1::2]
before = resident()
del blocks
amid = resident()
give_memory_back()
after = resident()
print(before - amid, amid - after)
assert np.isclose(np.linalg.inv(np.eye(3) * 2)[0, 0], 0.5) and len(kept) == 50
"""


def test_free_memory_amid_the_heap_and_code_that_was_run_go_back() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    at_once, afterwards = map(int, done.stdout.split())
    assert at_once < 1_000_000  # half the blocks lay between others
    assert afterwards > 50 * 300_000 + 1_000_000  # those, and code


def test_only_code_on_disk_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    class Libc:
        @staticmethod
        def madvise(begin: object, size: object, advice: int) -> None:
            asked.append((begin.value, size.value))  # type: ignore[attr-defined]

    monkeypatch.setattr("ctypes.CDLL", lambda _: Libc)
    _drop_code(
        "1000-3000 r-xp 00000000 00:00 0 [vdso]\n"
        "4000-6000 r-xp 00000000 08:01 77 /usr/lib/a library.so\n"
        "6000-7000 r--p 00002000 08:01 77 /usr/lib/a library.so\n"
        "7000-8000 rw-p 00003000 08:01 77 /usr/lib/a library.so\n"
        "8000-9000 rwxp 00000000 00:00 0\n"
    )
    assert asked == [(0x4000, 0x2000)]
