"""Addresses to listen on, and connections that wait to be served."""

import socket

import pytest

from isplit.errors import InputError


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_hosts(start_front, host):
    """Every address of a host is listened on, at one port."""
    front = start_front()

    async def bind():
        from isplit.runtime.server.front.listener import Listener

        listener = Listener(front.hub, None)
        port = listener.bind(host, 0)
        listener.start()
        addresses = {info[4][0] for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
        return listener, port, addresses

    listener, port, addresses = front.run(bind())
    for address in addresses:
        socket.create_connection((address, port), timeout=10).close()
    front.run(listener.close())


@pytest.mark.parametrize(("host", "port"), [("no.such.host.invalid", 0), ("127.0.0.1", 70000), ("192.0.2.1", 0)])
def test_unusable(start_front, host, port):
    """A host that is unknown or not ours, and a port that there is not, are refused by name."""
    front = start_front()
    with pytest.raises(InputError, match=f"cannot listen on {host}"):
        front.look(lambda hub: front.listener.bind(host, port))


def test_port_taken(start_front):
    """A port that somebody listens on is refused."""
    front = start_front()
    with pytest.raises(InputError, match="is the port taken"):
        front.look(lambda hub: type(front.listener)(hub, None).bind("127.0.0.1", front.port))
