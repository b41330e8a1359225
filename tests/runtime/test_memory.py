"""The bounds on heaps and open files, in processes of their own: they cannot be taken back."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, re, threading
from isplit.runtime.memory import bound_arenas
assert bound_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
barrier = threading.Barrier(8)
def work():
    barrier.wait()
    libc.malloc(ctypes.c_size_t(100_000))
    barrier.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
libc.malloc_stats()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has arenas")
def test_one_heap_for_all_threads() -> None:
    """Eight threads that ask for memory at once share one heap."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)

    assert 1 == done.stderr.count("Arena ")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what was freed")
def test_freed_memory_goes_back() -> None:
    """Memory that was freed below other memory of the heap is given back to the system when it is asked for."""
    program = """
import ctypes
from pathlib import Path
from isplit.runtime.memory import release_freed

def resident_mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
blocks = [libc.malloc(ctypes.c_size_t(100_000)) for _ in range(500)]
for block in blocks:
    ctypes.memset(block, 1, 100_000)
for block in blocks[:-1]:  # the heap ends with the last one, and cannot shrink
    libc.free(block)
before = resident_mib()
release_freed()
print(before - resident_mib() > 40)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "True\n" == done.stdout


@pytest.mark.parametrize(("wanted", "allowed"), [(100, 200), (300, 300), (500, 400)])
def test_open_files(wanted: int, allowed: int) -> None:
    """The limit of open files is raised as far as it must and may be, and never lowered."""
    program = f"""
import resource
from isplit.runtime.memory import allow_files
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 400))
print(allow_files({wanted}), resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert f"{allowed} ({allowed}, 400)\n" == done.stdout
