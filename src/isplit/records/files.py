"""Read and write files so that size limits hold and no reader ever sees half of a file."""

import contextlib
import errno
import os
import secrets
import select
import stat
from io import BufferedReader, FileIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from isplit.errors import InputError, StudyError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

LARGEST_RECORD_BYTES = 64 * 2**20
"""The largest file that is read as a record: a study of a thousand cuts and a thousand classes takes 20 MiB."""


LARGEST_TABLE_BYTES = 256 * 2**20
"""The largest table of numbers as text: a trace of a link at a millisecond's resolution over an hour takes 150 MiB."""
LARGEST_JSON_BYTES = 16 * 2**20
"""The largest JSON file that people write: class maps and class groups."""
LARGEST_IMAGE_BYTES = 2**28
"""The largest image file that is read: the pixels that are decoded take no more, even if stored without compression."""
LARGEST_MODEL_BYTES = 2**31
"""The largest ONNX model, as a protobuf message may have no more; larger ones keep their weights in other files."""
LARGEST_CREDENTIAL_BYTES = 2**20
"""The largest certificate, key or token file."""

_PIECE_BYTES = 16 * 2**20
_PIPE_WAIT_S = 5.0


class FileTooLargeError(InputError):
    """A file is larger than anything of its kind; nothing of it was used."""


def write_whole(path: Path, content: bytes) -> None:
    """Write `content` so that `path` is never seen half-written: to a temporary name first, then renamed.

    The content is on the disk before the name is, and the name before the call returns: after a kill or a power
    failure the file is the old one or the new one. Devices and pipes (/dev/null, /dev/stdout) are written to, not
    replaced.

    Raises:
        StudyError: the directory is missing or not writable, or the disk is full.

    """
    # Not a NamedTemporaryFile, which only its owner can read: a study is shared like any other file.
    if _is_device(path):
        _write_to_device(path, content)
        return
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:  # O_CREAT | O_EXCL, mode 0666 less the umask
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror or error}"
        raise StudyError(msg) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _is_device(path: Path) -> bool:
    # Links in /dev lead to whatever a process has opened. Other links are replaced, wherever they lead.
    if path.parent.as_posix() in ("/dev", "/dev/fd", "/proc/self/fd"):
        return path.exists()
    with contextlib.suppress(OSError, ValueError):
        mode = path.lstat().st_mode
        return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)
    return False


def _write_to_device(path: Path, content: bytes) -> None:
    try:
        # Without waiting, so that a pipe that nobody reads is an error.
        descriptor = os.open(path, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0))
        os.set_blocking(descriptor, True)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror or error}"
        raise StudyError(msg) from error


def sync_directory(directory: Path) -> None:
    """Put the names in a directory on the disk, where the system can: Windows and some network disks cannot."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_limited(path: Path, *, limit_bytes: int, kind: str, ordinary: bool = False) -> bytes:
    """Read a whole file, unless it is larger than any file of its kind.

    Args:
        path: The file.
        limit_bytes: The largest size that is read; never more than this is held in memory.
        kind: What the file should be, with its article, for the message: "a class map".
        ordinary: Whether pipes are refused, as for the files of a folder, of which none is one.

    Raises:
        FileTooLargeError: the file is larger than the limit; the message says both sizes.
        OSError: the file cannot be read.

    Examples:
        >>> (directory / "classes.json").write_text("[]")
        2
        >>> read_limited(directory / "classes.json", limit_bytes=1024, kind="a class map")
        b'[]'

    """
    with open_ordinary(path) if ordinary else open_input(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = b"" if size > limit_bytes else read_stream(file, limit_bytes=limit_bytes)
    if size > limit_bytes or len(content) > limit_bytes:  # a pipe has no size of its own
        raise too_large(path, size_bytes=max(size, len(content)), limit_bytes=limit_bytes, kind=kind)
    return content


def open_input(path: Path) -> BufferedReader:
    """Open a file or pipe for reading, so that neither opening nor reading it ever waits without end.

    A pipe may be given instead of a file, for example by a shell's `<(command)`. Reading it fails when nothing has been
    written into it for some seconds. Devices, except the empty /dev/null, are refused.

    Raises:
        OSError: the file cannot be opened, or it is a device.

    """
    mode = path.stat().st_mode
    if stat.S_ISFIFO(mode):
        # Opened without waiting for a writer; reading waits, for a limited time.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(descriptor, True)
        return BufferedReader(_Pipe(descriptor, path))
    if stat.S_ISCHR(mode) and resolved(path) == Path(os.devnull):
        return path.open("rb")
    return open_ordinary(path)


def open_ordinary(path: Path) -> BufferedReader:
    """Open an ordinary file for reading, and refuse pipes, devices, sockets and folders, which may never end.

    Raises:
        OSError: the file cannot be opened, or it is not an ordinary file; the message says what it is.

    Examples:
        >>> open_ordinary(directory)
        Traceback (most recent call last):
            ...
        OSError: [Errno 22] it is a folder, not a file: ...

    """
    check_ordinary(path)
    return path.open("rb")


def check_ordinary(path: Path) -> os.stat_result:
    """Return the status of an ordinary file, and refuse anything else before a library opens it by its name.

    Raises:
        OSError: there is no such file, or it is not an ordinary file; the message says what it is.

    """
    status = path.stat()
    for is_kind, kind in _KINDS:
        if is_kind(status.st_mode):
            msg = f"it is a {kind}, not a file"
            raise OSError(errno.EINVAL, msg, str(path))
    return status


_KINDS = (
    (stat.S_ISDIR, "folder"),
    (stat.S_ISFIFO, "pipe"),
    (stat.S_ISCHR, "device"),
    (stat.S_ISBLK, "device"),
    (stat.S_ISSOCK, "socket"),
)


class _Pipe(FileIO):
    """A pipe, whose reader gives up when nothing comes for some seconds."""

    def __init__(self, descriptor: int, path: Path) -> None:
        super().__init__(descriptor, "rb")
        self._path = path
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    def readinto(self, buffer: "WriteableBuffer", /) -> int | None:
        """Read what is there, as soon as something is."""
        if not self._poll.poll(_PIPE_WAIT_S * 1e3):
            msg = f"it is a pipe, and nothing was written into it for {_PIPE_WAIT_S:g} s"
            raise OSError(errno.ETIMEDOUT, msg, str(self._path))
        return super().readinto(buffer)


def read_stream(file: BinaryIO, *, limit_bytes: int) -> bytes:
    """Read a stream to its end, but at most one byte beyond the limit, so that the caller sees that it is longer."""
    parts: list[bytes] = []
    left_bytes = limit_bytes + 1
    # In pieces, because Python takes memory for as much as is asked for.
    while left_bytes and (part := file.read(min(left_bytes, _PIECE_BYTES))):
        parts.append(part)
        left_bytes -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def resolved(path: Path) -> Path:
    """Return a path with all links followed, as far as they lead anywhere.

    Before Python 3.13, `Path.resolve` raises RuntimeError at a link that leads to itself.

    Examples:
        >>> (directory / "loop").symlink_to("loop")
        >>> resolved(directory / "loop").name
        'loop'

    """
    return Path(os.path.realpath(path))


def check_size(path: Path, *, limit_bytes: int, kind: str) -> None:
    """Refuse a file that is larger than any file of its kind, before anything opens it.

    Raises:
        FileTooLargeError: the file is larger than the limit; the message says both sizes.
        OSError: there is no such file, or it is not an ordinary file.

    """
    size = check_ordinary(path).st_size
    if size > limit_bytes:
        raise too_large(path, size_bytes=size, limit_bytes=limit_bytes, kind=kind)


def too_large(path: object, *, size_bytes: int, limit_bytes: int, kind: str) -> FileTooLargeError:
    """Return the error for a file beyond its limit."""
    return FileTooLargeError(
        f"{path} has {size_bytes:,} bytes, and {kind} has at most {limit_bytes:,}: this is another file"
    )
