"""Set limits of the process: heaps of the C library, and open files."""

import ctypes
import resource

_M_ARENA_MAX, _M_MMAP_THRESHOLD = -8, -3
_ARENAS = 1
_LARGE_BYTES = 2**17


def bound_arenas() -> bool:
    """Let glibc use one heap for all threads instead of eight for each processor; return whether it does.

    Requests are freed by other threads than those that allocated them, so that every heap grows to the largest need: a
    million requests took a server from 120 to 140 MiB. Heaps that exist already stay.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return bool(mallopt and mallopt(_M_ARENA_MAX, _ARENAS))


def release_freed() -> None:
    """Give memory that was freed back to the system, where the C library is glibc; it would keep most of it.

    Segments of a model that run one after the other would otherwise take as much as two of them: one image through
    VGG16 peaked at 583 MB instead of 480.
    """
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


def map_large_blocks() -> bool:
    """Let glibc ask the system for every block of 128 KiB and more by itself; return whether it does.

    Such a block is given back when it is freed. By default, glibc raises the limit to the largest block that was freed
    (up to 32 MiB) and keeps blocks below it. VGG16's convolutions take 137 MB by default, and 125 MB after this call.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return bool(mallopt and mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES))


def allow_files(count: int) -> int:
    """Raise the limit of open files and sockets to `count`, or as far as the system allows; return the limit.

    Many systems start a process with a limit of 1,024, which the connections of one peer would use up.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= count:
        return soft
    allowed = count if hard == resource.RLIM_INFINITY else min(count, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed
