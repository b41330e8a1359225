"""Files are read up to the sizes that docs/security.md promises, and are written whole or not at all."""

import os
import stat
import threading
from pathlib import Path

import pytest

from isplit.errors import StudyError
from isplit.records import files, write_whole

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


def names_in(directory):
    return sorted(path.name for path in directory.iterdir())


def test_write_whole(tmp_path):
    """The content is there, and nothing else."""
    write_whole(tmp_path / "a", b"new")
    assert b"new" == (tmp_path / "a").read_bytes()
    assert ["a"] == names_in(tmp_path)


def test_write_whole_replaces(tmp_path):
    """What was there before is replaced, even by less."""
    write_whole(tmp_path / "a", b"a long old content")
    write_whole(tmp_path / "a", b"new")
    assert b"new" == (tmp_path / "a").read_bytes()
    assert ["a"] == names_in(tmp_path)


def test_write_whole_shares_the_file(tmp_path):
    """The file has the permissions of any other new file, and the process keeps its umask."""
    (tmp_path / "plain").write_bytes(b"")
    write_whole(tmp_path / "a", b"")
    write_whole(tmp_path / "b", b"")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "a", "b")}
    assert 1 == len(modes)


def test_write_whole_leaves_the_umask_alone(tmp_path, monkeypatch):
    """The umask is the process's: other threads' files would be made under another one meanwhile."""

    def refuse(mask):
        raise AssertionError("the umask was changed")

    monkeypatch.setattr(os, "umask", refuse)
    write_whole(tmp_path / "a", b"new")
    assert b"new" == (tmp_path / "a").read_bytes()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "ctrl-c"])
@pytest.mark.parametrize(("owner", "step"), [(Path, "replace"), (os, "fsync")], ids=["at the end", "in the middle"])
def test_failed_write_keeps_the_old(tmp_path, monkeypatch, owner, step, error):
    """When it fails or is stopped, the old content stays and no temporary file is left."""
    write_whole(tmp_path / "a", b"old")

    def fail(*args):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(owner, step, fail)
        with pytest.raises(StudyError if isinstance(error, OSError) else KeyboardInterrupt):
            write_whole(tmp_path / "a", b"new")
    assert b"old" == (tmp_path / "a").read_bytes()
    assert ["a"] == names_in(tmp_path)


def test_write_into_nowhere(tmp_path):
    """A missing directory is an error that names the file."""
    with pytest.raises(StudyError, match="none/a"):
        write_whole(tmp_path / "none" / "a", b"")
