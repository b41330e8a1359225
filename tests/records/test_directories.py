"""Directories are the old one or the new one, whole, whatever happens; and what the dead left is removed."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from isplit.records import directories
from isplit.records.directories import new_directory, put_in_place, recover

BUILD = """
import sys, time
from pathlib import Path
from isplit.records.directories import new_directory
with new_directory(Path(sys.argv[1]), overwrite=True) as making:
    (making / "half").write_text("half")
    print(making, flush=True)
    time.sleep(600)
"""


@pytest.fixture(params=["exchange", "two steps"])
def way(request, monkeypatch):
    """Replace directories in one step, and in two where the file system cannot exchange names."""
    if request.param == "two steps":
        monkeypatch.setattr(directories, "_exchanged", lambda first, second: False)
    return request.param


@pytest.fixture
def builder(tmp_path):
    """Another process that is building `tmp_path/bundle`, and where it does."""
    process = subprocess.Popen(
        [sys.executable, "-c", BUILD, str(tmp_path / "bundle")], stdout=subprocess.PIPE, text=True
    )
    making = Path(process.stdout.readline().strip())
    yield process, making
    process.kill()
    process.communicate()


def write(place, text, *, overwrite=True):
    with new_directory(place, overwrite=overwrite) as making:
        (making / "file").write_text(text)


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_new(tmp_path):
    """A directory comes to a free place, with its parents, and nothing else stays."""
    write(tmp_path / "a" / "b", "new", overwrite=False)
    assert "new" == (tmp_path / "a" / "b" / "file").read_text()
    assert ["b"] == names(tmp_path / "a")


def test_over_an_empty_one(tmp_path):
    """An empty directory is as good as none."""
    (tmp_path / "b").mkdir()
    write(tmp_path / "b", "new", overwrite=False)
    assert "new" == (tmp_path / "b" / "file").read_text()


def test_replace(tmp_path, way):
    """The new one takes the place of the old one, and nothing else stays."""
    write(tmp_path / "b", "old")
    write(tmp_path / "b", "new")
    assert "new" == (tmp_path / "b" / "file").read_text()
    assert ["b"] == names(tmp_path)


def test_not_replaced_unless_told(tmp_path, way):
    """What came to the place meanwhile stays, and what was built disappears."""

    def build_late():
        with new_directory(tmp_path / "b", overwrite=False) as making:
            (making / "file").write_text("late")
            (tmp_path / "b").mkdir()
            (tmp_path / "b" / "file").write_text("early")

    with pytest.raises(OSError, match="not empty"):
        build_late()
    assert "early" == (tmp_path / "b" / "file").read_text()
    assert ["b"] == names(tmp_path)


def test_failure_keeps_the_old(tmp_path, way):
    """A block that fails leaves the old directory and nothing beside it."""
    write(tmp_path / "b", "old")
    with pytest.raises(TypeError):
        write(tmp_path / "b", None)
    assert "old" == (tmp_path / "b" / "file").read_text()
    assert ["b"] == names(tmp_path)


@pytest.mark.parametrize("number", sorted(directories._CANNOT_EXCHANGE))
def test_systems_that_cannot_exchange(tmp_path, monkeypatch, number):
    """Where the kernel says that it cannot exchange names, two steps lead to the same."""

    class Library:
        def __init__(self, name, use_errno):
            pass

        def renameat2(self, *args):
            directories.ctypes.set_errno(number)
            return -1

    write(tmp_path / "b", "old")
    monkeypatch.setattr(directories.ctypes, "CDLL", Library)
    write(tmp_path / "b", "new")
    assert "new" == (tmp_path / "b" / "file").read_text()
    assert ["b"] == names(tmp_path)


def test_other_errors_of_an_exchange(tmp_path, monkeypatch):
    """An input/output error is not taken for a missing feature."""

    class Library:
        def __init__(self, name, use_errno):
            pass

        def renameat2(self, *args):
            directories.ctypes.set_errno(errno.EIO)
            return -1

    write(tmp_path / "b", "old")
    monkeypatch.setattr(directories.ctypes, "CDLL", Library)
    with pytest.raises(OSError, match="nput/output error"):
        write(tmp_path / "b", "new")
    assert "old" == (tmp_path / "b" / "file").read_text()


def test_killed_between_the_two_steps(tmp_path, monkeypatch):
    """The old directory is put back by the next one who looks for it."""
    write(tmp_path / "b", "old")
    (tmp_path / "b").rename(tmp_path / ".b.old-0123abcd")
    (tmp_path / ".b.new-0123abcd").mkdir()
    assert recover(tmp_path / "b")
    assert "old" == (tmp_path / "b" / "file").read_text()
    assert not recover(tmp_path / "b")


def test_put_back_by_a_reader_in_between(tmp_path, monkeypatch):
    """A reader that recovers the old directory at the worst moment does not stop the writer."""
    monkeypatch.setattr(directories, "_exchanged", lambda first, second: False)
    write(tmp_path / "b", "old")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "file").write_text("new")
    real, disturbed = os.rename, []

    def rename(source, target):
        real(source, target)
        if ".b.old-" in str(target) and not disturbed:
            disturbed.append(recover(tmp_path / "b"))

    monkeypatch.setattr(os, "rename", rename)
    put_in_place(tmp_path / "new", tmp_path / "b", overwrite=True)
    assert [True] == disturbed
    assert "new" == (tmp_path / "b" / "file").read_text()
    assert "old" == (tmp_path / "new" / "file").read_text()


def test_leftovers_of_the_dead_are_removed(tmp_path, builder):
    """What a killed process was building is removed by the next one that writes to the same place."""
    process, making = builder
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (tmp_path / ".other.new-0123abcd").mkdir()
    (tmp_path / ".bundle.new-notes").mkdir()
    assert making.exists()
    write(tmp_path / "bundle", "new")
    assert [".bundle.new-notes", ".other.new-0123abcd", "bundle"] == names(tmp_path)


def test_the_living_are_left_alone(tmp_path, builder):
    """What a living process is building stays there."""
    _, making = builder
    write(tmp_path / "bundle", "new")
    assert "half" == (making / "half").read_text()


def test_an_old_one_beside_the_new_one_is_removed(tmp_path):
    """A process killed after it had put the new one in place leaves the old one, which the next one removes."""
    write(tmp_path / "b", "new")
    (tmp_path / ".b.old-0123abcd").mkdir()
    write(tmp_path / "b", "newer")
    assert ["b"] == names(tmp_path)


def test_a_place_that_is_never_free(tmp_path, monkeypatch):
    """Where other processes come in between every time, it is an error in the end, not a silent success."""
    (tmp_path / "new").mkdir()
    write(tmp_path / "b", "old")
    monkeypatch.setattr(directories, "_exchanged", lambda first, second: False)
    monkeypatch.setattr(directories, "_put_in_two_steps", lambda new, place: False)
    with pytest.raises(OSError, match="not empty"):
        directories.put_in_place(tmp_path / "new", tmp_path / "b", overwrite=True)
    assert "old" == (tmp_path / "b" / "file").read_text()


def test_places_that_are_relative(tmp_path, monkeypatch, way):
    """A place is taken from the current folder."""
    monkeypatch.chdir(tmp_path)
    write(Path("b"), "old")
    write(Path("b"), "new")
    assert "new" == (tmp_path / "b" / "file").read_text()
    assert ["b"] == names(tmp_path)


@pytest.mark.parametrize("removed", [True, False])
def test_taken_for_a_leftover_before_it_was_locked(tmp_path, monkeypatch, removed):
    """A directory that another process has locked, or removed already, is not built in: another one is made."""
    real, tried = directories._locked, []

    def locked(descriptor):
        if not tried:
            tried.extend(tmp_path.iterdir())
            if removed:
                tried[0].rmdir()
            return removed
        return real(descriptor)

    monkeypatch.setattr(directories, "_locked", locked)
    with new_directory(tmp_path / "b", overwrite=False) as making:
        assert making not in tried
        (making / "file").write_text("new")
    assert "new" == (tmp_path / "b" / "file").read_text()
