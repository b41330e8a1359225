"""The link of `open_link` as packets see it: rate, delay and loss of a relay between namespaces."""

import socket
import subprocess
import sys
import threading

import pytest

from isplit.runtime.link import open_link

LIMIT_S = 60

# Sends `count` datagrams of `size` bytes, each after the answer to the one before; prints the shortest round trip.
ECHO_CLIENT = """
import socket, sys, time
host, port, count, size = sys.argv[1], *map(int, sys.argv[2:])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(30)
times = []
for _ in range(count):
    start = time.monotonic()
    s.sendto(bytes(size), (host, port))
    s.recv(65536)
    times.append(time.monotonic() - start)
print(min(times))
"""

# Sends datagrams "y" until one is answered, because the first also need the other side's hardware address. Then sends
# `count` "x" at once, and "z" until one is answered: as a link keeps the order, all answers to "x" have come before.
# Prints how many "x" were answered.
LOSS_CLIENT = """
import socket, sys
host, port, count, size = sys.argv[1], *map(int, sys.argv[2:])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(0.1)
answers = b""

def send_until_answered(letter):
    global answers
    while letter not in answers:
        s.sendto(letter, (host, port))
        try:
            while letter not in answers:
                answers += s.recv(65536)
        except TimeoutError:
            pass

send_until_answered(b"y")
for _ in range(count):
    s.sendto(b"x" * size, (host, port))
send_until_answered(b"z")
print(answers.count(b"x"))
"""


def echoed(link, client, *, count, size):
    """Return the number that a client prints; a server on this side answers each datagram with its first byte."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((link.host, 0))
        server.settimeout(LIMIT_S)

        def echo():
            while True:
                try:
                    content, address = server.recvfrom(65536)
                    server.sendto(content[:1], address)
                except OSError:
                    return

        thread = threading.Thread(target=echo, daemon=True)
        thread.start()
        arguments = (link.host, server.getsockname()[1], count, size)
        command = [*link.prefix, sys.executable, "-c", client, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT_S)
    return float(done.stdout)


def made(link):
    """Skip where no namespaces can be made."""
    if link.rate_bits_per_s is None:
        pytest.skip(f"no slow link can be made here: {link.reason}")
    return link


def test_a_single_packet_takes_its_bits_and_the_round_trip():
    """1,250 bytes over 1 Mbit/s take 10 ms and more even after a pause, and the round trip of 30 ms on top."""
    with open_link(rate_bits_per_s=1_000_000, rtt_ms=30) as link:
        shortest_s = echoed(made(link), ECHO_CLIENT, count=5, size=1250)

    assert shortest_s > 0.040


def test_packets_are_lost():
    """Where half of the packets up are lost, about half of a hundred datagrams are answered."""
    with open_link(rate_bits_per_s=10_000_000, loss_up=0.5) as link:
        answered = echoed(made(link), LOSS_CLIENT, count=100, size=100)

    assert 20 < answered < 80


def test_nothing_is_left_behind():
    """After the block, neither its namespaces nor its relay are there any more."""
    with open_link(rate_bits_per_s=1_000_000, rtt_ms=1) as link:
        name = made(link).prefix[3]
    namespaces = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout

    assert name not in namespaces
