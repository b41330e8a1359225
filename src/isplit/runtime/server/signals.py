"""Hear of signals even while the event loop computes something and cannot look."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

_STOP = (signal.SIGTERM, signal.SIGINT)
_HEARD_S = 2.0
"""Seconds that the event loop has to hear of the second signal."""
_POLL_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Signals:
    """What was asked for: to stop, to stop at once, and to read files again (cleared by its reader)."""

    stop: asyncio.Event
    stop_at_once: asyncio.Event
    reload: asyncio.Event


@contextmanager
def heard(*, reload: bool = False) -> Generator[Signals]:
    """Set events when SIGTERM, SIGINT and, with `reload`, SIGHUP arrive while the block runs in the main thread's loop.

    Python runs its own handlers, and asyncio's, only between two steps of the main thread. A model that computes there
    for long, or for ever, would keep them waiting. Here, a thread reads the numbers of the signals that Python writes
    into a socket when they arrive. It ends the process with exit code 1 if the event loop has not heard of the second
    signal to stop within two seconds.
    """
    loop = asyncio.get_running_loop()
    signals = Signals(stop=asyncio.Event(), stop_at_once=asyncio.Event(), reload=asyncio.Event())
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    over = threading.Event()
    thread = threading.Thread(target=_listen, args=(reading, signals, loop, over), name="isplit-signals", daemon=True)
    numbers = (*_STOP, signal.SIGHUP) if reload else _STOP
    before = {number: signal.signal(number, _ignore) or signal.SIG_DFL for number in numbers}
    fd_before = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    thread.start()
    try:
        yield signals
    finally:
        signal.set_wakeup_fd(fd_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        # The loop's thread waits below, so it cannot hear any more: that must not look like a computation.
        over.set()
        writing.close()
        thread.join()
        reading.close()


def _ignore(number: int, frame: object) -> None:
    """Stand in the place of a handler: without one, no number is written."""


def _listen(reading: socket.socket, signals: Signals, loop: asyncio.AbstractEventLoop, over: threading.Event) -> None:
    stops = 0
    while numbers := reading.recv(64):
        for number in numbers:
            if number == signal.SIGHUP:
                _call(loop, signals.reload.set)
            elif number in _STOP:
                stops += 1
                _call(loop, signals.stop.set if stops == 1 else signals.stop_at_once.set)
                if stops > 1:
                    _end_unless_heard(loop, over)


def _end_unless_heard(loop: asyncio.AbstractEventLoop, over: threading.Event) -> None:
    """End the process if the event loop does nothing for two seconds, unless the block is over meanwhile."""
    is_heard = threading.Event()
    _call(loop, is_heard.set)
    ends_s = time.monotonic() + _HEARD_S
    while loop.is_running() and not (over.is_set() or is_heard.wait(_POLL_S)):
        if time.monotonic() < ends_s:
            continue
        with contextlib.suppress(OSError):
            sys.stderr.write("isplit: stopped by a second signal before a computation had ended\n")
            sys.stderr.flush()
        os._exit(1)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has been closed
        loop.call_soon_threadsafe(function)
