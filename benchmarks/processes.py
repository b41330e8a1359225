"""Start servers in processes of their own, for benchmarks."""

import re
import subprocess
import sys
from contextlib import contextmanager
from typing import Any

MAIN = "from isplit.cli import main; main()"


class Process:
    """A server in a process of its own; `start` waits until it says where it listens."""

    def __init__(self, code: str, *arguments: object) -> None:
        self.command = [sys.executable, "-c", code, *map(str, arguments)]
        self.start()

    def start(self, *more: object) -> None:
        """Start it, and read its address."""
        self.process = subprocess.Popen(
            [*self.command, *map(str, more)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None
        match = re.match(r"listening on (\S+:\d+)", self.process.stdout.readline())
        assert match, "the server did not start"
        self.address = match[1]

    def kill(self) -> None:
        """Kill it, as a power cut would."""
        self.process.kill()
        self.process.wait()


@contextmanager
def running(code: str, *arguments: object) -> Any:
    """Start a server, and kill it in the end."""
    process = Process(code, *arguments)
    try:
        yield process
    finally:
        process.kill()
