"""Measuring a link against a real server; and what a server lets a probe do."""

import json
import subprocess
import sys

import grpc
import pytest

import isplit as package
from isplit.errors import InputError, ServerError
from isplit.records import LinkRecord
from isplit.runtime.edge import probe as probing
from isplit.runtime.edge.probe import ProbeSettings, _loss, _steady_bits_per_s, probe
from isplit.runtime.link import open_link
from isplit.runtime.names import MAX_PROBE_BYTES, PROBE_METHOD
from isplit.runtime.served import served
from isplit.runtime.server.probe import ALLOWED_BYTES_PER_S, Probe

TOKEN = "0123456789abcdef0123456789abcdef"
QUICK = ProbeSettings(round_trips=3, seconds=0.2, max_bytes=200_000)


def test_a_link_is_measured(tiny):
    """On loopback the rates are of megabits, the round trip is short, and the limit of bytes is kept."""
    with package.serving(tiny.bundle) as server:
        record = probe(f"127.0.0.1:{server.port}", name="here", settings=QUICK)

    assert ("here", "measured") == (record.name, record.source)
    assert record.up_bits_per_s > 1e6
    assert record.down_bits_per_s > 1e6
    assert 0 < record.rtt_ms < 100
    assert record.probe.up_bytes <= 200_000
    assert record.probe.down_bytes <= 200_000
    assert LinkRecord.from_json(record.to_json()) == record


def test_a_slow_link(tiny):
    """Over a link of 2 Mbit/s between two network namespaces, both rates are within a tenth of it."""
    with open_link(rate_bits_per_s=2_000_000) as link:
        if link.rate_bits_per_s is None:
            pytest.skip(f"no slow link can be made here: {link.reason}")
        with served(tiny.directory, host=link.host) as address:
            command = [*link.prefix, sys.executable, "-m", "isplit", "probe", address, "--json", "-o", "/dev/null"]
            done = subprocess.run([*command, "--seconds", "3"], capture_output=True, text=True, check=False)

    assert 0 == done.returncode, done.stderr
    record = json.loads(done.stdout)
    assert pytest.approx(2e6, rel=0.1) == record["up_bits_per_s"]
    assert pytest.approx(2e6, rel=0.1) == record["down_bits_per_s"]


def test_the_token_is_needed(tiny):
    """A server with a token refuses a probe without it, in words, and takes one with it."""
    with package.serving(tiny.bundle, token=TOKEN) as server:
        address = f"127.0.0.1:{server.port}"
        with pytest.raises(ServerError, match="give the token"):
            probe(address, settings=QUICK)
        assert probe(address, token=TOKEN, settings=QUICK).up_bits_per_s > 0


def test_nobody_answers():
    """A port where nothing listens is bad input, and so is no address, or a socket of this machine."""
    with pytest.raises(
        ServerError, match="measured: UNAVAILABLE: cannot connect: Connection refused; is `isplit serve`"
    ):
        probe("127.0.0.1:1", settings=QUICK)
    with pytest.raises(InputError, match="give HOST:PORT"):
        probe("nowhere", settings=QUICK)
    with pytest.raises(InputError, match="no link"):
        probe("unix:probe.sock", settings=QUICK)


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (b"\0\0", "INVALID_ARGUMENT"),
        ((MAX_PROBE_BYTES + 1).to_bytes(4, "big"), "INVALID_ARGUMENT"),
        (b"\xff\xff\xff\xff", "INVALID_ARGUMENT"),
        (bytes(MAX_PROBE_BYTES + 1), "RESOURCE_EXHAUSTED"),
    ],
)
def test_hostile_probes(tiny, message, status):
    """A probe that is cut short, or asks for more than the limit in either direction, is refused."""
    with (
        package.serving(tiny.bundle) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        pytest.raises(grpc.RpcError) as refusal,
    ):
        channel.unary_unary(PROBE_METHOD)(message, timeout=10)
    assert status == refusal.value.code().name


def test_allowance():
    """All probes together may move so many bytes, and more after a second."""
    now = {"s": 0.0}
    method = Probe(clock=lambda: now["s"])
    method._spend(ALLOWED_BYTES_PER_S)
    with pytest.raises(Exception, match="allowance"):
        method._spend(1)
    now["s"] = 0.5
    method._spend(ALLOWED_BYTES_PER_S // 2)
    with pytest.raises(Exception, match="allowance"):
        method._spend(ALLOWED_BYTES_PER_S // 4)


def test_rate_by_hand():
    """Messages that arrive every 10 ms after a slow start count by their bytes and times, headers included."""
    slow = [(0.5, 930)]
    steady = [(0.5 + 0.01 * number, 930) for number in range(1, 101)]

    rate = _steady_bits_per_s(slow + steady, begun_s=0.0)

    assert pytest.approx(8 * 1000 / 0.01 * 1500 / 1448, rel=0.02) == rate


def test_loss_by_hand():
    """Three segments of a hundred that were sent again are 3 %, and the words say that they were counted."""
    share, words = _loss(
        {"OutSegs": 10, "RetransSegs": 1}, {"OutSegs": 110, "RetransSegs": 4}, lost_connections=0, round_trips=20
    )
    assert pytest.approx(0.03) == share
    assert "sent again" in words
    assert pytest.approx(0.05) == _loss(None, None, lost_connections=2, round_trips=20)[0]


@pytest.mark.parametrize("values", [{"round_trips": 0}, {"seconds": 0.0}, {"max_bytes": 1}])
def test_impossible_settings(values):
    """Settings that cannot be are refused."""
    with pytest.raises(InputError):
        ProbeSettings(**values)


@pytest.mark.parametrize(
    "server", ["", "localhost", "localhost:0", "localhost:70000", "localhost:-1", "::1:8001", "[::1]", "http://a:80"]
)
def test_addresses_that_are_none(isplit, tmp_path, server):
    """Port 0, ports beyond 65535, IPv6 without brackets and URLs are bad input, and the message shows an address."""
    result = isplit("probe", server, "-o", tmp_path / "link.json")
    assert (2, "") == (result.code, result.out)
    assert "give HOST:PORT, for example 192.168.1.20:8001 or [fd00::20]:8001" in result.err


def test_nothing_is_measured_for_a_file_that_cannot_be_written(isplit, tmp_path):
    """The path of the record is checked before the server is asked."""
    result = isplit("probe", "127.0.0.1:1", "-o", tmp_path)
    assert 2 == result.code
    assert "--out is" in result.err


def test_command_and_plan(isplit, tiny, tmp_path):
    """The command writes a link and says it in words; a server that is not there is exit 2."""
    with package.serving(tiny.bundle) as server:
        options = ("--seconds", "0.2", "--max-bytes", 200_000)
        result = isplit("probe", f"127.0.0.1:{server.port}", "-o", tmp_path / "link.json", *options)

    assert 0 == result.code, result.err
    assert "round trip" in result.out
    assert "measured" == json.loads((tmp_path / "link.json").read_text())["source"]
    assert 2 == isplit("probe", "127.0.0.1:1", "-o", tmp_path / "no.json").code


def test_usual_settings():
    """Without options 20 connections are timed, and bytes are sent for 4 s in either direction, 16 MiB at most."""
    assert (20, 4.0, 16_777_216) == (*vars(ProbeSettings()).values(),)


@pytest.mark.parametrize(
    ("name", "taken", "refused"),
    [
        ("round_trips", (1, 1000), (0, 1001)),
        ("seconds", (0.001, 600), (0, -1, 600.1)),
        ("max_bytes", (10_000, 2**32), (9_999, 2**32 + 1)),
    ],
)
def test_limits_of_settings(name, taken, refused):
    """From one connection to a thousand, up to ten minutes, from 10,000 bytes to 4 GiB."""
    for value in taken:
        assert value == getattr(ProbeSettings(**{name: value}), name)
    for value in refused:
        with pytest.raises(InputError, match=name):
            ProbeSettings(**{name: value})


def test_a_port_that_is_silent_is_given_up(monkeypatch):
    """The time that a connection may take to open is 30 s; the error says that it was too long."""
    asked = []

    def never(address, timeout):
        asked.append((address, timeout))
        raise TimeoutError("timed out")

    monkeypatch.setattr(probing.socket, "create_connection", never)
    with pytest.raises(ServerError, match="the link to host:1 cannot be measured: timed out"):
        probing._round_trips("host:1", 3)
    assert [(("host", 1), 30.0)] == asked
