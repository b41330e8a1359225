"""Kill a process, or let the disk be full, at a chosen one of the operations by which it changes files."""

import builtins
import errno
import io
import os
import sys
import warnings

_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink", "ctypes.dlsym"}
_FREE = {"os.remove", "os.rmdir", "os.truncate", "ctypes.dlsym"}
_WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class _Counter:
    """Counts operations, and ends the process without any further step before the one of that number."""

    def __init__(self, number):
        self._number, self._count = number, 0

    def step(self, event="write"):
        self._count += 1
        if self._count == self._number:
            os._exit(9)


class _FullDisk:
    """Counts the operations that take room, and refuses them from the one of that number on."""

    def __init__(self, number):
        self._left = number - 1
        self.refused = False

    def step(self, event="write"):
        if event in _FREE:
            return
        self._left -= 1
        if self._left < 0:
            self.refused = True
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _install(counter):
    """Count everything in this process that changes a file or a directory; files are written in two halves."""

    def audit(event, args):
        if event in _CHANGES or (event == "open" and isinstance(args[2], int) and args[2] & _WRITE_FLAGS):
            counter.step(event)

    real_open, real_fsync, real_write = io.open, os.fsync, os.write

    def counted_open(file, mode="r", *args, **kwargs):
        opened = real_open(file, mode, *args, **kwargs)
        if "b" in mode and set("wxa+") & set(mode):
            write = opened.write

            def write_in_halves(content):
                content = memoryview(content).cast("B")
                write(content[: len(content) // 2])
                opened.flush()
                counter.step()
                write(content[len(content) // 2 :])
                opened.flush()
                return len(content)

            opened.write = write_in_halves
        return opened

    def counted_fsync(descriptor):
        counter.step()
        real_fsync(descriptor)

    def counted_write(descriptor, content):
        counter.step()
        return real_write(descriptor, content)

    builtins.open = io.open = counted_open
    os.fsync, os.write = counted_fsync, counted_write
    sys.addaudithook(audit)


def killed_before(number, work):
    """Run `work` in a child process that ends before its change of that number; False if it makes fewer and finishes.

    Raises:
        AssertionError: the child failed otherwise.

    """

    def counted():
        _install(_Counter(number))
        work()
        return 0

    code = _in_child(counted)
    assert code in (0, 9), f"the child ended with {code}"
    return code == 9


def disk_full_from(number, work):
    """Run `work` in a child process whose disk is full from its change of that number on; False if it makes fewer.

    Raises:
        AssertionError: from `work`, or the child failed otherwise.

    """

    def counted():
        disk = _FullDisk(number)
        _install(disk)
        work()
        return 9 if disk.refused else 0

    code = _in_child(counted)
    assert code in (0, 9), f"the child ended with {code}"
    return code == 9


def _in_child(work):
    """Return the exit code of a child process that runs `work` and ends with what it returns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of threads, of which the libraries keep some that sleep
        child = os.fork()
    if child == 0:
        code = 1
        try:
            code = work()
        except BaseException as error:  # noqa: BLE001 - the child must not go on with the parent's test
            real = getattr(error, "__cause__", None)
            sys.__stderr__.write(f"the child failed: {type(error).__name__}: {error} ({real})\n")
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)
