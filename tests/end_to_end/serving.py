"""A real server process for tests."""

import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

__all__ = ["START_WITHIN_S", "Server"]

START_WITHIN_S = 120.0


class Server:
    """``audiomamba serve`` on a port of its own.

    Args:
        overrides: As on the command line.
        trust: Certificates to believe, where the server has one of its own.
    """

    def __init__(self, *overrides: str, trust: ssl.SSLContext | None = None) -> None:
        command = [
            sys.executable,
            "-m",
            "audiomamba.cli.main",
            "serve",
            "server.port=0",
            *overrides,
        ]
        self._trust = trust
        self._logged: str | None = None
        handle, name = tempfile.mkstemp(suffix=".log")  # a pipe that nobody reads would fill up
        self._log = Path(name)
        with open(handle, "a") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        self.url = self.line().split()[-1].rstrip("/")
        self.socket_url = self.url.replace("http", "ws")

    def line(self) -> str:
        """The next line it prints, an address in it."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if "://" not in line:
            self.wait()
            raise AssertionError(f"the server did not start: {line}{self.log()}")
        return line

    def log(self) -> str:
        """What it logged so far."""
        return self._logged if self._logged is not None else self._log.read_text()

    def get(
        self, path: str, headers: dict[str, str] | None = None, *, base: str = ""
    ) -> tuple[int, str]:
        """Status and body of a path, of this address or another of the server's."""
        request = urllib.request.Request(f"{base or self.url}{path}", headers=headers or {})
        try:
            with urllib.request.urlopen(
                request, timeout=START_WITHIN_S, context=self._trust
            ) as response:
                return int(response.status), response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait for something that is about to hold."""
        deadline = time.monotonic() + START_WITHIN_S
        while not holds():
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)

    def stop(self) -> int:
        """Ask it to stop; returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Its exit code, once it is over."""
        self.process.communicate(timeout=START_WITHIN_S)
        self._logged = self.log()
        self._log.unlink(missing_ok=True)
        return int(self.process.returncode)
