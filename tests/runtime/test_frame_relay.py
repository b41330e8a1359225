"""The link of `open_link` as packets see it: rate, delay and loss of a relay between namespaces."""

import subprocess
import sys
import time

import pytest

from isplit.runtime.link import open_link

# Sends `count` datagrams of `size` bytes, one at a time, each after the answer to the one before or a timeout.
ECHO_CLIENT = """
import socket, statistics, sys, time
host, port, count, size = sys.argv[1], *map(int, sys.argv[2:])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(0.4)
times, lost = [], 0
for _ in range(count):
    start = time.monotonic()
    s.sendto(bytes(size), (host, port))
    try:
        s.recv(65536)
        times.append(time.monotonic() - start)
    except TimeoutError:
        lost += 1
print(statistics.median(times) if times else -1, lost)
"""


def echoed(link, *, count, size):
    """Return the median round trip in seconds, and how many datagrams were lost, of an echo server on this side."""
    import socket
    import threading

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((link.host, 0))
        server.settimeout(20)

        def echo():
            while True:
                try:
                    _, address = server.recvfrom(65536)
                    server.sendto(b"x", address)
                except OSError:
                    return

        thread = threading.Thread(target=echo, daemon=True)
        thread.start()
        arguments = (link.host, server.getsockname()[1], count, size)
        command = [*link.prefix, sys.executable, "-c", ECHO_CLIENT, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    median_s, lost = done.stdout.split()
    return float(median_s), int(lost)


def made(link):
    """Skip where no namespaces can be made."""
    if link.rate_bits_per_s is None:
        pytest.skip(f"no slow link can be made here: {link.reason}")
    return link


def test_a_single_packet_takes_its_bits_and_the_round_trip():
    """1,250 bytes over 1 Mbit/s take 10 ms and more even after a pause, and the round trip of 30 ms on top."""
    with open_link(rate_bits_per_s=1_000_000, rtt_ms=30) as link:
        median_s, lost = echoed(made(link), count=5, size=1250)

    assert 0 == lost
    assert 0.040 < median_s < 0.4


def test_packets_are_lost():
    """Where half of the packets up are lost, some of twenty datagrams are not answered, and some are."""
    with open_link(rate_bits_per_s=10_000_000, loss_up=0.5) as link:
        _, lost = echoed(made(link), count=20, size=100)

    assert 2 < lost < 18


def test_nothing_is_left_behind():
    """After the block, neither its namespaces nor its relay are there any more."""
    with open_link(rate_bits_per_s=1_000_000, rtt_ms=1) as link:
        name = made(link).prefix[3]
    time.sleep(0.1)
    namespaces = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout

    assert name not in namespaces
