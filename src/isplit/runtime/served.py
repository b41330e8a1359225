"""Run a server in a process of its own while a block runs, for measurements on this machine."""

import re
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from isplit.errors import ServerError

_TIMEOUT_S = 120


@contextmanager
def served(bundle: Path, *, host: str = "127.0.0.1", options: Sequence[str] = ()) -> Generator[str]:
    """Run `isplit serve` on any free port while the block runs, and yield its address, HOST:PORT.

    Nobody else may be able to reach the address (loopback, or a network between two namespaces), because the server
    runs without protection.

    Args:
        bundle: What `isplit export` wrote.
        host: The address to listen on.
        options: Further options of `isplit serve`.

    Raises:
        ServerError: the server did not start; the message has what it said.

    """
    command = [sys.executable, "-m", "isplit", "serve", str(bundle), "--host", host, "--port", "0", "--insecure"]
    server = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        match = re.match(r"listening on (\S+?)[,:]?(?: |$)", server.stdout.readline())
        if match is None:
            _, error = server.communicate(timeout=_TIMEOUT_S)
            msg = f"`isplit serve` did not start: {error.strip()}"
            raise ServerError(msg)
        yield match.group(1)
    finally:
        server.terminate()
        server.communicate(timeout=_TIMEOUT_S)
