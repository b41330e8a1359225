"""Save arrays beside the records, as .npz files that are complete or absent and hold no pickles."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isplit.errors import StudyError
from isplit.records.files import FileTooLargeError, read_limited, too_large, write_whole

LARGEST_ARRAYS_BYTES = 4 * 2**30
"""The largest file of arrays, and its largest unpacked size: scores of 5 million images at 100 cuts."""


def pack_arrays(arrays: dict[str, NDArray[Any]]) -> bytes:
    """Return arrays by name as the content of an .npz file; the same arrays always give the same bytes."""
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()


def save_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write arrays by name.

    Raises:
        StudyError: the file cannot be written.

    """
    write_whole(path, pack_arrays(arrays))


def load_arrays(path: Path, *, limit_bytes: int = LARGEST_ARRAYS_BYTES) -> dict[str, NDArray[Any]]:
    """Read what `save_arrays` wrote.

    Args:
        path: The file.
        limit_bytes: The most that the file may have, and that it may unpack to.

    Raises:
        FileNotFoundError: there is no such file.
        StudyError: it is damaged, too large, or holds pickled objects.

    """
    try:
        content = read_limited(path, limit_bytes=limit_bytes, kind="a file of arrays", ordinary=True)
    except FileTooLargeError as error:
        raise StudyError(str(error)) from error
    return unpack_arrays(content, path, limit_bytes=limit_bytes)


def unpack_arrays(content: bytes, path: Path, *, limit_bytes: int = LARGEST_ARRAYS_BYTES) -> dict[str, NDArray[Any]]:
    """Undo `pack_arrays`.

    Args:
        content: What the file holds.
        path: The file, for messages.
        limit_bytes: The most that the arrays may take together.

    Raises:
        StudyError: the content is damaged, unpacks to more than the limit, or holds pickled objects.

    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            unpacked_bytes = sum(entry.file_size for entry in archive.infolist())
        if unpacked_bytes > limit_bytes:
            raise too_large(path, size_bytes=unpacked_bytes, limit_bytes=limit_bytes, kind="such a file, unpacked,")
        arrays = np.load(io.BytesIO(content), allow_pickle=False)
        if not isinstance(arrays, np.lib.npyio.NpzFile):
            msg = "it is no .npz file"
            raise ValueError(msg)
        with arrays:
            return {name: arrays[name] for name in arrays.files}
    except FileTooLargeError as error:
        raise StudyError(str(error)) from error
    except Exception as error:  # on damaged bytes, numpy, zipfile and zlib raise errors of every kind
        reason = str(error) or type(error).__name__
        msg = f"{path} is damaged ({reason}); delete it and run `isplit analyze` again"
        raise StudyError(msg) from error
