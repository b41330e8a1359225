"""Lines are written whole or not at all, whatever stops them."""

import contextlib
import os
import resource
import subprocess
import sys

import pytest

from isplit.errors import InputError, OutputError
from isplit.runtime.edge.line_file import LineFile

LINE = b"0123456789\n"


@contextlib.contextmanager
def limit(size):
    """Limit how long any file may get, within the block only: pytest may write its own output to one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def opened(path, flags):
    """Open a file as a plain descriptor, for the block."""
    descriptor = os.open(path, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def test_lines(tmp_path):
    """Lines are in the file as soon as they are written, after what an older file held is gone."""
    path = tmp_path / "lines"
    path.write_text("old")
    with LineFile.create(path) as file:
        assert b"" == path.read_bytes()
        file.write(LINE)
        assert (LINE, 1) == (path.read_bytes(), file.lines)
        file.write(LINE)
    assert LINE * 2 == path.read_bytes()


@pytest.mark.parametrize("size", [22, 23, 32])
def test_a_line_that_does_not_fit(tmp_path, size):
    """Where the third line does not fit, two are there, and the error says why and how many."""
    path = tmp_path / "lines"
    with LineFile.create(path) as file:
        with limit(size):
            file.write(LINE)
            file.write(LINE)
            with pytest.raises(OutputError, match="lines: File too large; the 2 lines before this one are kept whole"):
                file.write(LINE)
            assert LINE * 2 == path.read_bytes()
        file.write(b"more\n")
    assert LINE * 2 + b"more\n" == path.read_bytes()


def test_the_last_byte_fits(tmp_path):
    """A line that just fits is written."""
    path = tmp_path / "lines"
    with LineFile.create(path) as file, limit(33):
        for _ in range(3):
            file.write(LINE)
    assert LINE * 3 == path.read_bytes()


@pytest.mark.parametrize("flags", [os.O_APPEND, 0])
def test_a_descriptor_of_somebody_else(tmp_path, flags):
    """On a descriptor that came open, as the shell's > and >> give one, lines are taken back too; it stays open."""
    path = tmp_path / "lines"
    path.write_bytes(b"before\n")
    with opened(path, os.O_WRONLY | flags) as descriptor:
        if not flags:
            os.lseek(descriptor, 0, os.SEEK_END)
        file = LineFile(descriptor, name="standard output")
        with limit(7 + 11 + 5):
            file.write(LINE)
            with pytest.raises(OutputError, match="standard output: File too large; the 1 lines"):
                file.write(LINE)
            assert b"before\n" + LINE == path.read_bytes()
            file.write(b"1234\n")
        assert b"before\n" + LINE + b"1234\n" == path.read_bytes()


def test_the_first_line_after_others(tmp_path):
    """With >> the very first line is taken back too, though the descriptor stands at 0 until it is written."""
    path = tmp_path / "lines"
    path.write_bytes(b"before\n")
    with opened(path, os.O_WRONLY | os.O_APPEND) as descriptor:
        with limit(7 + 5), pytest.raises(OutputError, match="the 0 lines"):
            LineFile(descriptor, name="it").write(LINE)
        assert b"before\n" == path.read_bytes()


def test_across_the_end_of_a_file(tmp_path):
    """A line that begins before a file's end has written over what was there: nothing is cut off."""
    path = tmp_path / "lines"
    path.write_bytes(b"x" * 20)
    with opened(path, os.O_WRONLY) as descriptor:
        os.lseek(descriptor, 15, os.SEEK_SET)
        with limit(22), pytest.raises(OutputError):
            LineFile(descriptor, name="it").write(LINE)
        assert b"x" * 15 + LINE[:7] == path.read_bytes()


def test_in_the_middle_of_a_file(tmp_path):
    """Nothing is cut off a file that is written in its middle: what follows is somebody else's."""
    path = tmp_path / "lines"
    path.write_bytes(b"x" * 20)
    with opened(path, os.O_WRONLY) as descriptor:
        with limit(5), pytest.raises(OutputError):
            LineFile(descriptor, name="it").write(LINE)
        assert 20 == path.stat().st_size


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError])
def test_stopped_between_two_parts(tmp_path, monkeypatch, stop):
    """An interrupt after half a line takes that half back; after the whole line it stays."""
    path = tmp_path / "lines"
    write = os.write
    with LineFile.create(path) as file:
        file.write(LINE)

        def half(descriptor, data):
            write(descriptor, data[:5])
            raise stop

        monkeypatch.setattr(os, "write", half)
        with pytest.raises(OutputError if stop is OSError else stop):
            file.write(LINE)
        assert LINE == path.read_bytes()

        def whole(descriptor, data):
            write(descriptor, data)
            raise stop

        monkeypatch.setattr(os, "write", whole)
        with pytest.raises(OutputError if stop is OSError else stop):
            file.write(LINE)
        assert LINE * 2 == path.read_bytes()


def test_a_short_write_goes_on(tmp_path, monkeypatch):
    """An operating system that takes a line in pieces gets all of them."""
    path = tmp_path / "lines"
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    with LineFile.create(path) as file:
        file.write(LINE)
    assert LINE == path.read_bytes()


def test_full_device():
    """A device that is full says so."""
    with LineFile.create("/dev/full") as file, pytest.raises(OutputError, match="/dev/full: No space left on device"):
        file.write(LINE)


def test_closed_pipe():
    """A pipe whose reader has gone is an error with its cause."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        with pytest.raises(OutputError, match="Broken pipe") as raised:
            LineFile(writer, name="a pipe").write(LINE)
        assert BrokenPipeError is type(raised.value.__cause__)
    finally:
        os.close(writer)


@pytest.mark.parametrize("name", ["gone/lines", ".", "a\0b"])
def test_cannot_be_created(tmp_path, monkeypatch, name):
    """A file that cannot be made is refused in words."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"cannot write .*: (No such file|Is a directory|embedded null byte)"):
        LineFile.create(name)


def test_closing_may_fail(tmp_path, monkeypatch):
    """A file system that says only at the end that the disk was full is heard."""
    file = LineFile.create(tmp_path / "lines")
    close = os.close

    def fail(descriptor):
        close(descriptor)
        raise OSError(122, "Disk quota exceeded")

    monkeypatch.setattr(os, "close", fail)
    with pytest.raises(OutputError, match="Disk quota exceeded; its last lines may be missing"):
        file.close()


def test_mode(tmp_path):
    """A new file has the permissions that the user's umask leaves, and is no program."""
    code = "import os, sys; from isplit.runtime.edge.line_file import LineFile; os.umask(0)"
    code += "; LineFile.create(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, tmp_path / "lines"], check=True)
    assert 0o666 == (tmp_path / "lines").stat().st_mode & 0o777
