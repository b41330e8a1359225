"""The sizes up to which files are read, as docs/security.md promises them."""

import os
import threading
from pathlib import Path

import pytest

from isplit.errors import StudyError
from isplit.records import files

MIB = 2**20


@pytest.mark.parametrize(
    ("limit_bytes", "expected"),
    [
        (files.LARGEST_RECORD_BYTES, 64 * MIB),
        (files.LARGEST_TABLE_BYTES, 256 * MIB),
        (files.LARGEST_JSON_BYTES, 16 * MIB),
        (files.LARGEST_IMAGE_BYTES, 256 * MIB),
        (files.LARGEST_CREDENTIAL_BYTES, MIB),
    ],
)
def test_promised_limits(limit_bytes, expected):
    """Records 64 MiB, tables and images 256 MiB, class maps and groups 16 MiB, credentials 1 MiB."""
    assert expected == limit_bytes


def test_a_pipe_that_nobody_writes_to(tmp_path, monkeypatch):
    """A named pipe, which a study from a stranger may hold, is not waited for."""
    monkeypatch.setattr(files, "_PIPE_WAIT_S", 0.01)
    os.mkfifo(tmp_path / "study.json")
    with pytest.raises(OSError, match=r"it is a pipe, and nothing was written into it for 0\.01 s"):
        files.read_limited(tmp_path / "study.json", limit_bytes=100, kind="a record")


def test_a_pipe(tmp_path):
    """What another program writes into a pipe is read to its end."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(b"content" * 20_000,))
    writer.start()
    assert b"content" * 20_000 == files.read_limited(path, limit_bytes=200_000, kind="a record")
    writer.join()


def test_a_device_is_not_replaced(tmp_path):
    """What is written to a device goes to the device, which stays; so does what is written to a pipe."""
    files.write_whole(Path("/dev/null"), b"content")
    assert Path("/dev/null").is_char_device()
    path = tmp_path / "pipe"
    os.mkfifo(path)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    files.write_whole(path, b"content")
    assert b"content" == os.read(descriptor, 100)
    os.close(descriptor)
    assert path.is_fifo()


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="this system has no /dev/full")
def test_a_full_device():
    """A device that takes nothing is an error that names it."""
    with pytest.raises(StudyError, match="cannot write /dev/full: No space left on device"):
        files.write_whole(Path("/dev/full"), b"content")
    assert Path("/dev/full").is_char_device()


def test_a_pipe_without_a_reader(tmp_path):
    """A pipe that nobody reads is an error, and is not waited for."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StudyError, match="pipe: No such device or address"):
        files.write_whole(tmp_path / "pipe", b"content")


def test_a_link_to_a_device_is_replaced(tmp_path):
    """A link, which a study from a stranger may hold, is replaced, and nothing is written to where it leads."""
    (tmp_path / "curve.json").symlink_to("/dev/null")
    files.write_whole(tmp_path / "curve.json", b"content")
    assert b"content" == (tmp_path / "curve.json").read_bytes()
    assert not (tmp_path / "curve.json").is_symlink()
