"""Write lines to a file so that only whole lines remain after a full disk or an interrupt."""

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
    """A file descriptor for whole lines: a line is completely in the file, or not at all.

    If a line does not fit, its written part is removed again, except on a pipe or a terminal, where that is
    impossible. Nothing is buffered, so that a process that dies loses no line.

    `name` is the file's name in error messages. A descriptor given to the constructor stays open; `close` closes one
    that `create` opened.
    """

    def __init__(self, descriptor: int, *, name: str) -> None:
        self._descriptor = descriptor
        self._name = name
        self.lines = 0
        """The number of lines that were written."""

    @classmethod
    def create(cls, path: Path) -> Self:
        """Open a new file, or empty an existing one.

        Raises:
            InputError: it cannot be written.

        """
        try:
            return cls(os.open(path, _CREATE, 0o666), name=str(path))
        except (OSError, ValueError) as error:  # ValueError: the name has a NUL byte
            msg = f"cannot write {path}: {getattr(error, 'strerror', None) or error}"
            raise InputError(msg) from error

    def write(self, line: bytes) -> None:
        """Write a line, including its line end.

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
        except BaseException:  # Ctrl-C between two parts of a line
            self._take_back(start, len(line))
            raise
        self.lines += 1

    def close(self) -> None:
        """Close the file.

        Raises:
            OutputError: the file could not be written after all, which some network file systems report only now.

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
        """Return the file's length, where the next line goes; None if lines cannot be removed again."""
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            return None
        appends = sys.platform != "win32" and fcntl.fcntl(self._descriptor, fcntl.F_GETFL) & os.O_APPEND
        if not appends and os.lseek(self._descriptor, 0, os.SEEK_CUR) != status.st_size:
            return None  # the descriptor is in the middle of a file, where truncating would remove what follows
        return status.st_size

    def _take_back(self, start: int | None, length: int) -> None:
        """Remove the written part of a line that began at `start`, unless all `length` bytes are there."""
        if start is None:
            return
        with contextlib.suppress(OSError):
            if start < os.fstat(self._descriptor).st_size < start + length:
                os.ftruncate(self._descriptor, start)
                os.lseek(self._descriptor, start, os.SEEK_SET)
