"""Let long experiments of this checkout stand still while tests or benchmarks run, so that no figure is spoilt.

    python experiments/pausing.py COMMAND [ARGUMENT...]

runs a command and holds a lock in this checkout meanwhile. A long experiment calls `pause_point` as its work goes on,
which waits until nobody holds the lock. An experiment that the command itself calls does not wait, since it would wait
for ever. Nobody is signalled, and processes of other checkouts take no notice.
"""

import fcntl
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

LOCK = Path(__file__).parent / ".quiet.lock"
_HELD = "ISPLIT_EXPERIMENTS_LOCK"
"""The variable that tells a command and its children which lock is held for them."""


@contextmanager
def quiet(path: Path = LOCK) -> Generator[None]:
    """Hold the lock for the length of a block; several commands may hold it at once."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield  # closing the file lets go of the lock, and so does the end of the process


def pause_point(path: Path = LOCK) -> None:
    """Return when nobody holds the lock, or at once where it is held for this process."""
    if os.environ.get(_HELD) == str(path):
        return
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)


def main() -> int:
    """Run the command given as arguments, and return its exit status."""
    if len(sys.argv) < 2:
        print(__doc__)
        return 2
    with quiet():
        return subprocess.run(sys.argv[1:], check=False, env={**os.environ, _HELD: str(LOCK)}).returncode


if __name__ == "__main__":
    sys.exit(main())
