"""Addresses to listen on, and connections that wait to be served."""

import socket

import pytest

from isplit.errors import InputError
from isplit.runtime.server.front.strangers import LITTLE_S


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


def test_nothing_is_left_of_a_closed_listener(start_front):
    """The event loop no longer watches its sockets, whose numbers others may get."""
    front = start_front()

    async def close():
        from isplit.runtime.server.front.listener import Listener

        listener = Listener(front.hub, None)
        listener.bind("127.0.0.1", 0)
        listener.start()
        numbers = [listening.fileno() for listening in listener._sockets]
        await listener.close()
        return [front.loop.remove_reader(number) for number in numbers]

    assert [False] == front.run(close())


def test_order_of_waiting_connections(start_front):
    """Of the connections that wait, the newest of the address that has cost least is served first, whenever it came."""
    front = start_front(token=None)
    first_bytes = []

    def wait_for_turns(hub):
        # What strangers may use is used up, so that both connections wait for their turn.
        for rank, seconds in enumerate((0.3, 1.0, 0.06)):
            hub.strangers.spend(seconds, rank=rank)
        hub.debts.of("127.0.0.2").cost(1.0, now=hub.now())
        opened = hub.opened
        hub.opened = lambda channel: (first_bytes.append(channel.peer), opened(channel))

    front.look(wait_for_turns)
    clients = [
        socket.create_connection(("127.0.0.1", front.port), timeout=10, source_address=(source, 0))
        for source in ("127.0.0.2", "127.0.0.1", "127.0.0.3")
    ]
    for client in clients:
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")  # the server says nothing before
        assert client.recv(9)
        client.close()
    assert ["127.0.0.3", "127.0.0.1", "127.0.0.2"] == first_bytes


def test_many_turns_leave_the_listener_cheap(start_front, connect):
    """What earlier connections took does not put later ones behind strangers that cost much."""
    front = start_front()
    front.listener.spent_s = 1e6  # as after weeks
    assert "0" == connect(front.port).ask().status
    assert front.listener.spent_s < 2 * LITTLE_S


def test_one_poll_for_room(start_front, http2):
    """While there is no room, it is looked for once in a while, however many connections come meanwhile."""
    front = start_front(max_strangers=1)
    polls = []

    def refuse_room(hub):
        hub.make_room = lambda rank: polls.append(rank)
        call_later = front.loop.call_later
        front.loop.call_later = lambda delay, function, *arguments: (
            timers.append(function) if function == front.listener._poll else call_later(delay, function, *arguments)
        )

    timers = []
    front.look(refuse_room)
    clients = []
    for number in range(1, 4):
        clients.append(socket.create_connection(("127.0.0.1", front.port), timeout=10))
        http2.until(lambda number=number: number == len(polls))
    assert 1 == len(timers)
    for client in clients:
        client.close()
