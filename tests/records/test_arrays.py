"""Arrays beside the records: how large they may be."""

import numpy as np
import pytest

from isplit.errors import StudyError
from isplit.records.arrays import LARGEST_ARRAYS_BYTES, load_arrays, save_arrays


def test_round_trip(tmp_path):
    """Arrays come back by name."""
    save_arrays(tmp_path / "a.npz", {"x": np.arange(3)})
    assert [0, 1, 2] == load_arrays(tmp_path / "a.npz")["x"].tolist()


def test_limits(tmp_path):
    """A file may be as large as the limit, on the disk and unpacked; one byte less refuses it. The usual is 4 GiB."""
    assert LARGEST_ARRAYS_BYTES == 4_294_967_296
    path = tmp_path / "a.npz"
    save_arrays(path, {"x": np.zeros(1000, np.uint8)})
    unpacked_bytes = 1000 + 128  # numpy's header
    assert 1000 == load_arrays(path, limit_bytes=unpacked_bytes)["x"].size
    with pytest.raises(StudyError, match="unpacked"):
        load_arrays(path, limit_bytes=unpacked_bytes - 1)
