"""A server process of one's own, and what the kernel says it used."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from audiomamba.errors import Error

__all__ = ["ServerProcess"]

ADDRESS = re.compile(r"https?://(\S+?)/?\s*$")
STOP_WITHIN_S = 60.0
TICKS = os.sysconf("SC_CLK_TCK")


class ServerProcess:
    """``audiomamba serve`` on a free port of this machine, for as long as the context lasts.

    Args:
        overrides: Settings, as on the command line.

    Attributes:
        ready_s: Seconds from the start of the process to its first line, when a client is welcome.
        ready_cpu_s: Of the processor meanwhile, which a busy machine does not stretch.

    Raises:
        Error: it did not start.
    """

    def __init__(self, *overrides: str) -> None:
        command = [sys.executable, "-m", "audiomamba.cli.main", "serve", "server.port=0"]
        began = time.monotonic()
        self._process = subprocess.Popen(
            [*command, "server.log_level=warning", *overrides], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        found = ADDRESS.search(self._process.stdout.readline())
        self.ready_s = time.monotonic() - began
        self.ready_cpu_s = self.cpu_s if found else 0.0
        if found is None:
            self._process.wait()
            self._process.stdout.close()
            raise Error("the server to be measured did not start; its own line says why")
        self.url = f"ws://{found[1]}"
        self.readiness = f"http://{found[1]}/readyz"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.communicate(timeout=STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    @property
    def cpu_s(self) -> float:
        """Processor seconds that all of its threads used so far, and children that have ended."""
        # The name, in parentheses, may hold spaces; the times, user and system, its own and its
        # children's, are fields 14 to 17.
        fields = self._proc("stat").rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / TICKS

    @property
    def resident_bytes(self) -> int:
        """Memory that it holds now."""
        return int(self._proc("statm").split()[1]) * os.sysconf("SC_PAGESIZE")

    @property
    def peak_bytes(self) -> int:
        """The most memory that it ever held."""
        found = re.search(r"VmHWM:\s+(\d+) kB", self._proc("status"))
        assert found is not None
        return int(found[1]) << 10

    def _proc(self, name: str) -> str:
        return Path(f"/proc/{self._process.pid}/{name}").read_text()
