"""Keep two writers of one study apart: a lock that says who holds it."""

import getpass
import os
import socket
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from filelock import FileLock, Timeout

from isplit.errors import StudyError
from isplit.records import Record

_LOCK = ".lock"


class LockRecord(Record):
    """.lock.json beside the lock: who holds it. It stays when the holder is gone and then means nothing."""

    schema_name: ClassVar[str] = "isplit.lock/1"
    file_name: ClassVar[str] = ".lock.json"

    command: str
    process: int
    host: str
    user: str
    since: str

    @classmethod
    def of_this_process(cls) -> "LockRecord":
        """Describe the process that is running."""
        return cls(
            command=" ".join(["isplit", *sys.argv[1:3]])[:120],
            process=os.getpid(),
            host=socket.gethostname(),
            user=_user_name(),
            since=time.strftime("%Y-%m-%d %H:%M:%S"),
        )


@contextmanager
def study_lock(directory: Path) -> Generator[None]:
    """Hold the lock of a folder for the length of a block; a process that holds it may take it again.

    The operating system lets go of the lock when the process ends, however it ends.

    Args:
        directory: A study's folder, or that of one of its splits; it must be there.

    Raises:
        StudyError: another process holds the lock, and the message says which; or the lock cannot be made.

    """
    lock = FileLock(directory / _LOCK, timeout=0, is_singleton=True)
    try:
        lock.acquire()
    except Timeout:
        msg = f"{directory} is being written by {_holder(directory)}: wait for it to end, or stop it"
        raise StudyError(msg) from None
    except NotImplementedError as error:
        msg = f"cannot lock {directory}: its file system has no locks; keep the study on another disk"
        raise StudyError(msg) from error
    except OSError as error:
        msg = f"cannot lock {directory}: {error.strerror or error}"
        raise StudyError(msg) from error
    try:
        if lock.lock_counter == 1:
            LockRecord.of_this_process().save(directory)
        yield
    finally:
        lock.release()


@contextmanager
def split_lock(directory: Path) -> Generator[None]:
    """Hold the lock of a split's folder, which is made if it is not there, for the length of a block.

    It keeps apart workers on several machines that train splits of one study, whose own lock their driver holds.

    Raises:
        StudyError: another process holds the lock, and the message says which; or the folder or lock cannot be made.

    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"cannot make {directory}: {error.strerror or error}"
        raise StudyError(msg) from error
    with study_lock(directory):
        yield


def _holder(directory: Path) -> str:
    try:
        record = LockRecord.load(directory)
    except StudyError:
        return "another process"
    return f"`{record.command}` of {record.user} (process {record.process} on {record.host}, since {record.since})"


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without an account, as in containers
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"
