"""Write lines to a file so that a full disk or an interrupt leaves whole lines only."""

import contextlib
import os
import stat
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from isplit.errors import InputError, OutputError

if sys.platform != "win32":
    import fcntl

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)


class LineFile:
    """A file descriptor that takes whole lines: a line is in the file completely, or not at all.

    Where the line does not fit, what was written of it is taken back, unless the descriptor is a pipe or a terminal,
    which cannot take anything back. Nothing is buffered, so that a process that dies loses no line.

    `name` is what error messages call the file. A descriptor given to the constructor stays open; one that `create`
    opened is closed by `close`.
    """

    def __init__(self, descriptor: int, *, name: str) -> None:
        self._descriptor = descriptor
        self._name = name
        self.lines = 0
        """How many lines were written."""

    @classmethod
    def create(cls, path: Path) -> Self:
        """Open a new file, or an emptied one.

        Raises:
            InputError: it cannot be written.

        """
        try:
            return cls(os.open(path, _CREATE, 0o666), name=str(path))
        except (OSError, ValueError) as error:  # ValueError: a name with a NUL byte
            msg = f"cannot write {path}: {getattr(error, 'strerror', None) or error}"
            raise InputError(msg) from error

    def write(self, line: bytes) -> None:
        """Write a line, its line end included.

        Raises:
            OutputError: the disk is full, a limit was reached, or the reader of a pipe has gone.

        """
        start = self._end()
        left = memoryview(line)
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError as error:
            self._take_back(start, len(line))
            msg = f"cannot write {self._name}: {error.strerror}; the {self.lines} lines before this one are kept whole"
            raise OutputError(msg) from error
        except BaseException:  # Ctrl-C, between two parts of a line
            self._take_back(start, len(line))
            raise
        self.lines += 1

    def close(self) -> None:
        """Close the file.

        Raises:
            OutputError: it could not be written after all, which some network file systems say only now.

        """
        try:
            os.close(self._descriptor)
        except OSError as error:
            msg = f"cannot write {self._name}: {error.strerror}; its last lines may be missing"
            raise OutputError(msg) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _end(self) -> int | None:
        """Return the file's length, where the next line goes; None where lines cannot be taken back."""
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            return None
        appends = sys.platform != "win32" and fcntl.fcntl(self._descriptor, fcntl.F_GETFL) & os.O_APPEND
        if not appends and os.lseek(self._descriptor, 0, os.SEEK_CUR) != status.st_size:
            return None  # somebody writes into the middle of a file, where truncation would remove what follows
        return status.st_size

    def _take_back(self, start: int | None, length: int) -> None:
        """Remove what there is of a line that began at `start`, unless all `length` bytes of it are there."""
        if start is None:
            return
        with contextlib.suppress(OSError):
            if start < os.fstat(self._descriptor).st_size < start + length:
                os.ftruncate(self._descriptor, start)
                os.lseek(self._descriptor, start, os.SEEK_SET)
