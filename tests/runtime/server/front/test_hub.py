"""Connections: how many, which of them give way, and how all of them end."""


def test_strangers_give_way(start_front, connect, http2):
    """Beyond their number the oldest stranger is closed; those that made an authorised call stay."""
    front = start_front(max_strangers=3, stranger_grace_seconds=0)
    rightful = connect(front.port)
    assert "0" == rightful.ask().status
    strangers = []
    for number in range(1, 6):
        strangers.append(connect(front.port))
        http2.until(lambda number=number: min(number, 3) == front.look(lambda hub: hub.stranger_count))
        strangers[-1].until(lambda: strangers[-1].http2.remote_settings.max_concurrent_streams == 100)
    for closed in strangers[:2]:
        closed.until(lambda closed=closed: closed.closed)
    assert 2 == front.refusals("strangers")
    assert "0" == rightful.ask().status
    assert "0" == strangers[-1].ask().status


def test_connections_give_way(start_front, connect, http2):
    """Beyond the number of connections the one that was answered longest ago is closed, before any that computes."""
    front = start_front(max_connections=3)
    busy, old, recent = (connect(front.port) for _ in range(3))
    for client in (busy, old, recent):
        assert "0" == client.ask().status
    release = front.hold()
    stream = busy.call()
    busy.send(stream, http2.framed(b"busy"), end_stream=True)
    http2.until(lambda: b"busy" in front.arrived)
    newcomer = connect(front.port)
    old.until(lambda: old.closed)
    release()
    assert "0" == busy.result(stream).status
    for client in (recent, newcomer):
        assert "0" == client.ask().status
    assert 1 == front.refusals("connections")


def test_idle_stranger(start_front, connect):
    """A connection without a call is closed after a while; the metrics say so."""
    front = start_front(stranger_seconds=0.1)
    client = connect(front.port)
    client.until(lambda: client.closed)
    assert 1 == front.refusals("idle_stranger")


def test_without_token(start_front, connect):
    """Without a token set, everybody is answered."""
    assert "0" == connect(start_front(token=None).port).ask(token=None).status


def test_new_token(start_front, connect, http2):
    """A token that is replaced counts from the next call on, on connections that are open, too."""
    front = start_front()
    client = connect(front.port)
    assert "0" == client.ask().status
    front.look(lambda hub: hub.set_token("another-token-of-ours"))
    assert "16" == client.ask().status
    assert "0" == client.ask(token="another-token-of-ours").status


def test_close(start_front, connect, http2):
    """On closing, calls that are computed or still sending end with UNAVAILABLE, and their connections close."""
    front = start_front()
    front.hold()
    client = connect(front.port)
    computing, sending = client.call(), client.call()
    client.send(computing, http2.framed(b"x"), end_stream=True)
    http2.until(lambda: front.arrived and 1 == front.look(lambda hub: hub.receiving.calls))
    front.run(front.hub.close(1.0))
    for stream in (computing, sending):
        outcome = client.result(stream)
        assert ("14", "the server has stopped: ask another") == (outcome.status, outcome.headers["grpc-message"])
    client.until(lambda: client.closed)
    assert 2 == front.refusals("stopped")
