"""Arrays beside the records: .npz files that are whole or absent, and hold no pickles."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isplit.errors import StudyError
from isplit.records.files import write_whole


def save_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write arrays by name.

    Raises:
        StudyError: the file cannot be written.

    """
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    write_whole(path, file.getvalue())


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read what `save_arrays` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        StudyError: it is damaged, or holds pickled objects.

    """
    content = path.read_bytes()
    try:
        arrays = np.load(io.BytesIO(content), allow_pickle=False)
        if not isinstance(arrays, np.lib.npyio.NpzFile):
            msg = "it is no .npz file"
            raise ValueError(msg)
        with arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # on damaged bytes, numpy, zipfile and zlib raise errors of every kind
        reason = str(error) or type(error).__name__
        msg = f"{path} is damaged ({reason}); delete it and run `isplit analyze` again"
        raise StudyError(msg) from error
