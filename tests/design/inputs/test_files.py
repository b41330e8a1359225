"""isplit.design.inputs.files: files are hashed, and what is too large or no zip file is refused."""

import hashlib

import pytest

from isplit.design.inputs.files import check_bytes, file_sha256, open_zip
from isplit.errors import DataError


def test_hash_of_a_file(tmp_path):
    """The hash is that of the file's bytes; a file that is not there is named."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"abc")

    assert hashlib.sha256(b"abc").hexdigest() == file_sha256(path)
    with pytest.raises(DataError, match=r"cannot read .*gone\.bin"):
        file_sha256(tmp_path / "gone.bin")


def test_sizes_up_to_the_limit():
    """The limit itself is allowed."""
    check_bytes(10, 10, name="x")
    with pytest.raises(DataError, match="x would take 11 bytes, more than the 10"):
        check_bytes(11, 10, name="x")


def test_not_a_zip_file(tmp_path):
    """A file that is no zip file is named."""
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04")

    with pytest.raises(DataError, match=r"a\.zip cannot be read as a zip file"):
        open_zip(tmp_path / "a.zip")
