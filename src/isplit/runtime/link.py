"""Make a link of a given speed on this machine, from network namespaces joined by virtual devices.

    this namespace (server) ─ tbf ─ veth ─ a namespace with the relay ─ veth ─ tbf ─ a namespace of its own (device)

The kernel (tbf) limits the rate and the queue. A process of isplit between the two (`isplit.runtime.frame_relay`) adds
the delay, the loss and the transmission time of the first packets, because not every kernel has netem. A process
inside the device's namespace reaches this machine only over that link. This needs Linux, iproute2 and the permission
to make namespaces (root, or CAP_NET_ADMIN and CAP_SYS_ADMIN).
"""

import os
import secrets
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

# A little more than one frame, or the bytes that the rate brings within a tick of the kernel's clock.
_BURST_BYTES = 1_600
_TICKS_PER_S = 250
_QUEUE_MS = 400
_TIMEOUT_S = 20


@dataclass(frozen=True, kw_only=True)
class Link:
    """The address on which a server has to listen, and the prefix of commands that run on the other side.

    `rate_bits_per_s` is None on loopback, where nothing limits the rate; `reason` then says why.
    """

    host: str
    prefix: tuple[str, ...] = ()
    rate_bits_per_s: int | None = None
    reason: str | None = None


@contextmanager
def open_link(
    *,
    rate_bits_per_s: int,
    down_bits_per_s: int | None = None,
    rtt_ms: float = 0.0,
    loss_up: float = 0.0,
    loss_down: float = 0.0,
) -> Generator[Link]:
    """Make a link while the block runs; if none can be made, yield loopback with the reason.

    Args:
        rate_bits_per_s: The rate from the device to the server, of IP packets with their Ethernet headers.
        down_bits_per_s: The rate back; None for the same.
        rtt_ms: The round trip of a small packet, half of it in each direction.
        loss_up: The share of packets lost from the device to the server.
        loss_down: The share of packets lost on the way back.

    """
    name = f"isplit-{secrets.token_hex(3)}"
    down = rate_bits_per_s if down_bits_per_s is None else down_bits_per_s
    relay: subprocess.Popen[str] | None = None
    try:
        try:
            link = _make(name, rate_bits_per_s, down)
            figures = (rtt_ms / 2, loss_up, loss_down, rate_bits_per_s, down)
            relay = _start_relay(name, *figures)
        except (OSError, subprocess.SubprocessError) as error:
            link = Link(host="127.0.0.1", reason=_words(error))
        yield link
    finally:
        if relay is not None:
            relay.terminate()
            relay.communicate(timeout=_TIMEOUT_S)
        _remove(name)


def _make(name: str, up_bits_per_s: int, down_bits_per_s: int) -> Link:
    here, there = f"{name[-6:]}-h", f"{name[-6:]}-d"
    # A /30 from the network that RFC 2544 reserves for tests of such links; it is unlikely to be in use.
    octets = f"198.18.{secrets.randbelow(256)}.{4 * secrets.randbelow(64)}".rsplit(".", 1)
    server, device = (f"{octets[0]}.{int(octets[1]) + number}" for number in (1, 2))
    inside = ("ip", "netns", "exec", name)
    _run("ip", "netns", "add", name)
    middle = f"{name}-r"
    _run("ip", "netns", "add", middle)
    _run("ip", "link", "add", here, "type", "veth", "peer", "name", "to-server", "netns", middle)
    _run("ip", "-n", middle, "link", "add", "to-device", "type", "veth", "peer", "name", there, "netns", name)
    for interface in ("to-server", "to-device"):
        _run("ip", "-n", middle, "link", "set", interface, "up")
    _run("ip", "address", "add", f"{server}/30", "dev", here)
    _run("ip", "link", "set", here, "up")
    _run(*inside, "ip", "address", "add", f"{device}/30", "dev", there)
    _run(*inside, "ip", "link", "set", there, "up")
    plain = (sys.executable, "-m", "isplit.runtime.frame_relay", "--plain")
    _run(*plain, here)
    _run(*inside, *plain, there)
    _run("tc", "qdisc", "add", "dev", here, *_shape(down_bits_per_s))
    _run(*inside, "tc", "qdisc", "add", "dev", there, *_shape(up_bits_per_s))
    return Link(host=server, prefix=inside, rate_bits_per_s=up_bits_per_s)


def _shape(rate_bits_per_s: int) -> tuple[str, ...]:
    burst = max(_BURST_BYTES, rate_bits_per_s // 8 // _TICKS_PER_S)
    return ("root", "tbf", "rate", f"{rate_bits_per_s}bit", "burst", str(burst), "latency", f"{_QUEUE_MS}ms")


def _start_relay(name: str, *figures: float) -> "subprocess.Popen[str]":
    """Start the process that delays and loses frames; `figures` are its command-line arguments.

    Raises:
        OSError: it did not start.

    """
    command = ("ip", "netns", "exec", f"{name}-r", sys.executable, "-m", "isplit.runtime.frame_relay")
    relay = subprocess.Popen(
        [*command, "to-device", "to-server", *map(str, figures)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(),
    )
    assert relay.stdout is not None
    if relay.stdout.readline().strip() != "relaying":
        _, error = relay.communicate(timeout=_TIMEOUT_S)
        raise OSError(" ".join(error.split())[-300:])
    return relay


def _remove(name: str) -> None:
    """Remove the namespaces; this also removes their devices, including the one on this side."""
    for namespace in (name, f"{name}-r"):
        with suppress(OSError, subprocess.SubprocessError):
            _run("ip", "netns", "delete", namespace)
    with suppress(OSError, subprocess.SubprocessError):
        _run("ip", "link", "delete", f"{name[-6:]}-h")


def _run(*command: str) -> None:
    subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        env=_environment(),
    )


def _environment() -> dict[str, str]:
    return {**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"}


def _words(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return f"`{' '.join(error.cmd)}` says: {' '.join(str(error.stderr).split())}"
    if isinstance(error, FileNotFoundError):
        return f"{error.filename} is not installed"
    return str(error)
