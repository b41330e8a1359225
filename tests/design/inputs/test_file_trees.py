"""isplit.design.inputs.file_trees: zips are read in place, from several threads, and bad ones are refused."""

import struct
import threading

import numpy as np
import pytest

from isplit.design.inputs import file_trees
from isplit.design.inputs.data import open_data
from isplit.errors import DataError


def test_zip_is_read_from_several_threads(tmp_path, pixels, class_files, write_zip):
    """Threads that read one zip at once get the right images."""
    dataset = open_data(str(write_zip(tmp_path / "a.zip", class_files())))
    wrong = []

    def read():
        wrong.extend(i for i in range(20) if not np.array_equal(pixels(i % 10), np.asarray(dataset.image(i))))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [] == wrong


def test_corrupt_zip(tmp_path, class_files, write_zip):
    """A file that is no zip, and a member whose bytes changed, are errors that name them."""
    path = tmp_path / "a.zip"
    path.write_bytes(b"PK\x03\x04 and nothing more")
    with pytest.raises(DataError, match=r"a\.zip cannot be read as a zip"):
        open_data(str(path))

    write_zip(path, class_files())
    content = bytearray(path.read_bytes())
    content[60] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cat/00\.png cannot be read"):
        open_data(str(path)).image(0)


def test_encrypted_zip_member(tmp_path, class_files, write_zip):
    """A member that needs a password is an error that says so."""
    path = write_zip(tmp_path / "a.zip", class_files())
    content = bytearray(path.read_bytes())
    content[6] |= 1  # the local header's encryption flag
    content[content.index(b"PK\x01\x02") + 8] |= 1  # and the directory's
    path.write_bytes(content)

    with pytest.raises(DataError, match="password"):
        open_data(str(path)).image(0)


def test_hostile_zip(tmp_path, class_files, write_zip):
    """A member that would decode to more than the limit is refused on opening."""
    path = write_zip(tmp_path / "a.zip", class_files())
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02") + 24  # the uncompressed size in the directory
    content[at : at + 4] = struct.pack("<I", file_trees.MAX_MEMBER_BYTES + 1)
    path.write_bytes(content)

    with pytest.raises(DataError, match=r"cat/00\.png would take 268435457 bytes"):
        open_data(str(path))


def test_zip_paths_do_not_escape(tmp_path, png, class_files, write_zip):
    """Nothing is extracted: a member called ../x is only ever read."""
    (tmp_path / "data").mkdir()
    path = write_zip(tmp_path / "data" / "a.zip", class_files() | {"cat/../../../evil.png": png()})

    open_data(str(path))

    assert ["a.zip"] == [path.name for path in (tmp_path / "data").iterdir()]
    assert ["data"] == [path.name for path in tmp_path.iterdir()]
