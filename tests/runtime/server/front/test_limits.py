"""The usual limits of the front, which docs and the memory that a server needs follow from."""

from dataclasses import asdict

from isplit.runtime.server.front.limits import FrontLimits


def test_usual_limits():
    """Connections, calls, times and rates, as documented in the class."""
    expected = {
        "message_bytes": 10_000_000,
        "max_connections": 1024,
        "max_strangers": 256,
        "max_parked": 4096,
        "max_receiving": 1024,
        "max_streams": 100,
        "lean_turn_calls": 32,
        "max_health_receiving": 64,
        "max_health_streams": 4,
        "receive_seconds": 10.0,
        "stall_seconds": 1.0,
        "min_rate_bytes_per_s": 262_144,
        "send_seconds": 10.0,
        "stranger_seconds": 20.0,
        "stranger_grace_seconds": 0.5,
        "stranger_turn_seconds": 2.0,
        "stranger_time_share": 0.2,
    }
    assert expected == asdict(FrontLimits(message_bytes=10_000_000))


def test_memory_of_messages():
    """Short messages may take 6 MiB together and 1 MiB a connection, middle ones 6 and 4; one long one at a time."""
    limits = FrontLimits(message_bytes=10_000_000)
    assert [(6_291_456, 1_048_576), (6_291_456, 4_194_304), (10_000_000, 10_000_000)] == [
        (share.total_bytes, share.connection_bytes) for share in limits.shares()
    ]
    assert 22_582_912 == limits.max_message_memory
    assert [1_048_576, 1_048_577] == [share.message_bytes for share in FrontLimits(message_bytes=1).shares()[1:]]
