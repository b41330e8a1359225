"""Let long experiments of this checkout stand still while tests or benchmarks run, so that no figure is spoilt.

    python experiments/pausing.py COMMAND [ARGUMENT...]

runs a command and holds a lock in this checkout meanwhile. A long experiment calls `pause_point` as its work goes on,
which waits until nobody holds the lock. Nobody is signalled, and processes of other checkouts take no notice.
"""

import fcntl
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

LOCK = Path(__file__).parent / ".quiet.lock"


@contextmanager
def quiet(path: Path = LOCK) -> Generator[None]:
    """Hold the lock for the length of a block; several commands may hold it at once."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield  # closing the file lets go of the lock, and so does the end of the process


def pause_point(path: Path = LOCK) -> None:
    """Return when nobody holds the lock."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)


def main() -> int:
    """Run the command given as arguments, and return its exit status."""
    if len(sys.argv) < 2:
        print(__doc__)
        return 2
    with quiet():
        return subprocess.run(sys.argv[1:], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
