"""A slow link on this machine: a network namespace joined by a pair of virtual devices that send at a limited rate.

    this namespace (server) ─ veth ─ tbf ~~~ tbf ─ veth ─ a namespace of its own (device)

What runs inside the namespace reaches this machine only over that link. It takes Linux, iproute2 and the right to make
namespaces (root, or CAP_NET_ADMIN and CAP_SYS_ADMIN).
"""

import os
import secrets
import subprocess
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

# A frame and a little, or what the rate brings within a tick of the kernel's clock.
_BURST_BYTES = 1_600
_TICKS_PER_S = 250
_QUEUE_MS = 400
_TIMEOUT_S = 20


@dataclass(frozen=True, kw_only=True)
class Link:
    """Where a server has to listen, and what a command line has to begin with to run on the other side.

    `rate_bits_per_s` is None on loopback, where nothing limits the rate; `reason` then says why.
    """

    host: str
    prefix: tuple[str, ...] = ()
    rate_bits_per_s: int | None = None
    reason: str | None = None


@contextmanager
def open_link(*, rate_bits_per_s: int) -> Generator[Link]:
    """Make a link of that rate in both directions for the length of the block; loopback where that is not possible."""
    name = f"isplit-{secrets.token_hex(3)}"
    try:
        link = _make(name, rate_bits_per_s)
    except (OSError, subprocess.SubprocessError) as error:
        _remove(name)
        yield Link(host="127.0.0.1", reason=_words(error))
        return
    try:
        yield link
    finally:
        _remove(name)


def _make(name: str, rate_bits_per_s: int) -> Link:
    here, there = f"{name[-6:]}-h", f"{name[-6:]}-d"
    # Of the network that is set aside for tests of such links (RFC 2544), a /30 that is unlikely to be taken.
    octets = f"198.18.{secrets.randbelow(256)}.{4 * secrets.randbelow(64)}".rsplit(".", 1)
    server, device = (f"{octets[0]}.{int(octets[1]) + number}" for number in (1, 2))
    inside = ("ip", "netns", "exec", name)
    _run("ip", "netns", "add", name)
    _run("ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
    _run("ip", "address", "add", f"{server}/30", "dev", here)
    _run("ip", "link", "set", here, "up")
    _run(*inside, "ip", "address", "add", f"{device}/30", "dev", there)
    _run(*inside, "ip", "link", "set", there, "up")
    burst = max(_BURST_BYTES, rate_bits_per_s // 8 // _TICKS_PER_S)
    shape = ("root", "tbf", "rate", f"{rate_bits_per_s}bit", "burst", str(burst), "latency", f"{_QUEUE_MS}ms")
    _run("tc", "qdisc", "add", "dev", here, *shape)
    _run(*inside, "tc", "qdisc", "add", "dev", there, *shape)
    return Link(host=server, prefix=inside, rate_bits_per_s=rate_bits_per_s)


def _remove(name: str) -> None:
    """Remove the namespace; its device, and with it the one on this side, goes too."""
    with suppress(OSError, subprocess.SubprocessError):
        _run("ip", "netns", "delete", name)
    with suppress(OSError, subprocess.SubprocessError):
        _run("ip", "link", "delete", f"{name[-6:]}-h")


def _run(*command: str) -> None:
    subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        env={**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"},
    )


def _words(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return f"`{' '.join(error.cmd)}` says: {' '.join(str(error.stderr).split())}"
    if isinstance(error, FileNotFoundError):
        return f"{error.filename} is not installed"
    return str(error)
