"""What the process may take from the system: heaps of the C library, and sockets."""

import ctypes
import resource

_M_ARENA_MAX = -8
_ARENAS = 1


def bound_arenas() -> bool:
    """Let glibc keep one heap for all threads, not eight for each processor; return whether it does.

    Requests are freed by other threads than made them, so that every heap grows to what the largest needed: a million
    requests took a server from 120 to 140 MiB. Heaps that are there stay.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return bool(mallopt and mallopt(_M_ARENA_MAX, _ARENAS))


def allow_files(count: int) -> int:
    """Let the process open `count` files and sockets, or as many as the system allows it; return how many.

    Many systems start a process with 1,024, which one peer's connections use up.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= count:
        return soft
    allowed = count if hard == resource.RLIM_INFINITY else min(count, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed
