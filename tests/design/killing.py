"""Kill a process at a chosen one of the operations by which it changes files, as Ctrl-C or a power cut might."""

import builtins
import io
import os
import sys
import warnings

_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink", "ctypes.dlsym"}
_WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class _Counter:
    """Counts operations, and ends the process without any further step before the one of that number."""

    def __init__(self, number):
        self._number, self._count = number, 0

    def step(self):
        self._count += 1
        if self._count == self._number:
            os._exit(9)


def _install(counter):
    """Count everything in this process that changes a file or a directory; files are written in two halves."""

    def audit(event, args):
        if event in _CHANGES or (event == "open" and isinstance(args[2], int) and args[2] & _WRITE_FLAGS):
            counter.step()

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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of threads, of which the libraries keep some that sleep
        child = os.fork()
    if child == 0:
        code = 1
        try:
            _install(_Counter(number))
            work()
            code = 0
        except BaseException as error:  # noqa: BLE001 - the child must not go on with the parent's test
            real = getattr(error, "__cause__", None)
            sys.__stderr__.write(f"the child failed: {type(error).__name__}: {error} ({real})\n")
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, 9), f"the child ended with {code}"
    return code == 9
