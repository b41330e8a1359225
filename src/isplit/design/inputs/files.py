"""Hash files of data, and limit what is read from them."""

import hashlib
import zipfile
from pathlib import Path

from isplit.errors import DataError
from isplit.records.files import check_ordinary, open_ordinary


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, read piece by piece.

    Raises:
        DataError: The file cannot be read.

    """
    try:
        with open_ordinary(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror or error}"
        raise DataError(msg) from error


def check_bytes(size: int, limit: int, *, name: str) -> None:
    """Raise a DataError if `size` is more than `limit` bytes; `name` says what has that size."""
    if size > limit:
        msg = f"{name} would take {size} bytes, more than the {limit} that are read: is it what it should be?"
        raise DataError(msg)


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip file for reading.

    Raises:
        DataError: The file is damaged, or it is not a zip file.

    """
    try:
        check_ordinary(path)
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        msg = f"{path} cannot be read as a zip file: {error}; download or make it again"
        raise DataError(msg) from error
