"""Signals arrive while a model computes in the event loop's own thread."""

import asyncio
import os
import signal
import subprocess
import sys
import threading

import pytest

from isplit.runtime.server.signals import heard

LIMIT_S = 60
PROGRAM = """
import asyncio, os, signal, sys, threading, time
from isplit.runtime.server.signals import heard

async def main():
    with heard(reload=True) as signals:
        print("ready", flush=True)
        if sys.argv[1] == "busy":
            threading.Thread(target=lambda: (sys.stdin.read(), os._exit(7)), daemon=True).start()
            time.sleep(600)
        if sys.argv[1] == "leave":
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
            return
        await signals.reload.wait()
        print("reload", flush=True)
        await signals.stop.wait()
        print("stop", flush=True)
        await signals.stop_at_once.wait()
        print("at once", flush=True)

asyncio.run(main())
"""


@pytest.fixture
def start():
    """Start a process that hears of signals, or is too busy to."""
    processes = []

    def start_process(argument):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, argument],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert "ready\n" == process.stdout.readline()
        return process

    yield start_process
    for process in processes:
        process.kill()
        process.communicate()


def test_each_signal_is_heard(start):
    """SIGHUP asks for a reload, the first SIGTERM or SIGINT for the end, and the second for an end at once."""
    process = start("idle")
    for number, event in ((signal.SIGHUP, "reload"), (signal.SIGINT, "stop"), (signal.SIGTERM, "at once")):
        process.send_signal(number)
        assert event + "\n" == process.stdout.readline()
    assert 0 == process.wait(LIMIT_S)


def test_second_signal_ends_a_computation(start):
    """While the event loop computes something, a second signal ends the process with exit code 1, and it says so."""
    process = start("busy")
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    assert 1 == process.wait(LIMIT_S)
    assert "isplit: stopped by a second signal before a computation had ended\n" == process.stderr.read()


def test_second_signal_while_the_block_ends(start):
    """A second signal that arrives when the server has just ended does not turn its exit code into 1."""
    process = start("leave")
    assert 0 == process.wait(LIMIT_S)
    assert "" == process.stderr.read()


def test_one_signal_does_not_end_a_computation(start):
    """A single signal waits until the computation has ended."""
    process = start("busy")
    process.send_signal(signal.SIGTERM)
    process.stdin.close()  # what ends the computation of its own accord, with another exit code
    process.stdin = None
    assert 7 == process.wait(LIMIT_S)


def test_handlers_are_restored():
    """Afterwards signals mean what they meant before, and no thread is left."""
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]

    async def run():
        with heard() as signals:
            os.kill(os.getpid(), signal.SIGTERM)
            await signals.stop.wait()
        return signal.getsignal(signal.SIGHUP)

    assert before[2] == asyncio.run(run())
    assert before == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    assert "isplit-signals" not in [thread.name for thread in threading.enumerate()]
