"""A real server process for tests."""

import signal
import subprocess
import sys
import urllib.error
import urllib.request

__all__ = ["START_WITHIN_S", "Server"]

START_WITHIN_S = 120.0


class Server:
    """``audiomamba serve`` on a port of its own."""

    def __init__(self, *overrides: str) -> None:
        command = [
            sys.executable,
            "-m",
            "audiomamba.cli.main",
            "serve",
            "server.port=0",
            *overrides,
        ]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert "http://" in line, self.process.stderr.read() if self.process.stderr else line
        self.url = line.split()[-1].rstrip("/")
        self.socket_url = self.url.replace("http", "ws")

    def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
        request = urllib.request.Request(f"{self.url}{path}", headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=START_WITHIN_S) as response:
                return int(response.status), response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=START_WITHIN_S)
        return int(self.process.returncode)
