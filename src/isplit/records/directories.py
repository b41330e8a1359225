"""Make directories that are whole or absent: built beside their place under another name, and moved in one step.

.NAME.new-TOKEN   being built by a living process, or left by a dead one, or an old directory that is being deleted
.NAME.old-TOKEN   the whole old directory for the moment in which the new one takes its place; only on file systems
                  that cannot exchange two names (`put_in_place`)
"""

import contextlib
import ctypes
import errno
import os
import re
import secrets
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from isplit.records.files import sync_directory

try:
    import fcntl
except ImportError:  # on Windows, leftovers of dead processes stay there
    fcntl = None

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_CANNOT_EXCHANGE = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM}
_ATTEMPTS = 16


@contextmanager
def new_directory(place: Path, *, overwrite: bool) -> Generator[Path]:
    """Yield a new directory, which becomes `place` when the block succeeds and is removed when it fails.

    At any moment, and after a kill or a power failure, `place` is the complete old or new directory. Leftovers of dead
    processes beside it are removed; what a living process builds there is left alone.

    Args:
        place: The directory to make, with its parents.
        overwrite: Whether a directory that is there, and not empty, is replaced.

    Raises:
        OSError: the directory cannot be made or moved.

    """
    place.parent.mkdir(parents=True, exist_ok=True)
    recover(place)
    _remove_leftovers(place)
    making, descriptor = _make_locked(place)
    try:
        yield making
        _sync_tree(making)
        put_in_place(making, place, overwrite=overwrite)
    finally:
        # Either what was being built, when the block failed, or what stood in its place before.
        shutil.rmtree(making, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)


def put_in_place(new: Path, place: Path, *, overwrite: bool) -> None:
    """Move a directory to its place; what was there is then at `new`, if it was not empty.

    Where the kernel and the file system have it, the two names are exchanged in one step (`renameat2` with
    RENAME_EXCHANGE: Linux, on its usual file systems). Elsewhere the old directory is renamed first, then the new one;
    killed in between, `recover` puts the old one back.

    Raises:
        OSError: there is a directory, not empty, that may not be replaced, or a name cannot be changed.

    """
    for attempt in range(_ATTEMPTS):
        try:
            os.rename(new, place)  # noqa: PTH104 - to a free place, or over an empty directory
            break
        except OSError as error:
            taken = error.errno in {errno.ENOTEMPTY, errno.EEXIST}
            if not (taken and overwrite) or attempt == _ATTEMPTS - 1:
                raise
        if _exchanged(new, place) or _put_in_two_steps(new, place):
            break
    sync_directory(place.parent)


def recover(place: Path) -> bool:
    """Put back the directory that a killed process had renamed, before it could put the new one in place.

    Returns:
        Whether there was one. Where the directory is there, nothing happens.

    """
    if os.path.lexists(place):
        return False
    for old in _beside(place, "old"):
        with contextlib.suppress(OSError):  # a read-only disk, or another process was faster
            os.rename(old, place)  # noqa: PTH104
            sync_directory(place.parent)
            return True
    return False


def _put_in_two_steps(new: Path, place: Path) -> bool:
    """Rename the old directory, then the new one; False if another process was in between, so that nothing changed."""
    old = place.with_name(f".{place.name}.old-{secrets.token_hex(4)}")
    try:
        os.rename(place, old)  # noqa: PTH104
        os.rename(new, place)  # noqa: PTH104
    except OSError:
        recover(place)
        return False
    # From here on it may be deleted, so it must not look whole. Another process may have removed it already.
    with contextlib.suppress(FileNotFoundError):
        os.rename(old, new)  # noqa: PTH104
    return True


def _exchanged(first: Path, second: Path) -> bool:
    """Exchange two names in one step; False where the system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if os.name == "posix" else None
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), str(second))


def _make_locked(place: Path) -> tuple[Path, int | None]:
    """Make a directory beside the place, locked for as long as the descriptor is open, so that nobody removes it."""
    for _ in range(_ATTEMPTS):
        making = place.with_name(f".{place.name}.new-{secrets.token_hex(4)}")
        making.mkdir()
        if fcntl is None:
            return making, None
        # Another process may have taken it for a leftover before it was locked.
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(making, os.O_RDONLY)
            if _locked(descriptor) and _is_at(making, descriptor):
                return making, descriptor
            os.close(descriptor)
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(place))


def _locked(descriptor: int) -> bool:
    """Take the lock of an open directory; False if another process has it. The system frees it when a process ends."""
    assert fcntl is not None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a network disk without locks: then nobody else can have it either
        return True
    return True


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _remove_leftovers(place: Path) -> None:
    """Remove what processes that are dead left beside the place."""
    if fcntl is None:
        return
    leftovers = _beside(place, "new")
    if place.exists():  # otherwise an old one may be the only one there is
        leftovers += _beside(place, "old")
    for leftover in leftovers:
        with contextlib.suppress(OSError):
            descriptor = os.open(leftover, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if _locked(descriptor):
                    shutil.rmtree(leftover, ignore_errors=True)
            finally:
                os.close(descriptor)


def _beside(place: Path, word: str) -> list[Path]:
    """Return the directories beside the place that have a name of ours, the newest first."""
    pattern = re.compile(rf"\.{re.escape(place.name)}\.{word}-[0-9a-f]{{8}}")
    try:
        paths = [path for path in place.parent.iterdir() if pattern.fullmatch(path.name) and not path.is_symlink()]
        return sorted(paths, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    except OSError:
        return []


def _sync_tree(directory: Path) -> None:
    """Put a directory's files, and then the names of them, on the disk."""
    for parent, _, names in os.walk(directory, topdown=False):
        for name in names:
            descriptor = os.open(Path(parent, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_directory(Path(parent))
