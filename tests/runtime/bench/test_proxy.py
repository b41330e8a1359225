"""isplit.runtime.bench.proxy: bytes are counted, and a slow link takes its time."""

import socket
import threading
import time

from isplit.runtime.bench.proxy import ProxyShape, proxied


def test_the_proxy_keeps_the_rate():
    """A message of 25 kB over 1 Mbit/s takes at least its 200 ms, with half the round trip on top."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        received: list[float] = []

        def take():
            connection, _ = listening.accept()
            with connection:
                left = 25_000
                while left and (content := connection.recv(65536)):
                    left -= len(content)
                received.append(time.monotonic())

        thread = threading.Thread(target=take)
        thread.start()
        shape = ProxyShape(up_bits_per_s=1e6, rtt_ms=40)
        with proxied(f"127.0.0.1:{listening.getsockname()[1]}", shape) as (address, counted):
            begun_s = time.monotonic()
            with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as connection:
                connection.sendall(bytes(25_000))
                thread.join(10)
        assert 25_000 == counted.up_bytes
    assert received[0] - begun_s > 0.22
